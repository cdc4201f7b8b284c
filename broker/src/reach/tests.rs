//! Ways that only ssh_config knows, over a real sshd.

use super::{Caller, Opened, Reach};
use crate::config::{self, Environment};
use crate::session::tests::sshd::{PATIENCE, Sshd};
use crate::session::{Alive, NotOpened, Session, Stores};
use crate::target::{Strict, Target, Way};
use crate::upstream::Around;
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// An sshd that is jump host and node alike, and a reach without any route.
struct World {
    sshd: Sshd,
    folder: tempfile::TempDir,
    reach: Arc<Reach>,
}

impl World {
    async fn new() -> Option<Self> {
        let sshd = Sshd::start("").await?;
        let folder = tempfile::tempdir().unwrap();
        let environment = Environment { home: folder.path().to_owned(), ..Environment::default() };
        let settings = config::load(&environment).unwrap_or_else(|complaints| panic!("{complaints}"));
        let reach = Arc::new(Reach::new(settings, Arc::default(), folder.path().join("state")));
        Some(Self { sshd, folder, reach })
    }

    /// The node, by that way.
    fn node(&self, way: Way) -> Target {
        Target { way, ..self.sshd.target() }
    }

    fn caller(&self) -> Caller {
        let environment: Vec<(OsString, OsString)> =
            vec![("PATH".into(), "/usr/sbin:/usr/bin:/bin".into()), ("WHO".into(), "me".into())];
        let around = Around::Caller { directory: self.folder.path().into(), environment: environment.into() };
        Caller { agent: None, process: None, around }
    }

    async fn dial(&self, target: &Target) -> Result<Opened, NotOpened> {
        self.reach.dial(target, &self.caller(), Instant::now() + PATIENCE).await
    }

    /// Opens a session there, as the pool does.
    async fn session(&self, target: &Target) -> Arc<Session> {
        let opened = self.dial(target).await.unwrap_or_else(|not| panic!("{not:?}"));
        let stores = Stores::new(self.folder.path().to_owned());
        let deadline = Instant::now() + PATIENCE;
        let (stream, shaken) = opened.stream.into_session(opened.carried).unwrap();
        let session = Session::open(stream, target, &stores, Alive::default(), deadline).await.unwrap();
        shaken.hands();
        Arc::new(session)
    }

    /// How often somebody was let in.
    fn logins(&self) -> usize {
        std::fs::read_to_string(self.sshd.path("log")).unwrap().matches("Accepted publickey").count()
    }
}

#[tokio::test]
async fn a_jump_host_is_one_connection_for_all_behind_it() {
    let Some(world) = World::new().await else { return };
    let (gate, inner) = (world.node(Way::Route), Target { typed: "inner".into(), ..world.node(Way::Route) });
    let node = world.node(Way::Jump(vec![gate.clone(), inner.clone()]));
    let dials = (0..10).map(|_| {
        let (reach, node, caller) = (world.reach.clone(), node.clone(), world.caller());
        tokio::spawn(async move { reach.dial(&node, &caller, Instant::now() + PATIENCE).await.map(drop) })
    });
    for dial in dials.collect::<Vec<_>>() {
        dial.await.unwrap().unwrap();
    }
    assert_eq!(world.logins(), 2, "one for each hop");
    let session = world.session(&node).await;
    assert_eq!(world.logins(), 3);
    session.ping().await.unwrap();
    // The first hop by itself is the same hop.
    world.dial(&world.node(Way::Jump(vec![gate]))).await.map(drop).unwrap();
    assert_eq!(world.logins(), 3);
    let shown: Vec<_> = world.reach.upstreams().into_iter().filter(|entry| entry.kind == "jump").collect();
    assert_eq!(shown.len(), 2);
    assert!(shown.iter().all(|entry| entry.trunks.len() == 1 && entry.streams_total > 0));
}

#[tokio::test]
async fn a_hop_whose_certificate_was_renewed_is_dialled_anew() {
    let Some(world) = World::new().await else { return };
    let node = world.node(Way::Jump(vec![world.node(Way::Route)]));
    world.dial(&node).await.map(drop).unwrap();
    let key = std::fs::OpenOptions::new().append(true).open(world.sshd.path("id")).unwrap();
    key.set_modified(std::time::SystemTime::now() + Duration::from_secs(60)).unwrap();
    world.dial(&node).await.map(drop).unwrap();
    assert_eq!(world.logins(), 2);
}

#[tokio::test]
async fn what_is_wrong_with_a_jump_host_is_said_of_it() {
    let Some(world) = World::new().await else { return };
    let mut stranger = world.node(Way::Route);
    stranger.trust.user_files.clear();
    stranger.trust.strict = Strict::Ask;
    let asks = world.dial(&world.node(Way::Jump(vec![stranger]))).await.map(drop);
    assert!(matches!(&asks, Err(NotOpened::RealSsh(why)) if why.contains("jump host 127.0.0.1")), "{asks:?}");
    assert!(world.reach.hops.report().is_empty(), "the next caller asks again");

    let mut nobody = world.node(Way::Route);
    nobody.proof.keys = vec![world.sshd.path("host")];
    let refused = world.dial(&world.node(Way::Jump(vec![nobody]))).await.map(drop);
    let Err(NotOpened::Failed(failure)) = refused else { panic!("{refused:?}") };
    assert!(failure.message.contains("Permission denied"), "{failure}");

    let gone = Target { port: 1, ..world.node(Way::Jump(vec![world.node(Way::Route)])) };
    let Err(NotOpened::Failed(failure)) = world.dial(&gone).await.map(drop) else { panic!() };
    assert!(
        failure.message.contains("jump host") && failure.message.contains("could not connect"),
        "{failure}"
    );
    let kept = world.reach.failures.latest(None, 10);
    assert!(kept.iter().any(|record| record.message == failure.message), "why HOST knows it");
}

#[tokio::test]
async fn a_proxy_command_runs_with_what_its_caller_has_around() {
    let Some(world) = World::new().await else { return };
    let sshd = ["/usr/sbin/sshd", "/usr/local/sbin/sshd", "/usr/bin/sshd"];
    let sshd = sshd.into_iter().find(|path| Path::new(path).exists()).unwrap();
    let config = world.sshd.path("sshd_config");
    let line = format!("sh -c 'echo $WHO > seen; exec {sshd} -i -f {} -E log'", config.display());
    let node = world.node(Way::Command(line));
    let session = world.session(&node).await;
    session.ping().await.unwrap();
    assert_eq!(std::fs::read_to_string(world.folder.path().join("seen")).unwrap(), "me\n");
    let shown: Vec<_> =
        world.reach.upstreams().into_iter().filter(|entry| entry.name == "ssh_config").collect();
    assert_eq!(shown.iter().map(|entry| entry.streams).sum::<u64>(), 1);

    let fails = world.node(Way::Command("echo no such gateway >&2; exit 3".into()));
    let Err(NotOpened::Failed(failure)) = world.dial(&fails).await.map(drop) else { panic!() };
    assert!(failure.message.contains("no such gateway"), "{failure}");
}
