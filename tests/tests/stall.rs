//! A reader that stalls, or a node that does: whoever shares a trunk with it
//! must not notice.

use std::io::{BufReader, ErrorKind, Read, Write};
use std::process::{ChildStdout, Stdio};
use std::time::{Duration, Instant};

use natssh_lab::Fault;
use natssh_lab::faults::NodeFault;
use natssh_tests::node::Listening;
use natssh_tests::wait::PATIENCE;
use natssh_tests::{Plan, Running, World, door, need, run, until};
use rustix::process::Signal;

/// How long a node must not have written to count as stopped.
const QUIET: Duration = Duration::from_millis(300);

/// An ssh in the middle of endless output that is stopped and reads no more;
/// every buffer between it and its node is full.
fn stopped_ssh(world: &World) -> Running {
    let ssh = Running::start(world.ssh(&["worker", "tee written </dev/zero"]));
    until("its output comes", || (ssh.bytes_said() > 1_000_000).then_some(()));
    ssh.signal(Signal::STOP);
    let written = world.lab.folder().node("worker").join("home/written");
    let (mut size, mut since) = (0, Instant::now());
    until("the node writes no more", || {
        let now = std::fs::metadata(&written).map_or(0, |file| file.len());
        if now != size {
            (size, since) = (now, Instant::now());
        }
        (since.elapsed() > QUIET).then_some(())
    });
    ssh
}

