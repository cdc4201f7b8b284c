//! A node that is made of counters: sessions to it cost a delay, channels a round trip.

use crate::pool::line::{Boxed, Counts, Line, Opener};
use crate::reach::Way;
use crate::session::{Health, NotOpened};
use crate::ssh::{Code, Ended, OpenError, RefusedOpen};
use crate::target::{Algorithms, Proof, Strict, Target, Trust, Way as TargetWay};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// What a node does when somebody comes.
#[derive(Debug, Clone)]
pub(super) enum Door {
    Opens,
    Fails(NotOpened),
    Panics,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) max_sessions: u32,
    pub(super) round_trip: Duration,
    pub(super) door: Mutex<Door>,
    pub(super) way: AtomicU64,
    pub(super) authentications: AtomicU32,
    /// Attempts, whatever came of them.
    pub(super) asked: AtomicU32,
    pub(super) lines: Mutex<Vec<Weak<FakeLine>>>,
    pub(super) key_there: AtomicBool,
    pub(super) expires: Mutex<Option<u64>>,
    /// So many opens of channels find their session gone.
    pub(super) losing: AtomicU32,
    pub(super) server: &'static str,
    /// It is an old Teleport.
    pub(super) sha1: AtomicBool,
}

impl Node {
    pub(super) fn new(max_sessions: u32) -> Arc<Self> {
        Self::far(max_sessions, Duration::from_millis(1))
    }

    pub(super) fn far(max_sessions: u32, round_trip: Duration) -> Arc<Self> {
        Self::of(max_sessions, round_trip, "SSH-2.0-OpenSSH_9.2p1")
    }

    pub(super) fn of(max_sessions: u32, round_trip: Duration, server: &'static str) -> Arc<Self> {
        Arc::new(Self {
            max_sessions,
            round_trip,
            door: Mutex::new(Door::Opens),
            way: AtomicU64::new(1),
            authentications: AtomicU32::new(0),
            asked: AtomicU32::new(0),
            lines: Mutex::default(),
            key_there: AtomicBool::new(true),
            expires: Mutex::new(None),
            losing: AtomicU32::new(0),
            server,
            sha1: AtomicBool::new(false),
        })
    }

    /// Sessions that stand.
    pub(super) fn sessions(&self) -> Vec<Arc<FakeLine>> {
        let lines = self.lines.lock().unwrap();
        lines.iter().filter_map(Weak::upgrade).filter(|line| line.ended.borrow().is_none()).collect()
    }

    /// Channels that are open, by the node's count.
    pub(super) fn channels(&self) -> u32 {
        self.sessions().iter().map(|line| line.channels.load(SeqCst)).sum()
    }

    pub(super) fn authentications(&self) -> u32 {
        self.authentications.load(SeqCst)
    }
}

/// The way to a [`Node`].
pub(super) struct ToNode(pub(super) Arc<Node>);

impl Opener<FakeLine> for ToNode {
    fn way(&self) -> Way {
        Way { picked: None, number: self.0.way.load(SeqCst) }
    }

    fn open(self: Arc<Self>, deadline: Instant) -> Boxed<Result<FakeLine, NotOpened>> {
        let node = self.0.clone();
        Box::pin(async move {
            node.asked.fetch_add(1, SeqCst);
            let opening = sleep(Duration::from_millis(30) + node.round_trip * 5);
            if tokio::time::timeout_at(deadline, opening).await.is_err() {
                let text = "the fake was too slow";
                return Err(natssh_wire::Failure::new(natssh_wire::FailureKind::Timeout, text).into());
            }
            let door = node.door.lock().unwrap().clone();
            match door {
                Door::Opens => {}
                Door::Fails(why) => return Err(why),
                Door::Panics => panic!("on purpose"),
            }
            node.authentications.fetch_add(1, SeqCst);
            Ok(FakeLine {
                node,
                channels: Arc::default(),
                ended: watch::Sender::new(None),
                health: watch::Sender::new(Health::Good),
                private: watch::Sender::new(false),
                listed: AtomicBool::new(false),
            })
        })
    }
}

