//! Doors: where requests enter.

mod connect;
pub mod local;
pub mod metrics;
mod status;
