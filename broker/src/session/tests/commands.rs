//! What is run on a session: bytes, ends and limits.

use super::sshd::{PATIENCE, Sshd};
use crate::session::{Event, OpenError, Running, Session};
use crate::target::Run;
use bytes::Bytes;
use natssh_wire::frame::Output;
use std::sync::Arc;
use tokio::time::timeout;

/// What a command did.
#[derive(Debug, PartialEq, Eq)]
struct Done {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    end: Event,
}

async fn start(session: &Arc<Session>, command: &str) -> Running {
    let running = session.channel().await.unwrap();
    running.start(&[], &Run::Command(command.into())).await.unwrap();
    running
}

/// Everything that happens, to the end.
async fn finish(running: &Running) -> Done {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    loop {
        match timeout(PATIENCE, running.next()).await.expect("something happens") {
            Event::Started => {}
            Event::Output(Output::Stdout, bytes) => stdout.extend_from_slice(&bytes),
            Event::Output(Output::Stderr, bytes) => stderr.extend_from_slice(&bytes),
            end => return Done { stdout, stderr, end },
        }
    }
}

async fn run(session: &Arc<Session>, command: &str) -> Done {
    let running = start(session, command).await;
    running.finish_writing().await.unwrap();
    finish(&running).await
}

#[tokio::test]
async fn a_command_gives_its_outputs_and_its_status() {
    let Some(sshd) = Sshd::start("").await else { return };
    let session = sshd.session().await;
    let done = run(&session, "echo out; echo err >&2; exit 7").await;
    assert_eq!((done.stdout, done.stderr, done.end), (b"out\n".into(), b"err\n".into(), Event::Exit(7)));
    for status in [0, 1, 127, 255] {
        assert_eq!(run(&session, &format!("exit {status}")).await.end, Event::Exit(status));
    }
    assert_eq!(session.channels(), 0);
}

#[tokio::test]
async fn death_by_a_signal_is_told_by_its_name() {
    let Some(sshd) = Sshd::start("").await else { return };
    let session = sshd.session().await;
    assert_eq!(run(&session, "kill -TERM $$").await.end, Event::Killed("TERM".into()));
    // sshd passes signals on where it has given up root's rights, and not to root itself.
    let running = start(&session, "echo ready; exec sleep 2").await;
    running.signal("TERM").await.unwrap();
    let end = finish(&running).await.end;
    assert!(matches!(&end, Event::Killed(signal) if signal == "TERM") || end == Event::Exit(0), "{end:?}");
}

#[tokio::test]
async fn the_end_of_input_is_passed_on_and_the_output_goes_on() {
    let Some(sshd) = Sshd::start("").await else { return };
    let session = sshd.session().await;
    let running = start(&session, "cat; sleep 0.2; echo after").await;
    running.write(Bytes::from_static(b"before\n")).await.unwrap();
    running.finish_writing().await.unwrap();
    let done = finish(&running).await;
    assert_eq!((done.stdout.as_slice(), done.end), (&b"before\nafter\n"[..], Event::Exit(0)));
}

#[tokio::test]
async fn no_more_channels_than_the_node_gives() {
    let Some(sshd) = Sshd::start("MaxSessions 2").await else { return };
    let session = sshd.session().await;
    let (first, second) = (session.channel().await.unwrap(), session.channel().await.unwrap());
    assert!(matches!(session.channel().await.err(), Some(OpenError::NoChannel(_))));
    drop(first);
    // The place is free once the node has heard of it.
    let third = timeout(PATIENCE, async {
        loop {
            if let Ok(channel) = session.channel().await {
                return channel;
            }
        }
    });
    let third = third.await.unwrap();
    third.start(&[], &Run::Command(b"echo third".to_vec())).await.unwrap();
    assert_eq!(finish(&third).await.stdout, b"third\n");
    drop(second);
}