#[derive(Debug)]
pub(super) struct FakeLine {
    node: Arc<Node>,
    pub(super) channels: Arc<AtomicU32>,
    pub(super) ended: watch::Sender<Option<Ended>>,
    pub(super) health: watch::Sender<Health>,
    pub(super) private: watch::Sender<bool>,
    listed: AtomicBool,
}

impl FakeLine {
    pub(super) fn cut(&self) {
        self.ended.send_replace(Some(Ended { reason: "cut".into(), channels: 0, silence: None }));
    }
}

/// A channel; it closes when it is dropped, or when its command is over.
#[derive(Debug)]
pub(super) struct FakeChannel {
    channels: Arc<AtomicU32>,
    over: AtomicBool,
}

impl FakeChannel {
    /// The command is over, and the node has closed its channel.
    pub(super) fn finish(&self) {
        if !self.over.swap(true, SeqCst) {
            self.channels.fetch_sub(1, SeqCst);
        }
    }
}

impl Drop for FakeChannel {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Line for FakeLine {
    type Channel = FakeChannel;
    /// How many have had it.
    type Talk = u32;

    fn channel(self: Arc<Self>) -> Boxed<Result<FakeChannel, OpenError>> {
        if !self.listed.swap(true, SeqCst) {
            self.node.lines.lock().unwrap().push(Arc::downgrade(&self));
        }
        Box::pin(async move {
            sleep(self.node.round_trip / 2).await;
            let taken = self
                .channels
                .fetch_update(SeqCst, SeqCst, |open| (open < self.node.max_sessions).then_some(open + 1));
            sleep(self.node.round_trip / 2).await;
            let losing = self.node.losing.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok();
            if losing {
                self.cut();
            }
            let channels = self.channels.clone();
            match taken {
                _ if self.ended.borrow().is_some() => Err(OpenError::Lost("cut".into())),
                Ok(_) => Ok(FakeChannel { channels, over: AtomicBool::new(false) }),
                Err(_) => Err(OpenError::NoChannel(RefusedOpen { code: Code::ConnectFailed, words: None })),
            }
        })
    }

    fn is_closed(channel: &FakeChannel) -> bool {
        channel.over.load(SeqCst)
    }

    fn wind_down(channel: FakeChannel) -> Boxed<bool> {
        channel.finish();
        Box::pin(async { true })
    }

    fn caught_up(self: Arc<Self>) -> Boxed<()> {
        Box::pin(async move { sleep(self.node.round_trip).await })
    }

    fn ended(&self) -> watch::Receiver<Option<Ended>> {
        self.ended.subscribe()
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    fn private(&self) -> watch::Receiver<bool> {
        self.private.subscribe()
    }

    fn until(&self) -> Option<u64> {
        *self.node.expires.lock().unwrap()
    }

    fn still_stands(&self) -> bool {
        self.node.key_there.load(SeqCst)
    }

    fn server(&self) -> &str {
        self.node.server
    }

    fn sha1(&self) -> bool {
        self.node.sha1.load(SeqCst)
    }

    fn counts(&self) -> Counts {
        Counts { round_trip: Some(self.node.round_trip), to_node: 1, from_node: 2 }
    }

    fn close(self: Arc<Self>) {
        self.cut();
    }
}

/// A node by name, as a call of ssh with no settings means it.
pub(in crate::pool) fn target(host: &str) -> Target {
    Target {
        host: host.into(),
        typed: host.split('.').next().unwrap_or(host).into(),
        port: 22,
        user: "root".into(),
        bind_address: None,
        way: TargetWay::Route,
        proof: Proof::default(),
        trust: Trust {
            alias: None,
            user_files: Vec::new(),
            global_files: Vec::new(),
            command: None,
            strict: Strict::Yes,
            hash: false,
        },
        algorithms: Algorithms::default(),
    }
}
