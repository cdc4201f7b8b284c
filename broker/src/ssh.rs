//! One authenticated SSH connection over any byte stream. Only the files in
//! this folder know the SSH library.

mod agent;
mod callbacks;
mod channel;
mod connect;
mod first_word;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod guard;
pub mod host_key;
mod inbox;
mod refused_open;
mod signer;

pub use agent::Logins;
pub use callbacks::{Ended, HostCheck};
pub use channel::{Channel, Gone};
pub use connect::{Connection, Hello, OpenError, Target};
pub use inbox::{Budget, End, TOTAL_LIMIT};
pub use refused_open::{Code, RefusedOpen};
