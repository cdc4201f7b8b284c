//! `natssh ssh-config`: the fragment for ssh_config by which stock ssh reaches nodes through natssh.
//!
//! The thinking is pure: `view` says what stock ssh can use of an identity,
//! `plan` which blocks a configuration asks for, `block` how they are written.
//! `command` gathers what they need and prints; `derived` keeps the few files that
//! stock ssh needs and nobody else writes.

mod block;
pub mod command;
pub mod derived;
mod plan;
mod view;

pub use block::{path, quoted};
pub use plan::{NODE_PORT, SHA1_AUTHORITY, SHA1_CLUSTER};

#[cfg(test)]
mod tests;
