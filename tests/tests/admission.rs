//! However many connect at once, a server sees only as many handshakes as it takes: nobody is
//! dropped by an sshd for its MaxStartups, and who cannot be served in time hears why.

use natssh_tests::door::{connect, try_connect};
use natssh_tests::{Plan, Running, Sshd, World, need, run};
use natssh_wire::{Failure, FailureKind};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// What ssh and Ansible have at most.
const PATIENCE: Duration = Duration::from_secs(9);
/// How long each of many stays in the middle of its handshake.
const HANDSHAKE: Duration = Duration::from_millis(100);
/// What sshd writes, at the level VERBOSE, when it drops a connection for its MaxStartups.
const DROPPED: &str = "drop connection #";

#[test]
fn five_hundred_dials_at_once_are_served_or_told_busy_and_none_is_dropped() {
    need!("sshd");
    let world = Plan::new().start();
    let sshd = sshd(&world);
    let (socket, address) = (world.socket(), sshd.address());
    let begun = Instant::now();
    let dials: Vec<_> = (0..500)
        .map(|_| {
            let socket = socket.clone();
            std::thread::Builder::new()
                .stack_size(256 << 10)
                .spawn(move || half_a_handshake(&socket, address))
                .expect("a thread for each")
        })
        .collect();
    let mut served = 0;
    let mut told: BTreeMap<String, usize> = BTreeMap::new();
    for dial in dials {
        match dial.join().expect("no dial hangs or is cut") {
            Ok(()) => served += 1,
            Err(failure) => {
                assert_eq!(failure.kind, FailureKind::Busy, "{failure}");
                let begin = format!("{address} is busy: 8 handshakes in flight, ");
                assert!(failure.message.starts_with(&begin), "{failure}");
                *told.entry(failure.message).or_default() += 1;
            }
        }
    }
    let took = begun.elapsed();
    let busy: usize = told.values().sum();
    println!("{served} served, {busy} told busy, after {took:?}");
    assert_eq!(sshd.log_lines(DROPPED), 0, "sshd dropped some");
    assert_eq!(served + busy, 500);
    // Eight at a time, each 2 s at the very most.
    assert!(served >= 24, "{served}");
    let direct = direct(&world);
    assert_eq!((direct.told_busy, direct.handshakes), (busy as u64, vec![]));
}

/// The control: the same without the broker, so that the test above is known to measure something.
#[test]
fn without_the_broker_such_an_sshd_drops_some() {
    need!("sshd");
    let world = Plan::new().without_broker().start();
    let sshd = sshd(&world);
    let held: Vec<_> = (0..60).map(|_| std::net::TcpStream::connect(sshd.address())).collect();
    natssh_tests::until("sshd drops some", || (sshd.log_lines(DROPPED) > 0).then_some(()));
    drop(held);
}

#[test]
fn real_clients_at_once_get_through_or_say_that_the_server_is_busy() {
    need!("sshd", "ssh");
    let world = Plan::new().start();
    let sshd = sshd(&world);
    let port = sshd.address().port().to_string();
    let natssh = natssh_tests::programs::path("natssh");
    let proxy = format!("ProxyCommand={} proxy %h %p --connect-timeout 9", natssh.display());
    let words = ["-o", &proxy, "-o", "HostKeyAlias=listening", "-p", &port, "127.0.0.1", "true"];
    let clients: Vec<_> = (0..16).map(|_| Running::start(world.ssh(&words))).collect();
    let mut through = 0;
    for client in clients {
        let said = client.end();
        match said.code {
            Some(0) => through += 1,
            _ => assert!(said.unreachable().contains(" is busy: 8 handshakes in flight, "), "{said:?}"),
        }
    }
    assert_eq!(sshd.log_lines(DROPPED), 0, "sshd dropped some");
    assert_eq!(sshd.log_lines("Accepted publickey"), through);
    assert!(through >= 8, "{through}");
}

#[test]
fn the_line_is_in_the_status_while_it_lasts() {
    need!("sshd");
    let world = Plan::new().config("[upstream.direct]\nkind = \"direct\"\nhandshakes = 1\n").start();
    let sshd = sshd(&world);
    let node = sshd.address().to_string();
    let first = connect(&world.socket(), &node);
    let (socket, second) = (world.socket(), node.clone());
    let waits = std::thread::spawn(move || try_connect(&socket, &second, PATIENCE).map(drop));
    let line = world.until_status("one waits", |status| {
        status.upstreams.iter().any(|u| u.handshakes.iter().any(|line| line.waiting == 1))
    });
    let line = &line.upstreams.iter().find(|u| u.name == "direct").expect("always there").handshakes[0];
    assert_eq!((&line.server, line.in_flight, line.limit), (&node, 1, 1));
    let status = run(world.natssh(&["status"])).text();
    let told = format!("direct: 1 caller waiting for {node}: 1 of 1 handshakes in flight");
    assert!(status.contains(&told), "{status}");
    drop(first);
    waits.join().expect("no panic").expect("its turn came");
}

#[test]
fn each_stream_gives_its_place_back_two_seconds_after_its_own_first_byte() {
    need!("sshd");
    let world = Plan::new().config("[upstream.direct]\nkind = \"direct\"\nhandshakes = 1\n").start();
    let sshd = sshd(&world);
    let node = sshd.address().to_string();
    let mut held = Vec::new();
    for _ in 0..4 {
        // 10 s is what a node that says nothing costs: more than anybody waits.
        let mut stream = try_connect(&world.socket(), &node, PATIENCE).expect("its turn comes in time");
        assert!(first_line(&mut stream).starts_with("SSH-2.0-OpenSSH"), "dropped");
        held.push(stream);
    }
}

/// The beginning of a handshake, a pause in the middle, and no end.
fn half_a_handshake(socket: &std::path::Path, address: SocketAddr) -> Result<(), Failure> {
    let mut stream = try_connect(socket, &address.to_string(), PATIENCE)?;
    stream.write_all(b"SSH-2.0-story\r\n").expect("the server reads");
    assert!(first_line(&mut stream).starts_with("SSH-2.0-OpenSSH"), "dropped");
    std::thread::sleep(HANDSHAKE);
    Ok(())
}

fn first_line(stream: &mut UnixStream) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while !line.ends_with(b"\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
        line.push(byte[0]);
    }
    String::from_utf8_lossy(&line).into_owned()
}

/// An sshd with the MaxStartups that OpenSSH comes with.
fn sshd(world: &World) -> Sshd {
    world.listening_sshd(&world.user_ca(), "MaxStartups 10:30:100")
}

fn direct(world: &World) -> natssh_wire::status::Upstream {
    let settled = |status: &natssh_wire::status::Status| {
        status.upstreams.iter().all(|upstream| upstream.handshakes.is_empty())
    };
    let status = world.until_status("all handshakes are over", settled);
    status.upstreams.into_iter().find(|upstream| upstream.name == "direct").expect("always there")
}
