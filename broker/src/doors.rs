//! Doors: where requests enter.

mod connect;
mod exec;
mod file;
pub mod local;
pub mod metrics;
mod status;
