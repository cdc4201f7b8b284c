//! The lab: nodes behind a NAT, a stand-in for the Teleport proxy they dial
//! out to, and a certificate authority. Everything but the proxy is real.
//!
//! It drives the tests, the demo and the benchmark. It is not Teleport, and
//! nothing here should guard anything.

pub mod agent;
pub mod ca;
pub mod proxy;
pub mod relay;
pub mod tunnel;
