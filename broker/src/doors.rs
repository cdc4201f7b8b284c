//! Doors: where requests enter.

mod batch;
mod connect;
mod control;
mod exec;
mod file;
mod frames;
mod greeting;
mod handed;
mod linger;
pub mod local;
pub mod metrics;
mod request;
mod status;
