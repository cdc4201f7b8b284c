//! What becomes of open streams and of new ones when the proxy, the path to it,
//! a node or a certificate goes away and comes back.

use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use natssh_lab::Fault;
use natssh_lab::faults::{CertFault, Idle, NodeFault, ProxyFault};
use natssh_tests::wait::PATIENCE;
use natssh_tests::{Plan, Running, World, door, need, run};
use natssh_wire::status::{TrunkState, UpstreamState};

/// A stream that carries nothing: the node's sshd waits for a client's banner.
fn open_stream(world: &World, node: &str) -> UnixStream {
    door::connect(&world.socket(), &format!("{node}:22"))
}

/// An ssh that runs until its stdin ends, and its first sign of life.
fn open_ssh(world: &World, node: &str) -> Running {
    let ssh = Running::interactive(world.ssh(&[node, "echo open; cat"]));
    ssh.until_said("open");
    ssh
}

/// The log's lines of INFO and worse that came after the first `before`.
fn story(world: &World, before: usize) -> Vec<String> {
    world.log().lines().skip(before).map(str::to_owned).collect()
}

#[test]
fn streams_end_with_a_reason_and_new_ones_wait_for_the_proxy() {
    need!("ssh", "sshd");
    let world = Plan::new().start();
    let sessions = [open_ssh(&world, "worker"), open_ssh(&world, "control-plane")];
    let streams: Vec<_> = (0..48).map(|_| open_stream(&world, "worker")).collect();
    assert_eq!(world.upstream().streams, 50);
    let lines = world.log().lines().count();

    world.fault(Fault::Proxy(ProxyFault::Stop));
    for session in sessions {
        session.stay().unreachable();
    }
    streams.into_iter().for_each(read_to_its_end);
    let upstream = world.until_upstream("the dials fail", |upstream| upstream.dials_failed >= 2);
    assert_eq!((upstream.state, upstream.streams, upstream.streams_cut), (UpstreamState::Down, 0, 50));
    let why = world.why("worker").text();
    assert!(why.contains("was lost with 50 open streams"), "{why}");
    assert!(why.contains("the stream to worker:22 was cut"), "{why}");

    // Each look at the count is itself a request.
    let (asked, mut looks) = (world.status().requests.accepted, 0);
    let waiting: Vec<_> = (0..4).map(|_| Running::start(world.ssh(&["worker", "echo back"]))).collect();
    natssh_tests::until("four requests wait", || {
        looks += 1;
        (world.status().requests.accepted == asked + looks + 4).then_some(())
    });
    world.fault(Fault::Proxy(ProxyFault::Start));
    for ssh in waiting {
        assert_eq!(ssh.end().ok(), "back\n");
    }

    let story = story(&world, lines);
    let count = |words: &str| story.iter().filter(|line| line.contains(words)).count();
    assert_eq!(
        (count("trunk lost"), count("upstream is back"), count("trunk opened")),
        (1, 1, 1),
        "{story:#?}"
    );
    assert!(count("upstream is down") <= 1, "{story:#?}");
    assert!(story.len() < 10, "a line for each stream? {story:#?}");
}

#[test]
fn a_request_outlives_a_proxy_that_hangs_and_is_restarted() {
    need!("ssh", "sshd");
    let world = Plan::new().start();
    assert_eq!(run(world.ssh(&["worker", "echo warm"])).ok(), "warm\n");
    world.fault(Fault::Proxy(ProxyFault::Freeze));
    let asked = Running::start(world.ssh(&["worker", "echo here"]));
    world.until_upstream("it waits on the hanging trunk", |upstream| upstream.streams == 1);
    world.fault(Fault::Proxy(ProxyFault::Stop));
    world.fault(Fault::Proxy(ProxyFault::Start));
    assert_eq!(asked.end().ok(), "here\n");
    assert_eq!(world.upstream().dials_ok, 2);
}

#[test]
fn a_short_silence_of_the_path_kills_nothing() {
    need!("ssh", "sshd");
    let world = Plan::new().relay().upstream("keepalive = \"2s\"").start();
    let mut ssh = open_ssh(&world, "worker");
    world.relay().freeze();
    let upstream = world.until_upstream("the trunk is suspect", |upstream| {
        upstream.trunks.iter().any(|trunk| trunk.state == TrunkState::Suspect)
    });
    assert_eq!((upstream.state, upstream.streams), (UpstreamState::Suspect, 1));
    world.relay().resume();
    world.until_upstream("it answers again", |upstream| upstream.state == UpstreamState::Connected);
    ssh.write(b"still the same\n");
    ssh.until_said("still the same\n");
    ssh.end().ok();
    let upstream = world.upstream();
    assert_eq!((upstream.dials_ok, upstream.streams_cut), (1, 0));
}

#[test]
fn a_path_that_stays_silent_is_given_up_and_replaced() {
    need!("ssh", "sshd");
    let world = Plan::new().relay().upstream("keepalive = \"1s\"").start();
    let ssh = open_ssh(&world, "worker");
    world.relay().freeze();
    let given_up = ssh.stay();
    given_up.unreachable();
    // After three keepalives, and what came before the freeze.
    assert!(given_up.took < Duration::from_secs(10), "{:?}", given_up.took);
    let upstream = world.until_upstream("the trunk is gone", |upstream| upstream.trunks.is_empty());
    assert_eq!(upstream.streams_cut, 1);
    let error = upstream.last_error.expect("the loss was noted").message;
    let why = world.why("worker").text();
    assert!(why.contains("no answer for 3 s"), "{why} {error}");

    let refused = run(world.ssh(&["worker", "true"]));
    assert!(refused.unreachable().contains("did not answer"), "{}", refused.stderr);
    assert!(refused.took < Duration::from_secs(7), "{:?}", refused.took);

    world.relay().resume();
    assert_eq!(run(world.ssh(&["worker", "echo back"])).ok(), "back\n");
}

