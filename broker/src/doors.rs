//! Doors: where requests enter.

mod connect;
mod exec;
pub mod local;
pub mod metrics;
mod status;
