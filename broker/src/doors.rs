//! Doors: where requests enter.

mod connect;
mod control;
mod exec;
mod file;
pub mod local;
pub mod metrics;
mod status;
