//! A client that has its stream before the node is there: its first line travels with the question, and a
//! refusal reaches it as an SSH server's would.

use natssh_lab::Fault;
use natssh_lab::faults::{NodeFault, ProxyFault};
use natssh_tests::door::{connect, try_connect_unheard};
use natssh_tests::{Plan, World, need, run, until};
use natssh_wire::FailureKind;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

const GREETING: &[u8] = b"SSH-2.0-story\r\n";
const LONG: Duration = Duration::from_secs(8);

#[test]
fn the_clients_first_line_is_with_the_node_before_the_proxy_has_answered() {
    need!("ssh", "sshd");
    let rtt = Duration::from_millis(400);
    let world = Plan::new().round_trip(rtt).start();
    run(world.ssh(&["worker", "true"])).ok();
    let began = Instant::now();
    let mut early = handed(&world, LONG);
    let there = began.elapsed();
    early.write_all(GREETING).unwrap();
    // The node's own line and the beginning of the key exchange, which it sends only to who has greeted it.
    let said = at_least(&mut early, 600);
    let took = began.elapsed();
    assert!(said.starts_with(b"SSH-2.0-OpenSSH"), "{}", String::from_utf8_lossy(&said));
    // A channel, then the question and the greeting behind it: two round trips, and a third without.
    assert!(took < rtt * 5 / 2, "{took:?}, and the stream was there after {there:?}");
    assert!(there < rtt * 3 / 2, "{there:?}");
}

#[test]
fn a_refusal_is_told_in_the_stream_whenever_its_client_greets() {
    let world = Plan::new().start();
    world.fault(Fault::Node(NodeFault::Offline { node: "worker".into() }));
    for pause in [Duration::ZERO, Duration::from_millis(300)] {
        let mut stream = handed(&world, LONG);
        std::thread::sleep(pause);
        stream.write_all(GREETING).expect("the stream is still there for the greeting");
        assert_eq!(
            refusal(&mut stream),
            "natssh: node worker is offline: the proxy knows it, but it has no tunnel (tsh ls)"
        );
    }
    assert!(world.why("worker").text().contains("node worker is offline"));
}

#[test]
fn a_stream_that_follows_another_finds_its_channel_open() {
    let rtt = Duration::from_millis(300);
    let world = Plan::new().round_trip(rtt).start();
    let _first = connect(&world.socket(), "worker:22");
    std::thread::sleep(rtt * 3 / 2);
    let began = Instant::now();
    let mut second = handed(&world, LONG);
    second.write_all(GREETING).unwrap();
    at_least(&mut second, 600);
    assert!(began.elapsed() < rtt * 3 / 2, "{:?}", began.elapsed());
    assert_eq!(world.upstream().streams, 2, "nobody has the channel that is there for the next one");
}

#[test]
fn what_is_known_without_the_proxy_is_told_in_the_answer() {
    let world = Plan::new().start();
    world.fault(Fault::Proxy(ProxyFault::Stop));
    let refused = try_connect_unheard(&world.socket(), "worker:22", Duration::from_secs(1));
    assert_eq!(refused.err().map(|failure| failure.kind), Some(FailureKind::Unreachable));
}

#[test]
fn a_client_that_leaves_takes_its_question_with_it() {
    let world = Plan::new().start();
    world.fault(Fault::Node(NodeFault::Freeze { node: "worker".into() }));
    let stream = handed(&world, LONG);
    until("the question is with the proxy", || (world.upstream().streams == 1).then_some(()));
    drop(stream);
    world.until_upstream("the question is taken back", |upstream| upstream.streams == 0);
    assert_eq!(world.why("worker").code, Some(0), "who leaves at once had a reason of its own");
}

#[test]
fn a_frozen_node_is_given_up_by_the_brokers_clock() {
    let world = Plan::new().start();
    world.fault(Fault::Node(NodeFault::Freeze { node: "worker".into() }));
    let began = Instant::now();
    let mut stream = handed(&world, Duration::from_secs(1));
    stream.write_all(GREETING).unwrap();
    let sentence = refusal(&mut stream);
    assert!(sentence.contains("did not answer for node worker:22"), "{sentence}");
    assert!(began.elapsed() < Duration::from_secs(2));
}

fn handed(world: &World, patience: Duration) -> UnixStream {
    try_connect_unheard(&world.socket(), "worker:22", patience).expect("200 before the verdict")
}

/// Reads until there are so many bytes.
fn at_least(stream: &mut UnixStream, count: usize) -> Vec<u8> {
    let mut all = vec![0; count];
    stream.read_exact(&mut all).expect("the node goes on");
    all
}

/// What an SSH server's disconnect says, which must be the last there is.
fn refusal(stream: &mut UnixStream) -> String {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).expect("an end");
    let text = String::from_utf8_lossy(&all).into_owned();
    let packet = all.iter().position(|byte| *byte == b'\n').map(|end| &all[end + 1..]).unwrap_or_default();
    assert!(
        text.starts_with("SSH-2.0-natssh_") && packet.len() > 14 && packet[5] == 1,
        "no disconnect: {text}"
    );
    let length = u32::from_be_bytes(packet[10..14].try_into().unwrap()) as usize;
    String::from_utf8(packet[14..14 + length].to_vec()).expect("a sentence")
}
