//! What is left when a file's trip is over: a channel that is still counted, and perhaps a temporary file.

use super::{Missed, Trip};
use crate::pool::{Leased, Node, Use};
use crate::session::Event;
use crate::session::transfer::{self, Stopped, Unfinished, by_shell, shell};
use crate::target::Run;
use crate::text::one_line;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// A node that may still have a temporary file is told to remove it within this.
const CLEARING: Duration = Duration::from_secs(60);
/// Between two tries of that, at first.
const PAUSE: Duration = Duration::from_secs(1);
/// An SFTP server that has nothing more to do ends within this, and gives its place back.
const WINDING_DOWN: Duration = Duration::from_secs(5);

impl Trip {
    /// Removes a temporary file that may have stayed behind, on whichever session there is next.
    pub(super) fn clear_away(self: &Arc<Self>, missed: &Missed) {
        let Missed::Unfinished(Unfinished { left: Some(left), .. }) = missed else { return };
        let (trip, left) = (self.clone(), left.clone());
        tokio::spawn(async move {
            if !timeout(CLEARING, trip.remove_at_last(&left)).await.unwrap_or(false) {
                let path = one_line(&String::from_utf8_lossy(&left));
                tracing::warn!(host = trip.target.host, path, "a temporary file may have stayed on a node");
            }
        });
    }

    /// Tries until the node can be reached; whether the file is gone.
    async fn remove_at_last(&self, left: &[u8]) -> bool {
        let mut pause = PAUSE;
        loop {
            match self.remove(left).await {
                Ok(()) => return true,
                Err(Missed::Unfinished(Unfinished { why: Stopped::File(_), .. })) => return false,
                Err(_) => tokio::time::sleep(pause).await,
            }
            pause *= 2;
        }
    }

    async fn remove(&self, left: &[u8]) -> Result<(), Missed> {
        let leased = self.lease(Use::Shared).await.map_err(Missed::NoLease)?;
        let removed = if self.broker.without_sftp.holds(leased.key(), Instant::now()) {
            self.start(&leased, Run::Command(shell::remove(left))).await?;
            by_shell::end(&*leased, left).await
        } else {
            self.start(&leased, Run::Subsystem("sftp".into())).await?;
            transfer::remove(&*leased, left).await
        };
        removed.map_err(Missed::because)?;
        wind_down(leased).await;
        Ok(())
    }
}

/// Lets what runs on a channel end by itself, so that the node counts it no more when its place is given back.
pub(in crate::doors::file) async fn wind_down(leased: Leased<Node>) {
    let ended = async {
        drop(leased.finish_writing().await);
        loop {
            match leased.next().await {
                Event::Exit(_) | Event::Killed(_) | Event::Closed | Event::Cut(_) => return,
                _ => {}
            }
        }
    };
    drop(timeout(WINDING_DOWN, ended).await);
}