#[test]
fn a_frozen_node_holds_up_nobody_else() {
    need!("ssh", "sshd");
    let world = Plan::new().start();
    let warm = open_ssh(&world, "control-plane");
    world.fault(Fault::Node(NodeFault::Freeze { node: "worker".into() }));
    let stuck: Vec<_> = (0..4).map(|_| Running::start(world.ssh(&["worker", "true"]))).collect();
    world.until_upstream("four wait for the node", |upstream| upstream.streams == 5);
    let other = run(world.ssh(&["control-plane", "echo quick"]));
    assert_eq!(other.ok(), "quick\n");
    assert!(other.took < Duration::from_secs(3), "{:?}", other.took);
    for ssh in stuck {
        let said = ssh.end_within(Duration::from_secs(9));
        assert!(said.unreachable().contains("the node may be frozen"), "{}", said.stderr);
    }
    assert!(world.why("worker").text().contains("the node may be frozen"));
    warm.end().ok();
    world.fault(Fault::Node(NodeFault::Thaw { node: "worker".into() }));
    assert_eq!(run(world.ssh(&["worker", "echo thawed"])).ok(), "thawed\n");
    assert_eq!(world.upstream().dials_ok, 1, "one trunk served all of it");
}

#[test]
fn two_hundred_connections_see_nothing_of_a_replaced_certificate() {
    need!("ssh", "sshd");
    let world = Plan::new().start();
    // What ssh itself shows the nodes, and trusts, stays as it is: the story is the broker's, and ssh, which
    // reads each file once, may meet one half-written.
    let key = world.credentials.openssh_key();
    let mut config = std::fs::read_to_string(world.ssh_config_path()).unwrap();
    for (theirs, ours) in [
        (key.clone(), "own"),
        (key.with_file_name("id_lab-cert.pub"), "own-cert.pub"),
        (world.credentials.known_hosts(), "own-known_hosts"),
    ] {
        let ours = world.path().join(ours);
        std::fs::copy(&theirs, &ours).unwrap();
        config = config.replace(&theirs.display().to_string(), &ours.display().to_string());
    }
    std::fs::write(world.ssh_config_path(), config).unwrap();

    let held = open_ssh(&world, "worker");
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while next.fetch_add(1, Ordering::Relaxed) < 200 {
                    assert_eq!(run(world.ssh(&["control-plane", "echo fine"])).ok(), "fine\n");
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for (at, fault) in [(40, CertFault::Replace), (80, CertFault::Rotate), (120, CertFault::Replace)] {
            natssh_tests::until("so many are done", || (done.load(Ordering::Relaxed) >= at).then_some(()));
            world.fault(Fault::Cert(fault));
        }
    });
    assert_eq!(done.into_inner(), 200);
    assert!(world.status().failures.is_empty(), "{:?}", world.status().failures);

    let newest = open_ssh(&world, "control-plane");
    let status = world.status();
    let generation = status.identities.iter().find(|identity| identity.name == "me").unwrap().generation;
    assert!(generation >= 4, "{generation}");
    let trunks = world.upstream().trunks;
    let of = |state| trunks.iter().filter(move |trunk| trunk.state == state);
    let open: Vec<_> = of(TrunkState::Open).map(|t| (t.identity_generation, t.streams)).collect();
    assert_eq!(open, [(generation, 1)]);
    // The oldest lives on for the one stream that it carries.
    let draining: Vec<_> = of(TrunkState::Draining).map(|t| (t.identity_generation, t.streams)).collect();
    assert_eq!(draining, [(1, 1)]);
    held.end().ok();
    newest.end().ok();
    world.until_upstream("the oldest is gone", |upstream| upstream.trunks.len() == 1);
    assert_eq!(world.upstream().streams_cut, 0);
}

#[test]
fn an_idle_limit_is_learned_and_a_silent_stream_harms_no_busy_one() {
    need!("ssh", "sshd");
    let world = Plan::new().start();
    world.fault(Fault::Idle { after: Idle(Some(Duration::from_millis(4200))) });
    for _ in 0..2 {
        assert_eq!(open_ssh(&world, "worker").stay().code, Some(255), "the cluster cuts it");
        world.until_upstream("the proxy is back at once", |u| u.state == UpstreamState::Connected);
    }
    let upstream = world.until_upstream("it was learned", |u| u.idle_limit_seconds.is_some());
    assert_eq!(upstream.idle_limit_seconds, Some(4));
    assert!(upstream.warnings.iter().any(|warning| warning.contains("silence")), "{:?}", upstream.warnings);

    let silent = open_ssh(&world, "worker");
    let busy =
        Running::start(world.ssh(&["worker", "for n in 1 2 3 4 5 6 7 8 9; do sleep 0.6; echo $n; done"]));
    busy.until_said("1");
    let upstream = world.upstream();
    let carrying: Vec<_> = upstream.trunks.iter().filter(|t| t.streams > 0).map(|t| t.streams).collect();
    assert_eq!(carrying, [1, 1], "each has a trunk of its own");
    assert_eq!(busy.end().ok(), "1\n2\n3\n4\n5\n6\n7\n8\n9\n");
    assert_eq!(silent.stay().code, Some(255));
}

/// Reads until the broker has closed it.
fn read_to_its_end(mut stream: UnixStream) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut banner = Vec::new();
    // A reset is an end too.
    if let Err(error) = std::io::Read::read_to_end(&mut stream, &mut banner) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
    }
}
