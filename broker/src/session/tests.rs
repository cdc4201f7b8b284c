//! Sessions on a real sshd.

mod agent;
mod commands;
mod keys;
mod known;
pub(crate) mod sshd;
mod stall;
