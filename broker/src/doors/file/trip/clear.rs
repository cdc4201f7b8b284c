//! What may be left when a file's trip is over: a temporary file.

use super::{Missed, Trip};
use crate::pool::Use;
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
        let mut lent = self.lease(Use::Shared).await.map_err(Missed::NoLease)?;
        let removed = if self.broker.without_sftp.holds(lent.channel.key(), Instant::now()) {
            self.start(&lent.channel, Run::Command(shell::remove(left))).await?;
            by_shell::end(&*lent.channel, left).await
        } else {
            self.start_sftp(&lent).await?;
            transfer::remove(&*lent.channel, &mut lent.talk, left).await
        };
        removed.map_err(Missed::because)?;
        lent.over().wind_down().await;
        Ok(())
    }
}
