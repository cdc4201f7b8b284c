//! A reader that stops, on a session that others use: they must not notice, and it must find everything when it
//! comes back.

use natssh_tests::{Plan, Running, World, need, until};
use rustix::process::Signal;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// Commands beside the stopped one: more than one session has places for.
const NEIGHBOURS: usize = 50;
/// Two seconds, of which next to nothing is work: the machine's other work must not decide.
const WORK: &str = "i=0; while [ $i -lt 10 ]; do echo $i; i=$((i+1)); sleep 0.2; done";
/// Less than the 256 MiB that are kept of one output without its neighbours' noticing.
const FLOOD: &str = "head -c 200000000 /dev/zero | tee written";

fn natssh(world: &World, words: &[&str]) -> Command {
    let mut command = world.natssh(&["ssh", "-F"]);
    command.arg(world.ssh_config_path()).args(words);
    command
}

#[test]
fn commands_beside_a_stopped_reader_are_not_slowed() {
    need!("ssh", "sshd");
    let world = Plan::new().start();
    let alone = work_of_all(&world, None);
    let written = world.lab.folder().node("worker").join("home/written");
    let beside = work_of_all(&world, Some(written));
    assert!(beside <= alone.mul_f64(1.5), "{beside:?} beside a stopped reader, {alone:?} without one");
    assert!(world.status().failures.is_empty(), "{:?}", world.status().failures);
}

/// How long commands take that all run already, and wait for a word, when a reader stops that came before them.
fn work_of_all(world: &World, stopped: Option<PathBuf>) -> Duration {
    let flood = stopped.map(|written| {
        let flood = Running::start(natssh(world, &["worker", FLOOD]));
        until("its output comes", || (flood.bytes_said() > 1_000_000).then_some(()));
        (flood, written)
    });
    let command = format!("echo runs; read word; {WORK}");
    let mut running: Vec<_> =
        (0..NEIGHBOURS).map(|_| Running::interactive(natssh(world, &["worker", &command]))).collect();
    running.iter().for_each(|one| one.until_said("runs"));
    if let Some((flood, written)) = &flood {
        flood.signal(Signal::STOP);
        until_it_rests(written);
    }
    let begun = Instant::now();
    running.iter_mut().for_each(|one| one.write(b"go\n"));
    for one in running {
        assert!(one.end().ok().ends_with("9\n"));
    }
    let took = begun.elapsed();
    if let Some((flood, _)) = flood {
        flood.signal(Signal::CONT);
        assert_eq!(flood.end().stdout.len(), 200_000_000);
    }
    took
}

/// Waits until the node writes no more.
fn until_it_rests(written: &std::path::Path) {
    let (mut size, mut since) = (0, Instant::now());
    until("the node writes no more", || {
        let now = fs::metadata(written).map_or(0, |file| file.len());
        if now != size {
            (size, since) = (now, Instant::now());
        }
        (since.elapsed() > Duration::from_millis(1500)).then_some(())
    });
}

#[test]
fn a_reader_that_stopped_finds_everything_when_it_comes_back() {
    need!("ssh", "sshd", "sha256sum");
    comes_back("ClientAliveInterval 1\nClientAliveCountMax 3\n", Duration::from_secs(12));
}

#[test]
#[ignore = "takes three minutes: make test-long"]
fn a_reader_may_stop_for_three_minutes() {
    need!("ssh", "sshd", "sha256sum");
    comes_back("ClientAliveInterval 15\nClientAliveCountMax 3\n", Duration::from_secs(180));
}

/// More than is kept for a reader is on its way when it stops.
fn comes_back(alive: &str, pause: Duration) {
    const MAKE: &str = "seq 60000000 | head -c 400000000";
    let world = Plan::new().without_broker().start();
    let sshd = world.listening_sshd(&world.user_ca(), alive);
    world.write_config("[[route]]\nhosts = [\"127.0.0.1\"]\nupstream = \"direct\"\n");
    let first = format!(
        "Host server\n  HostName 127.0.0.1\n  Port {}\n  ProxyCommand none\n  StrictHostKeyChecking accept-new\n  \
         UserKnownHostsFile {}\n",
        sshd.address().port(),
        world.path().join("known").display()
    );
    world.write_ssh_config(&first);
    world.start_broker();
    let mut reader = Running::start(natssh(&world, &["server", MAKE]));
    until("its output comes", || (reader.bytes_said() > 1_000_000).then_some(()));
    reader.signal(Signal::STOP);
    std::thread::sleep(pause);
    assert!(!reader.has_ended());
    reader.signal(Signal::CONT);
    let said = reader.end_within(Duration::from_secs(240));
    assert_eq!(said.code, Some(0), "{}\n{}", said.stderr, sshd.log());
    let mut expected = world.command("sh");
    expected.args(["-c", MAKE]);
    let expected = natssh_tests::run(expected).stdout;
    assert!(said.stdout == expected, "{} of {} bytes, or others", said.stdout.len(), expected.len());
}
