//! Doors: where requests enter.

mod connect;
pub mod local;
mod status;
