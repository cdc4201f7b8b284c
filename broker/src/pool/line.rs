//! What the pool asks of a session, and of whoever opens one.

use crate::reach::Way;
use crate::session::{Health, NotOpened};
use crate::ssh::{Ended, OpenError};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// A future that can be sent.
pub type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Opens sessions of one key.
pub trait Opener<S>: Send + Sync {
    /// The way it takes.
    fn way(&self) -> Way;

    /// Dials, shakes hands, and proves who one is.
    fn open(self: Arc<Self>, deadline: Instant) -> Boxed<Result<S, NotOpened>>;
}

/// What is counted of a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// The last round trip.
    pub round_trip: Option<Duration>,
    /// Bytes of its commands' input.
    pub to_node: u64,
    /// Bytes of their output.
    pub from_node: u64,
}

/// An authenticated connection to one node. [`Session`](crate::session::Session) is one; tests bring others.
pub trait Line: Send + Sync + 'static {
    /// A channel, on which nothing runs yet. Dropping it closes it.
    type Channel: Send + 'static;
    /// What is known of the conversation on a channel that rests, for who goes on with it.
    type Talk: Send + 'static;

    /// Opens one. A caller who stops waiting leaves nothing open.
    fn channel(self: Arc<Self>) -> Boxed<Result<Self::Channel, OpenError>>;
    /// Whether the node has closed a channel.
    fn is_closed(channel: &Self::Channel) -> bool;
    /// Lets what runs on a channel end by itself, and closes it; whether that was seen.
    fn wind_down(channel: Self::Channel) -> Boxed<bool>;
    /// Waits for whatever was sent before to have been read by the node.
    fn caught_up(self: Arc<Self>) -> Boxed<()>;
    /// How it ended, once it has.
    fn ended(&self) -> watch::Receiver<Option<Ended>>;
    /// Whether the node answers.
    fn health(&self) -> watch::Receiver<Health>;
    /// Whether somebody's output is so far behind that nothing new should run beside it.
    fn private(&self) -> watch::Receiver<bool>;
    /// The end of the certificate that opened it, in seconds since 1970.
    fn until(&self) -> Option<u64>;
    /// Whether the key that opened it is still where it was (blocking).
    fn still_stands(&self) -> bool;
    /// The identification that the node sent.
    fn server(&self) -> &str;
    /// Whether the node proved its key with SHA-1 RSA: Teleport up to v8.
    fn sha1(&self) -> bool;
    /// What was counted.
    fn counts(&self) -> Counts;
    /// Ends it, with all that runs on it.
    fn close(self: Arc<Self>);
}
