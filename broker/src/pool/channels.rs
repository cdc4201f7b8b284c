//! The life of a channel: opened for somebody, or ahead of need.

use super::ledger::SessionId;
use super::line::Line;
use super::shelf::{Ahead, Claim, Missed};
use super::{Key, Leased, Pool};
use crate::session::OpenError;
use std::sync::Arc;

impl<S: Line> Pool<S> {
    /// A channel for somebody is open, or is not.
    pub(super) fn hand(
        self: &Arc<Self>,
        key: &Arc<Key>,
        line: Arc<S>,
        claim: Claim<S>,
        opened: Result<S::Channel, OpenError>,
    ) {
        let Claim { place, to } = claim;
        let answer = match opened {
            Ok(channel) => {
                self.act(key, |shelf, now| ((), shelf.ledger.answered(place, now)));
                Ok(Leased::new(self, key, place.session, line, Some(channel)))
            }
            Err(OpenError::NoChannel(said)) => {
                let refusal = self.act(key, |shelf, now| {
                    let (refusal, commands) = shelf.ledger.refused(place, now);
                    (Some(refusal), commands)
                });
                match refusal {
                    Some(refusal) => Err(Missed::Refused(refusal, said.to_string())),
                    None => Err(Missed::Lost(said.to_string())),
                }
            }
            Err(OpenError::Lost(reason) | OpenError::Refused(reason)) => {
                self.act(key, |shelf, now| ((), shelf.ledger.closed(place.session, false, now)));
                Err(Missed::Lost(reason))
            }
        };
        drop(to.send(answer));
    }

    /// Opens a channel for whoever comes next.
    pub(super) async fn open_ahead(
        self: Arc<Self>,
        key: Arc<Key>,
        id: SessionId,
        session: Arc<S>,
        number: u64,
    ) {
        let opened = session.clone().channel().await;
        match self.put_ahead(&key, id, number, opened) {
            Arrived::Kept => self.act(&key, |shelf, now| ((), shelf.ledger.ahead_opened(id, now))),
            Arrived::Claimed(claim, opened) => self.hand(&key, session, claim, opened),
            Arrived::Failed(OpenError::NoChannel(_)) => {
                self.act(&key, |shelf, now| ((), shelf.ledger.ahead_refused(id, now)));
            }
            Arrived::Failed(OpenError::Lost(_) | OpenError::Refused(_)) => self.ahead_closed(&key, id),
            Arrived::Unwanted(opened) => {
                drop(opened);
                session.caught_up().await;
                self.ahead_closed(&key, id);
            }
        }
    }

    /// Puts a channel that was opened ahead where it is wanted.
    fn put_ahead(
        &self,
        key: &Arc<Key>,
        id: SessionId,
        number: u64,
        opened: Result<S::Channel, OpenError>,
    ) -> Arrived<S> {
        let mut state = self.lock();
        let Some(shelf) = state.shelves.get_mut(key) else { return Arrived::Unwanted(opened) };
        if let Some(claim) = shelf.claims.remove(&number) {
            return Arrived::Claimed(claim, opened);
        }
        let slot = shelf.kept.get_mut(&id).map(|kept| &mut kept.ahead);
        let slot = slot.filter(|ahead| matches!(ahead, Ahead::Pending(pending) if *pending == number));
        match (slot, opened) {
            (Some(slot), Ok(channel)) => {
                *slot = Ahead::Open(channel);
                Arrived::Kept
            }
            (Some(slot), Err(error)) => {
                *slot = Ahead::None;
                Arrived::Failed(error)
            }
            (None, opened) => Arrived::Unwanted(opened),
        }
    }

    pub(super) fn ahead_closed(self: &Arc<Self>, key: &Arc<Key>, id: SessionId) {
        self.act(key, |shelf, now| ((), shelf.ledger.ahead_closed(id, now)));
    }
}

/// What becomes of a channel that was opened ahead.
enum Arrived<S: Line> {
    /// It waits for whoever comes next.
    Kept,
    /// Somebody waits for it.
    Claimed(Claim<S>, Result<S::Channel, OpenError>),
    /// There is none.
    Failed(OpenError),
    /// It was given up while it was on its way.
    Unwanted(Result<S::Channel, OpenError>),
}