#[test]
fn fifty_running_commands_end_while_an_ssh_is_stopped() {
    need!("ssh", "sshd");
    let world = Plan::new().start();
    let mut running: Vec<_> = (0..50)
        .map(|_| Running::interactive(world.ssh(&["worker", "echo runs; read word; echo $word"])))
        .collect();
    running.iter().for_each(|ssh| ssh.until_said("runs"));
    let stopped = stopped_ssh(&world);
    assert_eq!(world.upstream().trunks.len(), 1, "all share one trunk");
    let begun = Instant::now();
    for ssh in &mut running {
        ssh.write(b"ends\n");
    }
    for ssh in running {
        assert_eq!(ssh.end().ok(), "runs\nends\n");
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    stopped.signal(Signal::CONT);
    let before = stopped.bytes_said();
    until("the stopped one goes on", || (stopped.bytes_said() > before).then_some(()));
    assert_eq!(world.upstream().streams_cut, 0);
}

#[test]
fn two_hundred_megabytes_pass_while_an_ssh_is_stopped() {
    need!("ssh", "sshd");
    let world = Plan::new().start();
    let stopped = stopped_ssh(&world);
    let make = "seq 30000000 | head -c 200000000";
    let mut shell = world.command("sh");
    let ssh = format!("ssh -F {} control-plane '{make}'", world.ssh_config_path().display());
    shell.args(["-c", &format!("{ssh} | sha256sum; {make} | sha256sum")]);
    let said = Running::start(shell).end_within(Duration::from_secs(120)).ok();
    let sums: Vec<_> = said.lines().collect();
    assert_eq!(sums[0], sums[1]);
    assert_eq!(world.upstream().trunks.len(), 1, "both share one trunk");
    drop(stopped);
}

#[test]
fn a_node_that_reads_no_more_stops_no_other_upload() {
    need!("ssh", "sshd");
    let world = Plan::new().start();
    let mut shell = world.command("sh");
    let upload = format!(
        "cat /dev/zero | ssh -F {} worker 'echo takes; cat >/dev/null'",
        world.ssh_config_path().display()
    );
    shell.args(["-c", &upload]);
    let stuck = Running::start(shell);
    stuck.until_said("takes");
    world.fault(Fault::Node(NodeFault::Freeze { node: "worker".into() }));

    let mut shell = world.command("sh");
    let upload = format!(
        "head -c 50000000 /dev/zero | ssh -F {} control-plane 'wc -c'",
        world.ssh_config_path().display()
    );
    shell.args(["-c", &upload]);
    assert_eq!(run(shell).ok().trim(), "50000000");
    assert_eq!(world.upstream().trunks.len(), 1, "both share one trunk");
    world.fault(Fault::Node(NodeFault::Thaw { node: "worker".into() }));
    drop(stuck);
}

/// The stand-in proxy takes what it is sent. OpenSSH's server gives back the
/// window only for what was read, as Go's library does: here it is the proxy.
#[test]
fn a_stream_whose_window_is_shut_stops_no_other_writer() {
    need!("ssh", "sshd");
    let world = Plan::new().without_broker().start();
    let _proxy =
        world.sshd_as_proxy(&[("proxy:stuck:22@lab", "exec sleep 600"), ("proxy:echo:22@lab", "exec cat")]);
    world.start_broker();

    let mut early = door::connect(&world.socket(), "echo:22");
    let mut stuck = door::connect(&world.socket(), "stuck:22");
    stuck.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let chunk = vec![7; 64 << 10];
    let mut taken = 0;
    loop {
        match stuck.write(&chunk) {
            Ok(count) => taken += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(taken >= 2 << 20, "its window was used up: {taken}");

    let mut late = door::connect(&world.socket(), "echo:22");
    for stream in [&mut early, &mut late] {
        let begun = Instant::now();
        let sent = vec![42; 8 << 20];
        let mut writer = stream.try_clone().unwrap();
        let bytes = sent.clone();
        let writing = std::thread::spawn(move || writer.write_all(&bytes));
        let mut back = vec![0; sent.len()];
        stream.read_exact(&mut back).unwrap();
        writing.join().unwrap().unwrap();
        assert!(back == sent);
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    }
    let upstream = world.upstream();
    assert_eq!((upstream.trunks.len(), upstream.streams), (1, 3), "all share one trunk");
}

#[test]
fn a_flood_that_nobody_reads_ends_alone_and_with_its_reason() {
    need!("ssh", "sshd");
    let world = Plan::new().start();
    let mut neighbour = Running::interactive(world.ssh(&["control-plane", "echo open; cat"]));
    neighbour.until_said("open");
    let flood = Listening::start(world.runtime(), |mut stream| {
        let zeros = vec![0; 256 << 10];
        let mut going = stream.write_all(b"SSH-2.0-flood\r\n");
        while going.is_ok() {
            going = stream.write_all(&zeros);
        }
    });
    world.join("flood", &flood);
    world.until_upstream("the one that saw it join has ended", |upstream| upstream.streams == 1);
    let before = world.status().memory_bytes;

    let mut never_read = door::connect(&world.socket(), "flood:22");
    let mut most = 0;
    let failure = until("the flood is ended", || {
        most = most.max(world.status().memory_bytes);
        world.failures("flood").into_iter().find(|failure| failure.message.contains("MiB unread"))
    });
    assert!(failure.message.contains("the stream to flood:22 was cut"), "{}", failure.message);
    assert!(world.why("flood").text().contains("64 MiB unread"));
    // The 64 MiB, and what an allocator needs to hold them.
    assert!(most - before.min(most) < 128 << 20, "from {before} to {most} bytes");

    let mut left = Vec::new();
    never_read.set_read_timeout(Some(PATIENCE)).unwrap();
    never_read.read_to_end(&mut left).unwrap();
    assert!(left.len() < 4 << 20, "what was left to read: {}", left.len());
    let upstream = world.until_upstream("its place is free", |upstream| upstream.streams == 1);
    assert_eq!((upstream.trunks.len(), upstream.dials_ok), (1, 1));
    neighbour.write(b"unharmed\n");
    neighbour.until_said("unharmed\n");
    neighbour.end().ok();
}

#[test]
fn a_reader_may_stop_for_longer_than_the_nodes_patience() {
    need!("ssh", "sshd", "sha256sum");
    reader_stops(Duration::from_secs(8), Duration::from_secs(1));
}

#[test]
#[ignore = "takes three minutes: make test-long"]
fn a_reader_may_stop_for_three_minutes() {
    need!("ssh", "sshd", "sha256sum");
    reader_stops(Duration::from_secs(180), Duration::from_secs(15));
}

/// The node asks for a sign of life every `alive` and gives up after three,
/// while whoever reads ssh's output stops for `pause`, which is longer.
fn reader_stops(pause: Duration, alive: Duration) {
    let world = Plan::new().start();
    let config = world.lab.folder().node("worker").join("ssh/sshd_config");
    let mut text = std::fs::read_to_string(&config).unwrap();
    text.push_str(&format!("ClientAliveInterval {}\nClientAliveCountMax 3\n", alive.as_secs()));
    std::fs::write(&config, text).unwrap();
    let make = "seq 20000000 | head -c 60000000";
    let mut shell = world.command("sh");
    shell.args(["-c", &format!("{make} | sha256sum")]);
    let expected = run(shell).ok();

    let mut ssh =
        world.ssh(&["worker", make]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("ssh starts");
    let mut output = BufReader::new(ssh.stdout.take().unwrap());
    let mut begun = vec![0; 1 << 20];
    output.read_exact(&mut begun).unwrap();
    // This is the story: nobody reads for so long.
    std::thread::sleep(pause);
    let sum = checksum(&world, &begun, output);
    assert!(ssh.wait().unwrap().success());
    assert_eq!(sum, expected);
    assert_eq!(world.upstream().streams_cut, 0);
}

/// The checksum of these bytes and of all that follow them.
fn checksum(world: &World, begun: &[u8], mut rest: BufReader<ChildStdout>) -> String {
    let mut sum = Running::interactive(world.command("sha256sum"));
    sum.write(begun);
    let mut chunk = vec![0; 256 << 10];
    loop {
        match rest.read(&mut chunk).unwrap() {
            0 => return sum.end().ok(),
            count => sum.write(&chunk[..count]),
        }
    }
}
