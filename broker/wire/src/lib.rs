//! The local API as data: what shim, broker and Ansible plugin say to each other.
//!
//! No sockets, no runtime: everything here is a value or a pure function on
//! bytes. PROTOCOL.md is the same thing in prose, for those who write Python.

pub mod environment;
pub mod exec;
pub mod failure;
pub mod file;
pub mod frame;
pub mod head;
pub mod node;
pub mod paths;
pub mod real_ssh;
pub mod request;
pub mod ssh_words;
pub mod status;
pub mod terminal;
pub mod word;

pub use failure::{Failure, FailureKind};
pub use node::NodeAddr;
pub use request::ConnectRequest;
pub use word::Word;

/// The version of the local API, sent as `Natssh-Protocol` by both sides.
///
/// It changes only when an old peer would misunderstand a new one. New headers
/// and new JSON fields do not change it: both sides ignore what they do not know.
pub const PROTOCOL: u32 = 1;

/// The version of natssh that this was built as.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
