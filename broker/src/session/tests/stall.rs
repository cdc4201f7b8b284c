//! Readers that stop, and nodes that do not answer.

use super::commands::{Done, finish, run, start};
use super::sshd::{PATIENCE, Sshd};
use crate::session::{Alive, Event, Health, Remote, Running, Session};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf, split};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

/// Prints 48 MB that can be told from any others, the second half a while after the first.
const MUCH: &str = "seq 1 3100000; sleep 3; seq 3100001 6200000";

/// What [`MUCH`] prints.
fn much() -> Vec<u8> {
    use std::io::Write as _;
    let mut text = Vec::with_capacity(50 << 20);
    for n in 1..=6_200_000 {
        writeln!(text, "{n}").unwrap();
    }
    text
}

async fn until_private(session: &Arc<Session>) {
    let mut private = session.private();
    timeout(PATIENCE, private.wait_for(|private| *private)).await.expect("it turns private").unwrap();
}

async fn read_whole(running: &Running) {
    let Done { stdout, end, .. } = finish(running).await;
    assert!(stdout == much(), "other bytes: {} of them", stdout.len());
    assert_eq!(end, Event::Exit(0));
}

#[tokio::test]
async fn fifty_commands_run_on_beside_one_whose_reader_stopped() {
    let Some(sshd) = Sshd::start("MaxSessions 60").await else { return };
    let session = sshd.session().await;
    let mut beside = Vec::new();
    for _ in 0..50 {
        beside.push(start(&session, "read x; for n in 1 2 3 4 5; do echo $n; sleep 0.05; done").await);
    }
    let stopped = start(&session, MUCH).await;
    until_private(&session).await;
    for running in &beside {
        running.write("go\n".into()).await.unwrap();
    }
    for running in &beside {
        let done = finish(running).await;
        assert_eq!((done.stdout.as_slice(), done.end), (&b"1\n2\n3\n4\n5\n"[..], Event::Exit(0)));
    }
    read_whole(&stopped).await;
    assert!(!session.is_private());
    assert_eq!(run(&session, "echo on").await.stdout, b"on\n");
}

#[tokio::test]
async fn a_connection_that_is_held_keeps_itself_alive_and_loses_nothing() {
    let Some(sshd) = Sshd::start("ClientAliveInterval 2\nClientAliveCountMax 3").await else { return };
    // Beside a neighbour the file fills up, and then the connection is held: the server asks behind what it has sent.
    let sshd = sshd.with_small_stores(1 << 20, 2 << 20, 64 << 20);
    let session = sshd.session().await;
    let neighbour = start(&session, "cat").await;
    let stopped = start(&session, MUCH).await;
    until_private(&session).await;
    tokio::time::sleep(Duration::from_secs(18)).await;
    assert_eq!(*session.ended().borrow(), None);
    read_whole(&stopped).await;
    neighbour.finish_writing().await.unwrap();
    assert_eq!(finish(&neighbour).await.end, Event::Exit(0));
}

#[tokio::test]
async fn a_connection_that_is_held_asks_nothing_of_a_node_whose_socket_is_full() {
    let Some(sshd) = Sshd::start("ClientAliveInterval 2\nClientAliveCountMax 2").await else { return };
    let sshd = sshd.with_small_stores(1 << 20, 2 << 20, 64 << 20);
    let (near, _node) = sshd.on_a_socket_pair();
    let alive = Alive::new(Some((Duration::from_secs(2), 3)));
    let session = sshd.open_over(near, &sshd.target(), alive).await.unwrap();
    let stopped = start(&session, MUCH).await;
    until_private(&session).await;
    tokio::time::sleep(Duration::from_secs(18)).await;
    assert_eq!(*session.ended().borrow(), None);
    read_whole(&stopped).await;
}

#[tokio::test]
async fn a_reader_that_leaves_frees_the_session_for_others() {
    let Some(sshd) = Sshd::start("").await else { return };
    let session = sshd.session().await;
    let stopped = start(&session, "cat /dev/zero").await;
    until_private(&session).await;
    drop(stopped);
    let mut private = session.private();
    timeout(PATIENCE, private.wait_for(|private| !*private)).await.unwrap().unwrap();
    assert_eq!(run(&session, "echo on").await.stdout, b"on\n");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn output_that_cannot_be_read_back_costs_the_session_no_channel() {
    let Some(sshd) = Sshd::start("MaxSessions 2").await else { return };
    let sshd = sshd.with_small_stores(64 << 10, 2 << 20, 0);
    let session = sshd.session().await;
    // Beside a neighbour the rest goes to the file.
    let _neighbour = start(&session, "cat").await;
    let spilled = start(&session, "head -c 1000000 /dev/zero; exec cat").await;
    let all = async {
        while session.bytes().1 < 1_000_000 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, all).await.expect("it prints");
    for file in std::fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path()) {
        if std::fs::read_link(&file).is_ok_and(|target| target.starts_with(sshd.path("stores"))) {
            std::fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(0).unwrap();
        }
    }
    let Event::Cut(reason) = finish(&spilled).await.end else { panic!("it was read") };
    assert!(reason.starts_with("its unread output cannot be read from the disk"), "{reason}");
    drop(spilled);
    let next = timeout(PATIENCE, async { while session.channel().await.is_err() {} });
    next.await.expect("the place is given back");
}

#[tokio::test]
async fn a_node_that_stops_answering_ends_its_session_with_the_reason() {
    let Some(sshd) = Sshd::start("").await else { return };
    let (near, far) = tokio::io::duplex(64 << 10);
    let (near_read, near_write) = split(far);
    let (node_read, node_write) = split(TcpStream::connect(sshd.address()).await.unwrap());
    let frozen = Arc::new(AtomicBool::new(false));
    tokio::spawn(carry(near_read, node_write, frozen.clone()));
    tokio::spawn(carry(node_read, near_write, frozen.clone()));
    let alive = Alive::new(Some((Duration::from_secs(2), 3)));
    let session = sshd.open_over(near, &sshd.target(), alive).await.unwrap();
    let running = start(&session, "echo ready; sleep 60").await;
    assert_eq!(running.next().await, Event::Started);
    frozen.store(true, Ordering::Relaxed);
    let begun = Instant::now();
    let Event::Cut(reason) = finish(&running).await.end else { panic!("it did not end") };
    assert!(reason.starts_with("no answer for "), "{reason}");
    assert!(begun.elapsed() >= Duration::from_secs(4), "{:?}", begun.elapsed());
    let mut health = session.health();
    timeout(PATIENCE, health.wait_for(|health| *health == Health::Ended)).await.unwrap().unwrap();
    assert!(session.channel().await.is_err());
}

/// Carries bytes while the path is not frozen.
async fn carry<A, B>(mut from: ReadHalf<A>, mut to: WriteHalf<B>, frozen: Arc<AtomicBool>)
where
    A: tokio::io::AsyncRead,
    B: tokio::io::AsyncWrite,
{
    let mut bytes = [0; 16 << 10];
    while let Ok(length @ 1..) = from.read(&mut bytes).await {
        while frozen.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        if to.write_all(&bytes[..length]).await.is_err() {
            return;
        }
    }
}
