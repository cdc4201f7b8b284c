//! Sessions on a real sshd.

mod commands;
mod sshd;
