//! The channel that a file goes over, and what becomes of it afterwards.

use crate::pool::{Leased, Node};
use crate::session::transfer::Talk;

/// A channel, and the conversation on it.
pub(in crate::doors::file) struct Lent {
    pub(in crate::doors::file) channel: Leased<Node>,
    pub(super) talk: Talk,
}

/// A file has arrived; this is the channel, if it is to be closed.
#[must_use]
pub(in crate::doors::file) struct Over(pub(super) Option<Leased<Node>>);

impl Lent {
    /// The file is through: the next one may go on from here, where there is room for that.
    pub(super) fn over(self) -> Over {
        let Self { channel, talk } = self;
        Over(match talk.rest() {
            Some(talk) => channel.rest(talk).err(),
            None => Some(channel),
        })
    }
}

impl Over {
    /// Closes the channel as the node likes it; nobody need wait for that.
    pub(in crate::doors::file) async fn wind_down(self) {
        if let Some(channel) = self.0 {
            channel.wind_down().await;
        }
    }
}
