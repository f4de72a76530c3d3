//! Verdict rows, by subject.

mod headers;
mod tcp;
mod udp;
