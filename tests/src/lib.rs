//! The ground that user stories are told on: a lab, a broker of its own, and
//! the words that make stock `ssh` go through it.
//!
//! A story goes through real doors with real programs: `natssh-broker` is a
//! process, `natssh` is what ssh starts, the nodes are real `sshd`s behind the
//! lab's stand-in proxy. A [`World`] is one such ground; it is planned by a
//! [`Plan`], shares nothing with another, and takes everything down when it is
//! dropped. What a story expects is read from the broker's JSON status.

pub mod ansible;
pub mod bytes;
pub mod collection;
pub mod door;
pub mod file;
pub mod node;
pub mod plan;
pub mod programs;
pub mod run;
pub mod screen;
pub mod server;
pub mod sshd;
pub mod tools;
pub mod wait;
pub mod way;
pub mod world;

pub use file::Files;
pub use plan::Plan;
pub use run::{Running, Said, run};
pub use screen::Screen;
pub use server::Server;
pub use sshd::Sshd;
pub use wait::until;
pub use way::{Ground, Way};
pub use world::World;
