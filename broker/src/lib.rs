//! The broker: keeps authenticated connections open, and opens streams to nodes.
//!
//! A request walks from a door over a route to an upstream, and from there its
//! bytes are spliced: [`doors`] → [`reach`] → [`upstream`] → [`ssh`] → [`identity`].

pub mod admission;
pub mod backoff;
pub mod broker;
pub mod cli;
pub mod config;
pub mod dial;
pub mod doctor;
pub mod doors;
pub mod failures;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod identities;
pub mod identity;
pub mod known_hosts;
pub mod log;
pub mod metrics;
pub mod pattern;
pub mod place;
pub mod pool;
pub mod probe;
pub mod proxy_command;
pub mod reach;
pub mod routes;
pub mod run;
pub mod session;
pub mod settings;
pub mod splice;
pub mod ssh;
pub mod ssh_config;
pub mod target;
pub mod text;
pub mod upstream;
