//! The pool against nodes that are made of counters, on a paused clock.

pub(super) mod fake;

use super::ledger::{AHEAD_ON_TELEPORT, KEEP, RESTS, SPARE_IDLE};
use super::*;
use crate::session::Health;
use crate::target::{Need, Pty};
use fake::{Door, FakeLine, Node, ToNode, target};
use natssh_wire::status::SessionState;
use natssh_wire::terminal::{Size, Terminal};
use std::sync::atomic::Ordering::SeqCst;
use tokio::time::sleep;

type FakePool = Pool<FakeLine>;

fn pool() -> Arc<FakePool> {
    Pool::new(Arc::default())
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

async fn lease(pool: &Arc<FakePool>, node: &Arc<Node>) -> Result<Leased<FakeLine>, NotOpened> {
    lease_of(pool, node, "web-1.example.com", &Wishes::default()).await
}

async fn lease_of(
    pool: &Arc<FakePool>,
    node: &Arc<Node>,
    host: &str,
    wishes: &Wishes,
) -> Result<Leased<FakeLine>, NotOpened> {
    let deadline = Instant::now() + Duration::from_secs(9);
    pool.lease(&target(host), wishes, Arc::new(ToNode(node.clone())), deadline).await
}

/// Runs a command for so long.
async fn run(pool: &Arc<FakePool>, node: &Arc<Node>, time: Duration) -> Result<(), NotOpened> {
    let leased = lease(pool, node).await?;
    leased.started();
    sleep(time).await;
    leased.finish();
    Ok(())
}

/// So many commands at once; how many failed.
async fn run_at_once(pool: &Arc<FakePool>, node: &Arc<Node>, commands: usize) -> usize {
    let all: Vec<_> = (0..commands)
        .map(|_| {
            let (pool, node) = (pool.clone(), node.clone());
            tokio::spawn(async move { run(&pool, &node, millis(100)).await })
        })
        .collect();
    let mut failed = 0;
    for one in all {
        failed += usize::from(one.await.unwrap().is_err());
    }
    failed
}

fn failure(not: NotOpened) -> Failure {
    match not {
        NotOpened::Failed(failure) => failure,
        NotOpened::RealSsh(why) => panic!("for the real ssh: {why}"),
    }
}

fn denied() -> NotOpened {
    Failure::new(FailureKind::Denied, "root@web-1: Permission denied").into()
}

async fn rouse(pool: &Arc<FakePool>, node: &Arc<Node>, how: Use) -> Option<(Leased<FakeLine>, u32)> {
    let opener = Arc::new(ToNode(node.clone()));
    pool.rouse(how, &target("web-1.example.com"), &Wishes::default(), opener).await
}

#[tokio::test(start_paused = true)]
async fn a_channel_rests_between_two_who_want_the_same_of_it() {
    let (pool, node) = (pool(), Node::far(10, millis(40)));
    assert!(rouse(&pool, &node, Use::Shared).await.is_none(), "nothing is there");
    let first = lease(&pool, &node).await.unwrap();
    assert!(first.alone() && first.rest(1).is_ok());
    assert_eq!((pool.report()[0].channels, node.channels()), (0, 1));
    let begun = Instant::now();
    let (second, talk) = rouse(&pool, &node, Use::Alone).await.expect("it rests");
    assert_eq!((talk, begun.elapsed(), pool.report()[0].channels), (1, Duration::ZERO, 1));
    assert!(rouse(&pool, &node, Use::Shared).await.is_none(), "one has it");
    assert!(second.rest(2).is_ok());
    // Its program ends while nobody looks.
    let (third, _) = rouse(&pool, &node, Use::Shared).await.expect("it rests again");
    third.finish();
    assert!(third.rest(3).is_err());
    assert!(rouse(&pool, &node, Use::Shared).await.is_none());
    assert_eq!((pool.report()[0].channels, node.channels()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_rests_goes_with_its_time_its_session_and_its_broker() {
    let (pool, node) = (pool(), Node::new(10));
    assert!(lease(&pool, &node).await.unwrap().rest(1).is_ok());
    sleep(RESTS + Duration::from_secs(2)).await;
    assert_eq!((node.channels(), pool.report()[0].state), (0, SessionState::Open));
    assert!(lease(&pool, &node).await.unwrap().rest(1).is_ok());
    node.sessions()[0].cut();
    sleep(millis(1)).await;
    assert!(rouse(&pool, &node, Use::Shared).await.is_none());
    let busy = lease(&pool, &node).await.unwrap();
    assert!(lease(&pool, &node).await.unwrap().rest(1).is_ok());
    assert_eq!(node.channels(), 2);
    pool.drain();
    sleep(millis(1)).await;
    assert_eq!(node.channels(), 1, "who has one keeps it");
    assert!(rouse(&pool, &node, Use::Shared).await.is_none());
    drop(busy);
}

#[tokio::test(start_paused = true)]
async fn the_second_command_reuses_the_session_and_waits_for_no_round_trip() {
    let (pool, node) = (pool(), Node::far(10, millis(40)));
    run(&pool, &node, millis(5)).await.unwrap();
    sleep(millis(100)).await;
    let begun = Instant::now();
    let second = lease(&pool, &node).await.unwrap();
    assert_eq!((begun.elapsed(), node.authentications()), (Duration::ZERO, 1));
    second.started();
    // Another one is on its way, and whoever comes before its confirmation waits for that alone.
    sleep(millis(30)).await;
    let third = lease(&pool, &node).await.unwrap();
    assert_eq!(begun.elapsed(), millis(40));
    assert_eq!((node.channels(), pool.report()[0].channels), (2, 2));
    drop((second, third));
}

#[tokio::test(start_paused = true)]
async fn fifty_at_once_succeed_whatever_max_sessions_is() {
    for (max_sessions, most) in [(1, 50), (2, 27), (10, 6), (100, 6)] {
        let (pool, node) = (pool(), Node::new(max_sessions));
        assert_eq!(run_at_once(&pool, &node, 50).await, 0, "MaxSessions {max_sessions}");
        assert!(node.authentications() <= most, "{max_sessions}: {} sessions", node.authentications());
        assert_eq!(run_at_once(&pool, &node, 50).await, 0, "MaxSessions {max_sessions}, warm");
        assert!(pool.report().iter().all(|session| session.channels == 0), "{:?}", pool.report());
        sleep(SPARE_IDLE + Duration::from_secs(2)).await;
        assert_eq!(node.sessions().len(), 1, "spares are closed");
        sleep(KEEP).await;
        assert_eq!((node.sessions().len(), pool.report().len()), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_cold_node_is_asked_once_whoever_waits_and_a_refusal_is_told_to_all() {
    let (pool, node) = (pool(), Node::new(10));
    *node.door.lock().unwrap() = Door::Fails(denied());
    assert_eq!(run_at_once(&pool, &node, 50).await, 50);
    assert_eq!(node.asked.load(SeqCst), 1);
    let told = failure(lease(&pool, &node).await.map(drop).unwrap_err());
    assert!(told.message.contains("; it is not asked again before "), "{}", told.message);
    let shown = pool.report();
    assert_eq!((shown.len(), shown[0].state), (1, SessionState::Refused));
    assert!(shown[0].next_try_at.is_some() && shown[0].last_failure.is_some());
    // After half a minute one may ask for all, and a person may ask at once.
    sleep(Duration::from_secs(31)).await;
    assert_eq!(run_at_once(&pool, &node, 50).await, 50);
    assert_eq!(node.asked.load(SeqCst), 2);
    *node.door.lock().unwrap() = Door::Opens;
    pool.close(Some("web-1"));
    assert_eq!(run_at_once(&pool, &node, 5).await, 0);
}

#[tokio::test(start_paused = true)]
async fn who_puts_another_key_in_place_is_not_kept_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("id");
    let (pool, node) = (pool(), Node::new(10));
    let mut target = target("web-1");
    target.proof.keys = vec![key.clone()];
    *node.door.lock().unwrap() = Door::Fails(denied());
    let again = async || {
        let deadline = Instant::now() + Duration::from_secs(9);
        let opener = Arc::new(ToNode(node.clone()));
        pool.lease(&target, &Wishes::default(), opener, deadline).await.map(drop)
    };
    again().await.unwrap_err();
    again().await.unwrap_err();
    assert_eq!(node.asked.load(SeqCst), 1);
    std::fs::write(&key, "another").unwrap();
    *node.door.lock().unwrap() = Door::Opens;
    again().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_the_real_ssh_has_to_do_is_not_tried_again_for_each_call() {
    let (pool, node) = (pool(), Node::new(10));
    *node.door.lock().unwrap() = Door::Fails(NotOpened::RealSsh("it wants a password".into()));
    for _ in 0..3 {
        let not = lease(&pool, &node).await.map(drop).unwrap_err();
        assert!(matches!(not, NotOpened::RealSsh(why) if why == "it wants a password"));
    }
    assert_eq!(node.asked.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_only_unreachable_is_asked_each_time() {
    let (pool, node) = (pool(), Node::new(10));
    *node.door.lock().unwrap() = Door::Fails(Failure::new(FailureKind::Offline, "it is offline").into());
    for _ in 0..2 {
        assert_eq!(failure(lease(&pool, &node).await.map(drop).unwrap_err()).message, "it is offline");
    }
    assert_eq!(node.asked.load(SeqCst), 2);
    *node.door.lock().unwrap() = Door::Panics;
    assert_eq!(failure(lease(&pool, &node).await.map(drop).unwrap_err()).kind, FailureKind::Internal);
    *node.door.lock().unwrap() = Door::Opens;
    lease(&pool, &node).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn every_wait_ends_with_a_sentence() {
    let (pool, node) = (pool(), Node::far(1, Duration::from_secs(20)));
    let begun = Instant::now();
    let told = failure(lease(&pool, &node).await.map(drop).unwrap_err());
    assert!(begun.elapsed() < Duration::from_secs(9) && told.kind == FailureKind::Timeout, "{told}");
    // A session that is in use, and no other to be had.
    let node = Node::new(1);
    let held = lease(&pool, &node).await.unwrap();
    *node.door.lock().unwrap() = Door::Fails(Failure::new(FailureKind::Offline, "it is offline").into());
    let told = failure(lease(&pool, &node).await.map(drop).unwrap_err());
    assert!(told.message.contains("1 session to root@web-1.example.com had no place in time"), "{told}");
    drop(held);
    lease(&pool, &node).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_lost_before_anything_was_sent_costs_a_second_try_and_no_more() {
    let (pool, node) = (pool(), Node::new(10));
    node.losing.store(1, SeqCst);
    lease(&pool, &node).await.unwrap();
    assert_eq!(node.authentications(), 2);
    pool.close(None);
    node.losing.store(2, SeqCst);
    let told = failure(lease(&pool, &node).await.map(drop).unwrap_err());
    assert!(told.message.contains("ended before the command was sent: cut"), "{told}");
    assert_eq!(node.authentications(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_opens_no_channel_at_all_is_asked_twice() {
    let (pool, node) = (pool(), Node::new(0));
    let told = failure(lease(&pool, &node).await.map(drop).unwrap_err());
    assert!(told.message.contains("opens no session channel"), "{told}");
    assert_eq!(node.authentications(), 2);
}

#[tokio::test(start_paused = true)]
async fn who_stops_waiting_leaves_nothing_behind() {
    let (pool, node) = (pool(), Node::far(2, millis(40)));
    for wait in [10, 150, 240, 255, 280, 300] {
        let _ = tokio::time::timeout(millis(wait), lease(&pool, &node)).await;
        sleep(Duration::from_secs(2)).await;
        assert_eq!((pool.report()[0].channels, node.channels()), (0, 0), "after {wait} ms");
    }
    assert_eq!(node.authentications(), 1, "what was begun is used");
}

#[tokio::test(start_paused = true)]
async fn running_commands_outlive_a_close_and_the_next_one_authenticates_afresh() {
    let (pool, node) = (pool(), Node::new(10));
    let running = lease(&pool, &node).await.unwrap();
    assert_eq!(pool.close(Some("other")), 0);
    assert_eq!(pool.close(Some("WEB-1")), 1, "by the name as it was typed");
    assert_eq!(pool.report()[0].state, SessionState::Draining);
    lease(&pool, &node).await.unwrap().finish();
    assert_eq!((node.authentications(), node.sessions().len()), (2, 2));
    running.finish();
    drop(running);
    assert_eq!(node.sessions().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_reload_that_changes_the_way_leaves_the_sessions_of_the_old_one() {
    let (pool, node) = (pool(), Node::new(10));
    let running = lease(&pool, &node).await.unwrap();
    pool.reroute(|key| key.way.number == 1);
    lease(&pool, &node).await.unwrap().finish();
    assert_eq!(node.authentications(), 1);
    node.way.store(2, SeqCst);
    pool.reroute(|key| key.way.number == 2);
    lease(&pool, &node).await.unwrap().finish();
    assert_eq!(node.authentications(), 2);
    running.finish();
    drop(running);
    assert_eq!(node.sessions().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn no_command_begins_once_the_key_is_gone_or_the_certificate_is_over() {
    let (pool, node) = (pool(), Node::new(10));
    lease(&pool, &node).await.unwrap().finish();
    node.key_there.store(false, SeqCst);
    sleep(Duration::from_secs(1)).await;
    lease(&pool, &node).await.unwrap().finish();
    assert_eq!(node.authentications(), 2);
    node.key_there.store(true, SeqCst);
    *node.expires.lock().unwrap() = Some(crate::failures::unix_now() + 60);
    pool.close(None);
    lease(&pool, &node).await.unwrap().finish();
    sleep(Duration::from_secs(50)).await;
    lease(&pool, &node).await.unwrap().finish();
    assert_eq!(node.authentications(), 3);
    sleep(Duration::from_secs(11)).await;
    lease(&pool, &node).await.unwrap().finish();
    assert_eq!(node.authentications(), 4);
}

#[tokio::test(start_paused = true)]
async fn nothing_new_is_put_beside_a_stopped_reader_or_on_a_silent_path() {
    let (pool, node) = (pool(), Node::new(10));
    let running = lease(&pool, &node).await.unwrap();
    let line = running.session().clone();
    line.private.send_replace(true);
    sleep(millis(1)).await;
    assert_eq!(pool.report()[0].state, SessionState::Private);
    drop(lease(&pool, &node).await.unwrap());
    assert_eq!(node.authentications(), 2);
    for line in node.sessions() {
        line.health.send_replace(Health::Suspect);
    }
    line.private.send_replace(false);
    sleep(millis(10)).await;
    assert!(pool.report().iter().all(|session| session.state == SessionState::Suspect));
    drop(lease(&pool, &node).await.unwrap());
    assert_eq!(node.authentications(), 3);
    line.health.send_replace(Health::Good);
    sleep(millis(10)).await;
    drop(lease(&pool, &node).await.unwrap());
    assert_eq!(node.authentications(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_ends_is_told_with_the_commands_on_it() {
    let failures = Arc::new(Failures::default());
    let (pool, node) = (Pool::new(failures.clone()), Node::new(10));
    let running = lease(&pool, &node).await.unwrap();
    running.session().cut();
    sleep(millis(1)).await;
    assert_eq!(
        failures.latest(None, 9)[0].message,
        "a session to root@web-1.example.com ended with 1 command running: cut"
    );
    assert_eq!((pool.report().len(), pool.meter.commands_cut()), (0, 1));
    drop(running);
    lease(&pool, &node).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn bulk_has_a_session_to_itself() {
    let (pool, node) = (pool(), Node::new(10));
    let sftp = Wishes { run: Run::Subsystem("sftp".into()), ..Wishes::default() };
    let running = lease(&pool, &node).await.unwrap();
    let bulk = lease_of(&pool, &node, "web-1.example.com", &sftp).await.unwrap();
    assert!(!Arc::ptr_eq(running.session(), bulk.session()));
    let beside = lease(&pool, &node).await.unwrap();
    assert!(Arc::ptr_eq(running.session(), beside.session()));
    for (command, how) in [
        ("scp -t -- /tmp/x", Use::Alone),
        ("rsync --server -e.LsfxCIvu . /srv", Use::Alone),
        ("git-upload-pack 'a.git'", Use::Alone),
        ("echo scp ", Use::Shared),
        ("rsync --version", Use::Shared),
    ] {
        let wishes = Wishes { run: Run::Command(command.into()), ..Wishes::default() };
        assert_eq!(use_of(&wishes), how, "{command}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_users_control_persist_decides_how_long_a_session_is_kept() {
    let (pool, node) = (pool(), Node::new(10));
    let wishes = Wishes { keep: Some(Duration::from_secs(3)), ..Wishes::default() };
    lease_of(&pool, &node, "web-1", &wishes).await.unwrap().finish();
    sleep(Duration::from_secs(2)).await;
    assert_eq!(node.sessions().len(), 1);
    sleep(Duration::from_secs(3)).await;
    assert_eq!(node.sessions().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn each_terminal_on_an_old_teleport_has_a_session_of_its_own() {
    let like = Terminal { size: Size::default(), modes: Vec::new() };
    let terminal = Some(Pty { name: "xterm".into(), like, escape: None, need: Need::May });
    let wishes = Wishes { terminal, ..Wishes::default() };
    for (server, sha1, sessions) in
        [("SSH-2.0-Teleport", true, 3), ("SSH-2.0-Teleport", false, 1), ("SSH-2.0-OpenSSH_7.1", true, 1)]
    {
        let (pool, node) = (pool(), Node::of(10, millis(1), server));
        node.sha1.store(sha1, SeqCst);
        for _ in 0..3 {
            lease_of(&pool, &node, "web-1.example.com", &wishes).await.unwrap().finish();
            run(&pool, &node, millis(5)).await.unwrap();
        }
        assert_eq!((node.authentications(), node.sessions().len()), (sessions, 1), "{server} {sha1}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_channel_ahead_is_given_up_on_teleport_and_its_place_comes_back() {
    let (pool, node) = (pool(), Node::of(10, millis(1), "SSH-2.0-Teleport"));
    run(&pool, &node, millis(5)).await.unwrap();
    sleep(millis(10)).await;
    assert_eq!(node.channels(), 1);
    sleep(AHEAD_ON_TELEPORT + Duration::from_secs(2)).await;
    assert_eq!(node.channels(), 0);
    let other = Node::new(10);
    lease_of(&pool, &other, "web-2", &Wishes::default()).await.unwrap().started();
    sleep(AHEAD_ON_TELEPORT + Duration::from_secs(2)).await;
    assert_eq!(other.channels(), 1, "OpenSSH's stays");
}

#[tokio::test(start_paused = true)]
async fn the_session_unused_for_longest_makes_room() {
    let (pool, node) = (pool(), Node::new(10));
    for number in 0..=MOST_SESSIONS {
        lease_of(&pool, &node, &format!("web-{number}"), &Wishes::default()).await.unwrap().finish();
    }
    let shown = pool.report();
    assert_eq!(shown.len(), MOST_SESSIONS);
    assert!(!shown.iter().any(|session| session.node == "web-0:22"));
    assert!(shown.iter().any(|session| session.node == "web-1:22"));
}

#[tokio::test(start_paused = true)]
async fn a_draining_pool_lets_running_commands_finish_and_takes_no_new_ones() {
    let (pool, node) = (pool(), Node::new(1));
    let running = lease(&pool, &node).await.unwrap();
    let other = Node::new(1);
    lease_of(&pool, &other, "web-2", &Wishes::default()).await.unwrap().finish();
    let waiting = tokio::spawn({
        let (pool, node) = (pool.clone(), node.clone());
        async move { lease(&pool, &node).await.map(drop) }
    });
    sleep(millis(1)).await;
    pool.drain();
    assert_eq!(failure(waiting.await.unwrap().unwrap_err()).kind, FailureKind::Draining);
    assert_eq!(failure(lease(&pool, &node).await.map(drop).unwrap_err()).kind, FailureKind::Draining);
    assert_eq!((other.sessions().len(), node.sessions().len()), (0, 1));
    running.finish();
    drop(running);
    sleep(Duration::from_secs(1)).await;
    assert_eq!((node.sessions().len(), pool.report().len()), (0, 0));
}

/// Callers of all kinds on a few threads at once: whatever they do, nothing is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_on_real_threads_leaves_nothing_behind() {
    let (pool, node) = (pool(), Node::of(3, millis(2), "SSH-2.0-OpenSSH"));
    let callers: Vec<_> = (0..200u64)
        .map(|number| {
            let (pool, node) = (pool.clone(), node.clone());
            tokio::spawn(async move {
                for round in 0..5 {
                    let patience = millis(1 + (number * 7 + round * 31) % 60);
                    let work = run(&pool, &node, millis(number % 4));
                    match number % 5 {
                        0 => drop(tokio::time::timeout(patience, work).await),
                        1 if round == 2 => drop(node.sessions().first().map(|line| line.cut())),
                        // A session may be cut before the command was sent, twice in a row.
                        _ => drop(work.await),
                    }
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    for _ in 0..200 {
        if pool.report().iter().all(|session| session.channels == 0 && session.waiting == 0) {
            break;
        }
        sleep(millis(20)).await;
    }
    assert!(pool.report().iter().all(|session| session.channels == 0), "{:?}", pool.report());
    assert!(node.channels() <= u32::try_from(node.sessions().len()).unwrap(), "one ahead each at most");
    pool.close(None);
    assert_eq!((node.sessions().len(), node.channels()), (0, 0));
}
