//! Locality-based fewest connections (`ip_vs_lblc.c`), for caches: a destination's connections go to one server until
//! that has too much to do.
//!
//! Here a destination has a set of one server; the code is [`lblcr`](super::lblcr)'s.
