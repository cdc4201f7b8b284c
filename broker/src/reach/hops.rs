//! The hosts of ProxyJump that are kept: one connection for all hosts behind it.
//!
//! They are known by whom they are and how one gets there, not by the hosts behind them. A hop that nobody has used
//! for a while goes, and so do all with a new configuration: what is open on them goes on.

use super::Reach;
use super::dial::{Caller, SSH_CONFIG, address};
use crate::admission::Gates;
use crate::config::resolve;
use crate::session::{NotOpened, connect_hop};
use crate::ssh::Connection;
use crate::target::{Proof, Target, Way};
use crate::upstream::{Hop, HopMeans, Stream};
use natssh_wire::{Failure, FailureKind, NodeAddr, status};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// No more hops than this are kept.
const HOPS: usize = 64;
/// A hop without streams goes after this.
const UNUSED: Duration = Duration::from_secs(600);

/// The hops of one configuration.
#[derive(Default)]
pub(super) struct Hops(Mutex<HashMap<Key, Kept>>);

/// A hop: the last of a chain, reached over all before it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    chain: Vec<Target>,
    /// The caller's agent, for what is on the way to the first.
    agent: Option<PathBuf>,
}

#[derive(Clone)]
struct Kept {
    hop: Arc<Hop>,
    /// What only the real ssh can do about it.
    declined: Arc<Mutex<Option<String>>>,
    used: Instant,
}

impl Reach {
    /// Opens a stream to `node` behind a chain of hops.
    pub(super) async fn jump(
        self: &Arc<Self>,
        chain: &[Target],
        node: &NodeAddr,
        caller: &Caller,
        deadline: Instant,
    ) -> Result<Stream, NotOpened> {
        let Some(last) = chain.last() else {
            return Err(NotOpened::RealSsh("ProxyJump names nobody".into()));
        };
        let key = Key { chain: chain.to_vec(), agent: caller.agent.clone() };
        let kept = self.hop(&key, last, caller)?;
        let generation = generation(last.proof.clone()).await;
        let opened = kept.hop.open(node, generation, deadline).await;
        opened.map_err(|failure| match lock(&kept.declined).take() {
            Some(reason) => {
                // Whoever asks next asks the host again.
                self.hops.lock().remove(&key);
                NotOpened::RealSsh(format!("jump host {}: {reason}", last.host))
            }
            None => failure.into(),
        })
    }

    fn hop(self: &Arc<Self>, key: &Key, last: &Target, caller: &Caller) -> Result<Kept, Failure> {
        let now = Instant::now();
        let mut hops = self.hops.lock();
        if let Some(kept) = hops.get_mut(key) {
            kept.used = now;
            return Ok(kept.clone());
        }
        let (reach, declined) = (Arc::downgrade(self), Arc::new(Mutex::default()));
        let (hop, noted) = (Arc::new((key.chain.clone(), caller.clone())), declined.clone());
        let means = HopMeans {
            login: last.user.clone(),
            identity: fingerprint(&last.proof),
            failures: self.failures.clone(),
            meter: self.meters.of(SSH_CONFIG),
            gates: Gates::new(&self.admission, SSH_CONFIG, resolve::HANDSHAKES as usize),
        };
        let hop = Hop::new(address(last)?, means, move || {
            let (reach, hop, noted) = (reach.clone(), hop.clone(), noted.clone());
            async move {
                let generation = generation(hop.0.last().map(|last| last.proof.clone()).unwrap_or_default());
                let generation = generation.await;
                let connected = connect(&reach, &hop.0, &hop.1).await;
                (generation, connected.map_err(|not| failure(not, &noted)))
            }
        });
        Hops::sweep(&mut hops, now);
        let kept = Kept { hop, declined, used: now };
        hops.insert(key.clone(), kept.clone());
        Ok(kept)
    }
}

/// Dials the last of a chain over the others.
async fn connect(reach: &Weak<Reach>, chain: &[Target], caller: &Caller) -> Result<Connection, NotOpened> {
    let reach = reach.upgrade().ok_or_else(|| {
        Failure::new(FailureKind::Cut, "natssh's configuration changed meanwhile").hint("natssh status")
    })?;
    let length = u32::try_from(chain.len()).unwrap_or(u32::MAX);
    let deadline = Instant::now() + resolve::CONNECT_TIMEOUT.saturating_mul(length);
    let Some((last, before)) = chain.split_last() else {
        return Err(NotOpened::RealSsh("ProxyJump names nobody".into()));
    };
    let mut target = last.clone();
    if !before.is_empty() {
        target.way = Way::Jump(before.to_vec());
    }
    let budget = reach.budget.clone();
    let opened = reach.dial_below(target, caller.clone(), deadline).await?;
    let (stream, shaken) = opened.stream.into_session(opened.carried).map_err(|error| {
        let text = format!("no socket for the way to {}: {error}", last.host);
        Failure::new(FailureKind::Internal, text).hint("natssh status")
    })?;
    let connected = connect_hop(stream, last, &budget, deadline).await;
    shaken.hands();
    connected
}

/// What is not opened is a failure to the trunks; the other half is noted for whoever waits.
fn failure(not: NotOpened, noted: &Mutex<Option<String>>) -> Failure {
    match not {
        NotOpened::Failed(failure) => {
            lock(noted).take();
            failure
        }
        NotOpened::RealSsh(reason) => {
            let failure = Failure::new(FailureKind::Identity, reason.clone());
            *lock(noted) = Some(reason);
            failure
        }
    }
}

impl Hops {
    /// Their entries in `status`.
    pub(super) fn report(&self) -> Vec<status::Upstream> {
        let mut hops = self.lock();
        Self::sweep(&mut hops, Instant::now());
        let mut entries: Vec<_> = hops.values().map(|kept| kept.hop.report()).collect();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        entries
    }

    /// Takes no new streams; open ones go on.
    pub(super) fn drain(&self) {
        self.lock().clear();
    }

    /// Lets go of what is not used, and of the least used where there are too many.
    fn sweep(hops: &mut HashMap<Key, Kept>, now: Instant) {
        hops.retain(|_, kept| kept.hop.streams() > 0 || now.duration_since(kept.used) < UNUSED);
        while hops.len() >= HOPS {
            let least = hops.iter().min_by_key(|(_, kept)| kept.used).map(|(key, _)| key.clone());
            let Some(least) = least else { return };
            hops.remove(&least);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Kept>> {
        lock(&self.0)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells one way of authenticating from another.
fn fingerprint(proof: &Proof) -> String {
    let mut hasher = DefaultHasher::new();
    proof.hash(&mut hasher);
    format!("{:x}", hasher.finish())
}

/// Grows whenever a file of an identity is written: connections of an older one take no new streams.
async fn generation(proof: Proof) -> u64 {
    let newest = tokio::task::spawn_blocking(move || {
        let written = |path: &PathBuf| path.metadata().and_then(|data| data.modified()).ok();
        let newest = proof.keys.iter().chain(&proof.certificates).filter_map(written).max()?;
        newest.duration_since(SystemTime::UNIX_EPOCH).ok()
    });
    newest.await.ok().flatten().map_or(0, |newest| u64::try_from(newest.as_millis()).unwrap_or(u64::MAX))
}
