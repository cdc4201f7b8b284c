//! The open channels of one connection, shared by its callbacks, its tasks and
//! its watchman.
//!
//! What a client sends leaves the SSH library at once and waits in a queue of
//! the channel's own: the library re-grants windows by itself and stops every
//! channel for one that is not read. The queue is bounded by closing the channel.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Instant;

use bytes::Bytes;
use russh::server::Msg;
use russh::{Channel, ChannelId, ChannelWriteHalf};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinHandle};

use super::auth::User;
use super::held::Held;
use super::listen::Shared;
use super::tally::count;
use super::watchman::{Pulse, Watched};

/// The channels of a connection.
#[derive(Debug)]
pub(crate) struct Channels {
    pub(crate) shared: Arc<Shared>,
    /// The proxy's own cluster.
    pub(crate) cluster: Arc<str>,
    /// Whether an agent was offered on any channel: Teleport keeps one flag for all.
    pub(crate) agent_offered: AtomicBool,
    user: OnceLock<Arc<User>>,
    open: Mutex<HashMap<ChannelId, Lane>>,
}

/// One open channel.
#[derive(Debug)]
struct Lane {
    /// The way to the node; gone after the client's end of file.
    inlet: Option<mpsc::UnboundedSender<Bytes>>,
    held: Arc<Held>,
    pulse: Arc<Pulse>,
    /// What a task needs to serve the channel, until one does.
    outlet: Option<Outlet>,
    task: Option<AbortHandle>,
}

/// The side of a channel that its task owns.
pub(crate) struct Outlet {
    /// To the client; it waits for the client's window.
    pub(crate) client: ChannelWriteHalf<Msg>,
    /// From the client, until its end of file.
    pub(crate) input: mpsc::UnboundedReceiver<Bytes>,
    /// What of it has not been taken yet.
    pub(crate) held: Arc<Held>,
    /// Told of every byte.
    pub(crate) pulse: Arc<Pulse>,
}

impl std::fmt::Debug for Outlet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outlet").field("held", &self.held).finish_non_exhaustive()
    }
}

impl Channels {
    pub(crate) fn new(shared: Arc<Shared>, cluster: Arc<str>) -> Arc<Self> {
        Arc::new(Self {
            shared,
            cluster,
            agent_offered: AtomicBool::new(false),
            user: OnceLock::new(),
            open: Mutex::default(),
        })
    }

    /// Remembers who logged in.
    pub(crate) fn login(&self, user: User) {
        let _ = self.user.set(Arc::new(user));
    }

    /// How many are open.
    pub(crate) fn len(&self) -> usize {
        self.lanes().len()
    }

    /// A channel opens.
    pub(crate) fn add(&self, channel: Channel<Msg>) {
        count(&self.shared.tally.channels);
        count(&self.shared.tally.channels_open);
        let id = channel.id();
        // The library's own queue is dropped with the reading half: it would fill.
        let (_, client) = channel.split();
        let (inlet, input) = mpsc::unbounded_channel();
        let held = Held::new(Arc::clone(&self.shared));
        let pulse = Pulse::new();
        let outlet = Outlet { client, input, held: Arc::clone(&held), pulse: Arc::clone(&pulse) };
        let lane = Lane { inlet: Some(inlet), held, pulse, outlet: Some(outlet), task: None };
        self.lanes().insert(id, lane);
    }

    /// Starts the one task that serves a channel; false when it had one already.
    pub(crate) fn start(&self, id: ChannelId, spawn: impl FnOnce(Outlet) -> JoinHandle<()>) -> bool {
        let mut lanes = self.lanes();
        let Some(lane) = lanes.get_mut(&id) else { return false };
        let Some(outlet) = lane.outlet.take() else { return false };
        lane.task = Some(spawn(outlet).abort_handle());
        true
    }

    /// The client sent bytes; false when too many of them wait already.
    pub(crate) fn feed(&self, id: ChannelId, data: &[u8]) -> bool {
        let lanes = self.lanes();
        let Some(lane) = lanes.get(&id) else { return true };
        let Some(inlet) = &lane.inlet else { return true };
        lane.pulse.beat();
        let fits = lane.held.add(data.len());
        let _ = inlet.send(Bytes::copy_from_slice(data));
        fits
    }

    /// The client will send no more on this channel.
    pub(crate) fn end_input(&self, id: ChannelId) {
        if let Some(lane) = self.lanes().get_mut(&id) {
            lane.inlet = None;
        }
    }

    /// A channel is closed: its task ends.
    pub(crate) fn remove(&self, id: ChannelId) {
        let lane = self.lanes().remove(&id);
        if let Some(lane) = lane {
            self.shared.tally.channels_open.fetch_sub(1, Relaxed);
            lane.task.inspect(AbortHandle::abort);
        }
    }

    /// The connection has ended: all of them are closed.
    pub(crate) fn clear(&self) {
        let ids: Vec<ChannelId> = self.lanes().keys().copied().collect();
        for id in ids {
            self.remove(id);
        }
    }

    fn lanes(&self) -> MutexGuard<'_, HashMap<ChannelId, Lane>> {
        self.open.lock().unwrap_or_else(|poison| poison.into_inner())
    }
}

impl Watched for Channels {
    fn user(&self) -> Option<Arc<User>> {
        self.user.get().cloned()
    }

    fn quietest(&self) -> Option<Instant> {
        self.lanes().values().map(|lane| lane.pulse.last()).min()
    }
}
