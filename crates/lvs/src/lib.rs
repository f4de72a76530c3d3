//! What a virtual server is: the model, the ipvsadm language and planning.
//!
//! Pure: no sockets, no clock, no `unsafe`. Everything here takes values and gives values back, so that
//! it can be tested without root and used by the daemon, the commands and a what-if alike.

pub mod ipvsadm;
pub mod model;
pub mod operation;
pub mod plan;
pub mod proc_files;
pub mod sync;
#[cfg(test)]
mod testing;
pub mod view;
