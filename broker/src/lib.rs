//! The broker: everything between the local socket and the upstreams.

pub mod identity;
pub mod known_hosts;
pub mod ssh;
