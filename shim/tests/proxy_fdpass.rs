//! ssh's `ProxyUseFdpass`: the stream itself arrives, complete, and no process stays.

mod fake;

use fake::{CONNECTED, FakeBroker};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};
use std::time::Duration;

const BANNER: &[u8] = b"SSH-2.0-node\r\n\0\x01binary";

/// Starts `natssh proxy` as ssh does: one end of a socket pair is both its stdin and its stdout.
fn as_ssh_does(broker: &FakeBroker, words: &[&str]) -> (UnixStream, Child) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(fake::PATIENCE)).unwrap();
    (ours, spawn(broker, words, theirs))
}

fn spawn(broker: &FakeBroker, words: &[&str], end: UnixStream) -> Child {
    let mut command = broker.natssh(words);
    command.stdin(OwnedFd::from(end.try_clone().unwrap())).stdout(OwnedFd::from(end)).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// Programs that other tests start meanwhile shall not hold what is received; elsewhere they might.
#[cfg(target_os = "linux")]
const RECEIVE: RecvFlags = RecvFlags::CMSG_CLOEXEC;
#[cfg(not(target_os = "linux"))]
const RECEIVE: RecvFlags = RecvFlags::empty();

/// What ssh does: one byte, one descriptor.
fn receive(from: &UnixStream) -> (usize, Option<OwnedFd>) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [9; 1];
    let read = recvmsg(from, &mut [IoSliceMut::new(&mut byte)], &mut control, RECEIVE).unwrap();
    let mut passed: Vec<OwnedFd> = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        })
        .flatten()
        .collect();
    assert!(passed.len() <= 1, "more than one descriptor");
    (read.bytes, passed.pop())
}

#[test]
fn the_passed_stream_begins_with_the_banner_that_followed_the_head() {
    // All in one write, then byte by byte: where the head ends must not depend on how it comes.
    let (one, many) = (CONNECTED.len() + BANNER.len(), 1);
    for chunk in [one, many, 7] {
        let broker = FakeBroker::serve(move |mut stream| {
            for part in [CONNECTED, BANNER].concat().chunks(chunk) {
                stream.write_all(part).unwrap();
                if chunk < 8 {
                    std::thread::sleep(Duration::from_micros(200));
                }
            }
            let mut line = [0; 5];
            stream.read_exact(&mut line).unwrap();
            stream.write_all(&line).unwrap();
        });
        let (ssh, shim) = as_ssh_does(&broker, &["proxy", "web-3", "22", "--login", "root"]);
        let (bytes, passed) = receive(&ssh);
        assert_eq!(bytes, 1);
        let passed = passed.expect("no descriptor came");
        let done = shim.wait_with_output().unwrap();
        assert!(done.status.success(), "{done:?}");

        let flags = rustix::fs::fcntl_getfl(&passed).unwrap();
        assert!(!flags.contains(rustix::fs::OFlags::NONBLOCK), "ssh expects a blocking descriptor");
        let mut stream = UnixStream::from(passed);
        assert_eq!((stream.read_timeout().unwrap(), stream.write_timeout().unwrap()), (None, None));
        stream.set_read_timeout(Some(fake::PATIENCE)).unwrap();
        let mut banner = vec![0; BANNER.len()];
        stream.read_exact(&mut banner).unwrap();
        assert_eq!(banner, BANNER);
        stream.write_all(b"hello").unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"hello");

        let request = broker.request();
        assert!(request.starts_with("CONNECT web-3:22 HTTP/1.1\r\n"), "{request}");
        assert!(request.contains("\r\nNatssh-Login: root\r\n"), "{request}");
        assert!(!request.contains("Natssh-Agent"), "{request}");
        assert!(!request.contains("Natssh-Verdict"), "this process is not called ssh: {request}");
    }
}

#[test]
fn the_callers_agent_is_named() {
    let broker = FakeBroker::answer(CONNECTED);
    let (code, ..) =
        fake::outcome(broker.natssh(&["proxy", "web", "22"]).env("SSH_AUTH_SOCK", "/run/agent.1"));
    assert_eq!(code, Some(0));
    assert!(broker.request().contains("\r\nNatssh-Agent: /run/agent.1\r\n"));
}

#[test]
fn a_caller_that_speaks_first_gets_bytes_and_no_descriptor() {
    // libssh gives the same pair as ssh, and sends its banner at once.
    let broker = FakeBroker::serve(|mut stream| {
        stream.write_all(&[CONNECTED, BANNER].concat()).unwrap();
        let mut line = [0; 8];
        stream.read_exact(&mut line).unwrap();
        stream.write_all(&line).unwrap();
    });
    let (mut libssh, theirs) = UnixStream::pair().unwrap();
    libssh.write_all(b"SSH-2.0-").unwrap();
    let shim = spawn(&broker, &["proxy", "web", "22"], theirs);
    let mut all = Vec::new();
    libssh.read_to_end(&mut all).unwrap();
    assert_eq!(all, [BANNER, b"SSH-2.0-"].concat());
    assert!(shim.wait_with_output().unwrap().status.success());
}

#[test]
fn two_sockets_are_stdio_and_a_word_decides_otherwise() {
    // Node.js makes its pipes of two socket pairs.
    let broker = FakeBroker::answer([CONNECTED, BANNER].concat());
    for (fdpass, descriptors) in [("auto", 0), ("no", 0), ("yes", 1)] {
        let (_input, their_input) = UnixStream::pair().unwrap();
        let (output, their_output) = UnixStream::pair().unwrap();
        output.set_read_timeout(Some(fake::PATIENCE)).unwrap();
        let mut command = broker.natssh(&["proxy", "web", "22", "--fdpass", fdpass]);
        let mut shim =
            command.stdin(OwnedFd::from(their_input)).stdout(OwnedFd::from(their_output)).spawn().unwrap();
        let (_, passed) = receive(&output);
        assert_eq!(usize::from(passed.is_some()), descriptors, "{fdpass}");
        let in_stream = broker.request().contains("\r\nNatssh-Verdict: in-stream\r\n");
        assert_eq!(in_stream, fdpass == "yes", "{fdpass}");
        assert!(shim.wait().unwrap().success());
    }
}

#[test]
fn a_descriptor_that_cannot_be_passed_is_said() {
    let broker = FakeBroker::answer(CONNECTED);
    let (code, _, stderr) = fake::outcome(&mut broker.natssh(&["proxy", "web", "22", "--fdpass=yes"]));
    assert_eq!(code, Some(255));
    assert!(stderr.contains("no unix socket"), "{stderr}");
}

#[test]
fn a_refusal_passes_nothing() {
    let broker = FakeBroker::answer(fake::json(
        "502 Bad Gateway",
        r#"{"kind":"offline","message":"node web is offline"}"#,
    ));
    let (ssh, shim) = as_ssh_does(&broker, &["proxy", "web", "22"]);
    let (bytes, passed) = receive(&ssh);
    assert_eq!((bytes, passed.is_none()), (0, true));
    let done = shim.wait_with_output().unwrap();
    assert_eq!((done.status.code(), done.stderr), (Some(255), b"natssh: node web is offline\n".to_vec()));
}
