//! Sessions on a real sshd.

mod agent;
mod commands;
mod keys;
mod known;
mod sshd;
mod stall;
