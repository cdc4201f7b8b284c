//! The lab: nodes behind a NAT, a stand-in for the Teleport proxy they dial
//! out to, and a certificate authority. Everything but the proxy is real.
//!
//! It drives the tests, the demo and the benchmark. It is not Teleport, and
//! nothing here should guard anything. A program holds a whole one as a
//! [`Lab`]; the command `natssh-lab up` leaves one running.

pub mod account;
pub mod agent;
pub mod ca;
pub mod cleanup;
pub mod cli;
pub mod control;
pub mod credentials;
pub mod daemon;
pub mod enter;
pub mod environment;
pub mod faults;
pub mod front;
pub mod lab;
pub mod netns;
pub mod node;
pub mod processes;
pub mod proxy;
pub mod python;
pub mod relay;
pub mod state;
pub mod supervisor;
pub mod tools;
pub mod topology;
pub mod tunnel;

pub use faults::Fault;
pub use lab::Lab;
pub use supervisor::Options;
