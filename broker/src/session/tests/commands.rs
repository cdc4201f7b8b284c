//! What is run on a session: bytes, ends and limits.

use super::sshd::{PATIENCE, Sshd};
use crate::session::{Event, OpenError, Remote, Running, Session};
use crate::target::{Need, Pty, Run, Wishes};
use bytes::Bytes;
use natssh_wire::frame::Output;
use natssh_wire::terminal::{Size, Terminal};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// What a command did.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Done {
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
    pub(super) end: Event,
}

/// Nothing beside it.
fn to_run(run: Run) -> Wishes {
    Wishes { run, ..Wishes::default() }
}

pub(super) async fn start(session: &Arc<Session>, command: &str) -> Running {
    let running = session.channel().await.unwrap();
    running.start(&to_run(Run::Command(command.into()))).await.unwrap();
    running
}

/// Everything that happens, to the end.
pub(super) async fn finish(running: &Running) -> Done {
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

pub(super) async fn run(session: &Arc<Session>, command: &str) -> Done {
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
    third.start(&to_run(Run::Command(b"echo third".to_vec()))).await.unwrap();
    assert_eq!(finish(&third).await.stdout, b"third\n");
    drop(second);
}

#[tokio::test]
async fn a_channel_that_nobody_waits_for_any_more_is_closed_when_it_comes() {
    let Some(sshd) = Sshd::start("MaxSessions 1").await else { return };
    let session = sshd.session().await;
    // It is asked for, and given up on at once.
    assert!(timeout(Duration::ZERO, session.channel()).await.is_err());
    let next = timeout(PATIENCE, async {
        loop {
            if let Ok(channel) = session.channel().await {
                return channel;
            }
        }
    });
    drop(next.await.expect("the place is given back"));
}

#[tokio::test]
async fn the_environment_arrives_as_far_as_the_node_takes_it() {
    let Some(sshd) = Sshd::start("").await else { return };
    let session = sshd.session().await;
    let running = session.channel().await.unwrap();
    let environment =
        [("LC_NATSSH", "a b'c"), ("OTHER", "x")].map(|(name, value)| (name.into(), value.into()));
    let command = b"printf '%s,%s' \"$LC_NATSSH\" \"$OTHER\"".to_vec();
    let wishes =
        Wishes { environment: environment.to_vec(), run: Run::Command(command), ..Wishes::default() };
    running.start(&wishes).await.unwrap();
    assert_eq!(finish(&running).await.stdout, b"a b'c,");
}

#[tokio::test]
async fn a_shell_reads_its_commands_from_its_input() {
    let Some(sshd) = Sshd::start("").await else { return };
    let session = sshd.session().await;
    let running = session.channel().await.unwrap();
    running.start(&to_run(Run::Shell)).await.unwrap();
    running.write(Bytes::from_static(b"echo from the shell; exit 4\n")).await.unwrap();
    let done = finish(&running).await;
    assert_eq!((done.stdout.as_slice(), done.end), (&b"from the shell\n"[..], Event::Exit(4)));
}

/// At a terminal of 100 columns and 40 rows that echoes nothing.
fn at_a_terminal(command: &str) -> Wishes {
    let size = Size { columns: 100, rows: 40, ..Size::default() };
    let like = Terminal { size, modes: vec![(128, 38400), (3, 8), (53, 0)] };
    let pty = Pty { name: "vt52".into(), like, escape: None, need: Need::Must };
    Wishes { terminal: Some(pty), ..to_run(Run::Command(command.into())) }
}

#[tokio::test]
async fn a_command_at_a_terminal_sees_its_size_its_modes_and_its_name() {
    if !rustix::process::geteuid().is_root() {
        // Anybody else's sshd may not give a terminal away wherever terminals do not belong to the group tty.
        return;
    }
    let Some(sshd) = Sshd::start("").await else { return };
    let session = sshd.session().await;
    let running = session.channel().await.unwrap();
    let command = "tty -s && echo $TERM; stty size; stty -a | tr ' ' '\\n' | grep -x -e -echo; stty -a | grep -o 'erase = ^H'; \
        trap 'stty size; exit 3' WINCH; echo ready; while :; do sleep 0.1; done";
    running.start(&at_a_terminal(command)).await.unwrap();
    let mut said = String::new();
    while !said.contains("ready") {
        match timeout(PATIENCE, running.next()).await.expect("something happens") {
            Event::Started => {}
            Event::Output(Output::Stdout, bytes) => said += &String::from_utf8_lossy(&bytes),
            other => panic!("{other:?} after {said}"),
        }
    }
    assert_eq!(said, "vt52\r\n40 100\r\n-echo\r\nerase = ^H\r\nready\r\n");
    // Other commands of the session go on meanwhile.
    running.rekey().await.unwrap();
    running.resize(Size { columns: 132, rows: 43, ..Size::default() }).await.unwrap();
    let done = finish(&running).await;
    assert_eq!((done.stdout.as_slice(), done.end), (&b"43 132\r\n"[..], Event::Exit(3)));
    assert_eq!(run(&session, "echo on").await.stdout, b"on\n");
}

#[tokio::test]
async fn a_terminal_that_is_refused_is_told_and_the_command_runs_without() {
    let Some(sshd) = Sshd::start("PermitTTY no").await else { return };
    let session = sshd.session().await;
    let running = session.channel().await.unwrap();
    running.start(&at_a_terminal("test -t 0 || echo none")).await.unwrap();
    assert_eq!(timeout(PATIENCE, running.next()).await.unwrap(), Event::NoTerminal);
    let done = finish(&running).await;
    assert_eq!((done.stdout.as_slice(), done.end), (&b"none\n"[..], Event::Exit(0)));
}

#[tokio::test]
async fn a_subsystem_that_the_node_does_not_have_is_refused_and_nothing_ran() {
    let Some(sshd) = Sshd::start("").await else { return };
    let session = sshd.session().await;
    let running = session.channel().await.unwrap();
    running.start(&to_run(Run::Subsystem("nothing".into()))).await.unwrap();
    assert_eq!(timeout(PATIENCE, running.next()).await.unwrap(), Event::Refused);
    drop(running);
    assert_eq!(run(&session, "echo on").await.stdout, b"on\n");
}

#[tokio::test]
async fn a_hundred_megabytes_go_both_ways_at_once_and_arrive_whole() {
    let Some(sshd) = Sshd::start("").await else { return };
    let session = sshd.session().await;
    let running = start(&session, "cat").await;
    let write = async {
        for block in blocks() {
            running.write(block).await.unwrap();
        }
        running.finish_writing().await.unwrap();
    };
    let read = async {
        let (mut expected, mut rest) = (blocks(), Bytes::new());
        loop {
            match timeout(PATIENCE, running.next()).await.expect("something happens") {
                Event::Started => {}
                Event::Output(Output::Stdout, mut bytes) => {
                    while !bytes.is_empty() {
                        if rest.is_empty() {
                            rest = expected.next().expect("no more than was sent");
                        }
                        let length = bytes.len().min(rest.len());
                        assert!(bytes.split_to(length) == rest.split_to(length), "other bytes came back");
                    }
                }
                end => {
                    assert_eq!((end, rest.len(), expected.count()), (Event::Exit(0), 0, 0));
                    break;
                }
            }
        }
    };
    tokio::join!(write, read);
    assert_eq!(session.bytes(), (100_000_000, 100_000_000));
}

/// A hundred megabytes in which no two blocks are alike.
fn blocks() -> impl Iterator<Item = Bytes> {
    (0u64..2000).map(|n| {
        let mut state = n + 1;
        let byte = |_| {
            // xorshift64
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        };
        (0..50_000).map(byte).collect()
    })
}
