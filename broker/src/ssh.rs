//! One authenticated SSH connection over any byte stream. Only the files in
//! this folder know the SSH library.

mod agent;
mod ahead;
mod algorithms;
mod authenticate;
mod callbacks;
mod channel;
mod command;
mod connect;
mod early;
mod first_word;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod guard;
mod half;
pub mod host_key;
mod inbox;
mod mailbox;
mod not_connected;
mod offer;
mod opening;
mod outputs;
mod refuse;
mod refused_open;
mod shared;
mod signer;
mod words;

pub use agent::Logins;
pub use authenticate::NotAdmitted;
pub use callbacks::HostCheck;
pub use channel::{Channel, Gone};
pub use command::CommandChannel;
pub use connect::{Connection, GREETING, Hello};
pub use early::{Early, Waiting};
pub use inbox::{Budget, End, TOTAL_LIMIT};
pub use mailbox::Keeping;
pub use not_connected::NotConnected;
pub use offer::KeyOffer;
pub use opening::{OpenError, Target};
pub use outputs::{DISK_LIMIT, Event, MEMORY_LIMIT, Stores, Unread};
pub use refuse::refuse;
pub use refused_open::{Code, RefusedOpen};
pub use shared::Ended;
pub use signer::Signer;
pub use words::{CLOSED, describe_io};
