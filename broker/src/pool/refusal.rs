//! What a node's refusal is worth: it is told to all, for a while, without asking the node again.
//!
//! Fifty forks that a node refuses would otherwise be fifty failed authentications, for which a server bans
//! everyone behind the same address (`PerSourcePenalties`). Whoever changes a key, a certificate or what is
//! known of hosts is not kept waiting.

use crate::admission::Breaker;
use crate::failures::unix_now;
use crate::session::NotOpened;
use crate::target::Target;
use crate::text::time_of_day;
use natssh_wire::FailureKind;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use tokio::time::Instant;

/// How the files were that a refusal depends on.
pub(super) type Stamp = Vec<Option<(SystemTime, u64)>>;

/// A refusal that is in force, or was lately.
#[derive(Debug)]
pub(super) struct Refused {
    breaker: Breaker<NotOpened>,
    stamp: Stamp,
}

impl Refused {
    /// What becomes of the memory of refusals when an attempt that was made with files like that has come to
    /// nothing: other failures than refusals change nothing.
    pub(super) fn after(before: Option<Self>, stamp: Stamp, why: &NotOpened, now: Instant) -> Option<Self> {
        let is_refusal = match why {
            NotOpened::Failed(failure) => failure.kind == FailureKind::Denied,
            NotOpened::RealSsh(_) => true,
        };
        if !is_refusal {
            return before.map(|mut before| {
                before.breaker.unanswered();
                before
            });
        }
        let before = before.filter(|before| before.stamp == stamp).map(|before| before.breaker);
        let mut breaker = Breaker::after(before.as_ref(), 0, now, why.clone());
        if let NotOpened::Failed(failure) = &mut breaker.failure {
            let again = time_of_day(unix_now() + (breaker.until - now).as_secs());
            failure.message += &format!("; it is not asked again before {again}");
        }
        Some(Self { breaker, stamp })
    }

    /// Whether the node may be asked. Who may must say what came of it.
    ///
    /// # Errors
    /// What it said last.
    pub(super) fn ask(&mut self, now: Instant) -> Result<(), NotOpened> {
        self.breaker.ask(0, now)
    }

    /// It was so long ago that it means nothing any more.
    pub(super) fn is_forgotten(&self, now: Instant) -> bool {
        self.breaker.is_forgotten(now)
    }

    /// What the node said.
    pub(super) fn said(&self) -> &NotOpened {
        &self.breaker.failure
    }

    /// Until when it is not asked.
    pub(super) fn until(&self) -> Instant {
        self.breaker.until
    }

    /// The files it depends on, as they were.
    pub(super) fn stamp(&self) -> &Stamp {
        &self.stamp
    }
}

/// How the files are that decide whether a node lets somebody in (blocking).
pub(super) fn stamp(target: &Target) -> Stamp {
    let look = |path: &PathBuf| {
        let found = std::fs::metadata(path).ok()?;
        Some((found.modified().ok()?, found.len()))
    };
    let (proof, trust) = (&target.proof, &target.trust);
    let beside = proof.keys.iter().flat_map(|key| [".pub", "-cert.pub"].map(|end| with_end(key, end)));
    let beside: Vec<PathBuf> = beside.collect();
    let all = proof.keys.iter().chain(&proof.certificates).chain(&beside);
    all.chain(&trust.user_files).chain(&trust.global_files).map(look).collect()
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}
