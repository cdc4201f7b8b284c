//! Nothing that knocks at the local socket harms the broker or a stream that is open: it is
//! refused or timed out, and counted.

use natssh_tests::door::{ask, connect, knock};
use natssh_tests::{Plan, World, run};
use natssh_wire::status::Requests;
use natssh_wire::{Failure, FailureKind};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// A client has 5 s for its request.
const TIMED_OUT: std::ops::Range<Duration> = Duration::from_millis(4500)..Duration::from_millis(8000);

#[test]
fn garbage_oversized_and_unknown_requests_are_refused_and_counted() {
    let (world, mut stream) = world_with_a_stream();
    let oversized = format!("GET /v1/status HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
    let many = format!("GET /v1/status HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(5000));
    let garbage: [(&str, &[u8]); 9] = [
        ("no HTTP", b"hello\r\n\r\n"),
        ("an ssh client", b"SSH-2.0-OpenSSH_9.2\r\n"),
        ("zeros", &[0; 4096]),
        ("a TLS client", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ("a header of 1 MiB", oversized.as_bytes()),
        ("five thousand headers", many.as_bytes()),
        ("a path that is none", b"GET /v1/stat%us%%% HTTP/1.1\r\nHost: natssh\r\n\r\n"),
        ("another method", b"DELETE /v1/status HTTP/1.1\r\nHost: natssh\r\n\r\n"),
    ];
    for (what, bytes) in garbage {
        let before = requests(&world);
        let answer = send(&world, bytes);
        assert!(!answer.starts_with("HTTP/1.1 200"), "{what}: {answer}");
        world.until_status(what, |status| status.requests.malformed == before.malformed + 1);
        echoes(&mut stream);
    }
}

#[test]
fn a_refusal_says_what_was_wrong_and_what_to_type() {
    let world = Plan::new().start();
    for (method, path) in
        [("GET", "/v2/status"), ("POST", "/v1/status"), ("GET", "/"), ("GET", "/v1/failures?x")]
    {
        let answer = ask(&world.socket(), method, path).expect("an answer");
        let failure: Failure = serde_json::from_str(&answer.body).expect("a failure as JSON");
        assert_eq!((answer.status, failure.kind), (400, FailureKind::BadRequest), "{path}");
        assert!(!failure.message.is_empty(), "{path}");
    }
    for target in [
        "worker:0",
        "worker:65536",
        "worker",
        "a b:22",
        "root@worker:22",
        "worker:ssh",
        &format!("{}:22", "x".repeat(300)),
    ] {
        let answer = send(&world, format!("CONNECT {target} HTTP/1.1\r\nHost: natssh\r\n\r\n").as_bytes());
        assert!(answer.starts_with("HTTP/1.1 400"), "{target:?}: {answer}");
    }
    assert_eq!(world.upstream().dials_ok, 0, "the proxy was asked");
}

#[test]
fn another_version_of_the_local_api_is_refused_with_what_to_type() {
    let world = Plan::new().start();
    for version in ["0", "2", "x", ""] {
        let request = format!(
            "GET /v1/status HTTP/1.1\r\nHost: natssh\r\nNatssh-Protocol: {version}\r\nConnection: close\r\n\r\n"
        );
        let answer = send(&world, request.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 426"), "{answer}");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
        let failure: Failure = serde_json::from_str(body).expect("a failure as JSON");
        assert_eq!(failure.kind, FailureKind::Version);
        assert_eq!(failure.hint.as_deref(), Some("natssh broker restart"));
    }
}

#[test]
fn a_client_that_does_not_finish_its_request_is_timed_out_and_counted() {
    let (world, mut stream) = world_with_a_stream();
    let begun = Instant::now();
    let unfinished: [&[u8]; 3] = [b"", b"CONNECT worker:22 HTTP/1.1\r\nNatssh-", b"G"];
    let mut clients: Vec<_> = unfinished.iter().map(|bytes| start(&world, bytes)).collect();
    for client in &mut clients {
        client.read_to_end(&mut Vec::new()).expect("closed in good order");
        assert!(TIMED_OUT.contains(&begun.elapsed()), "{:?}", begun.elapsed());
    }
    world.until_status("all three are counted", |status| status.requests.timed_out == 3);
    echoes(&mut stream);
}

#[test]
fn clients_that_leave_in_the_middle_leave_nothing_behind() {
    let (world, mut stream) = world_with_a_stream();
    let open = descriptors(&world);
    for n in 0..200 {
        let request = b"CONNECT worker:22 HTTP/1.1\r\nHost: worker\r\n\r\n";
        drop(start(&world, &request[..n * request.len() / 200]));
    }
    world.until_status("they are gone", |_| descriptors(&world) <= open);
    echoes(&mut stream);
    run(world.ssh(&["worker", "true"])).ok();
}

#[test]
fn five_hundred_idle_connections_keep_nobody_out() {
    let (world, mut stream) = world_with_a_stream();
    let idle: Vec<_> = (0..500).map(|_| start(&world, b"")).collect();
    let begun = Instant::now();
    run(world.ssh(&["worker", "true"])).ok();
    assert!(begun.elapsed() < Duration::from_secs(4), "they had not ended yet");
    echoes(&mut stream);
    world.until_status("all are counted", |status| status.requests.timed_out >= 500);
    drop(idle);
}

/// A world with a stream to a server that sends back what it gets.
fn world_with_a_stream() -> (World, UnixStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("the broker comes");
        std::io::copy(&mut &stream, &mut &stream)
    });
    let world = Plan::new().start();
    // The proxy's own host is reached directly.
    let mut stream = connect(&world.socket(), &address.to_string());
    echoes(&mut stream);
    (world, stream)
}

/// The stream is alive, and nothing of anybody else's is in it.
#[track_caller]
fn echoes(stream: &mut UnixStream) {
    let sent = format!("{:?}", Instant::now());
    stream.write_all(sent.as_bytes()).expect("the stream takes bytes");
    let mut came = vec![0; sent.len()];
    stream.read_exact(&mut came).expect("the stream brings bytes");
    assert_eq!(came, sent.as_bytes());
}

/// A connection on which this was sent and nothing follows yet.
fn start(world: &World, bytes: &[u8]) -> UnixStream {
    let mut client = knock(&world.socket()).expect("the broker listens");
    client.write_all(bytes).expect("the broker takes it");
    client
}

/// Sends bytes, and no more; the whole answer.
fn send(world: &World, bytes: &[u8]) -> String {
    let mut client = knock(&world.socket()).expect("the broker listens");
    // It may close before it has read all.
    let _ = client.write_all(bytes);
    let _ = client.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    let _ = client.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn requests(world: &World) -> Requests {
    world.status().requests
}

/// How many descriptors the broker has open.
fn descriptors(world: &World) -> usize {
    let pid = world.broker_pid().expect("the broker runs").as_raw_nonzero();
    std::fs::read_dir(format!("/proc/{pid}/fd")).expect("our own process").count()
}
