//! The spine's stories over every kind of upstream: what holds for one way to a
//! node holds for all.
//!
//! One test an upstream tells all stories, one after the other on the same
//! ground, and goes on after one that fails. When the last has ended, the table
//! of story by upstream is printed.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use natssh_lab::processes::{Process, trees};
use natssh_tests::bytes::{FEW, both_ways, checksum};
use natssh_tests::way::Hop;
use natssh_tests::{Ground, Running, Way, need, run, until};

/// A story, and what was seen.
type Story = fn(&Ground) -> String;

/// In the order in which they are told; those that break something come last.
const STORIES: [(&str, Story); 13] = [
    ("a command and its output", command_and_output),
    ("exit status", exit_status),
    ("no natssh process stays", no_process),
    ("scp both ways", scp),
    ("sftp both ways", sftp),
    ("rsync both ways", rsync),
    ("20 MB each way at once", twenty_megabytes),
    ("20 connections at once", twenty_at_once),
    ("an unknown host", unknown_host),
    ("reload under streams", reload),
    ("a node that is gone, and back", node_gone),
    ("a frozen node", frozen_node),
    ("the way killed, and back", way_killed),
];

#[test]
fn over_teleport() {
    tell_all(Way::Teleport, Hop::Trunk);
}

#[test]
fn over_teleport_with_tls_routing() {
    tell_all(Way::Tls, Hop::Trunk);
}

#[test]
fn over_a_bastion() {
    tell_all(Way::Bastion, Hop::Trunk);
}

#[test]
fn over_a_chain_of_two_bastions() {
    tell_all(Way::Chain, Hop::Trunk);
}

#[test]
fn over_a_bastion_behind_a_command() {
    tell_all(Way::Chain, Hop::Command);
}

#[test]
fn over_a_command() {
    tell_all(Way::Command, Hop::Trunk);
}

#[test]
fn over_plain_tcp() {
    tell_all(Way::Direct, Hop::Trunk);
}

// The stories.

fn command_and_output(ground: &Ground) -> String {
    for node in ["worker", "control-plane"] {
        let said = run(ground.world.ssh(&[node, "cat; echo $0 >&2"]));
        assert_eq!((said.code, said.text().as_str()), (Some(0), ""), "{}", said.stderr);
    }
    let mut ssh = Running::interactive(ground.world.ssh(&["worker", "cat"]));
    ssh.write(b"there and back\n");
    assert_eq!(ssh.end().ok(), "there and back\n");
    "stdin, stdout, stderr".into()
}

fn exit_status(ground: &Ground) -> String {
    let statuses = [0, 1, 3, 126, 255];
    for status in statuses {
        let said = run(ground.world.ssh(&["worker", &format!("exit {status}")]));
        assert_eq!((said.code, said.stderr.as_str()), (Some(status), ""));
    }
    format!("{statuses:?}")
}

fn no_process(ground: &Ground) -> String {
    // A process of the broker's carries a trunk, and stays, or it carries one stream, and ends.
    let of_streams = usize::from(ground.way == Way::Command);
    let of_broker = || ground.world.started_by_broker().len();
    let of_trunks = match of_streams {
        0 => of_broker(),
        _ => 0,
    };
    let until_left = || {
        until("the streams' processes have ended", || (of_broker() == of_trunks).then_some(()));
    };
    until_left();
    let ssh = open(ground, "worker");
    let itself = Process::find(ssh.pid().as_raw_nonzero().get().unsigned_abs()).expect("it runs");
    assert_eq!(trees(&[itself]), [itself], "ssh has children");
    assert_eq!(of_broker(), of_trunks + of_streams, "processes of the broker");
    ssh.end().ok();
    until_left();
    format!("0 of ssh's, {} of the broker's", of_trunks + of_streams)
}

fn scp(ground: &Ground) -> String {
    let files = Files::new(ground);
    run(ground.world.openssh("scp", &["-q", &files.here, "worker:there"])).ok();
    run(ground.world.openssh("scp", &["-q", "worker:there", &files.back])).ok();
    files.check()
}

fn sftp(ground: &Ground) -> String {
    let files = Files::new(ground);
    let mut sftp = Running::interactive(ground.world.openssh("sftp", &["-q", "-b", "-", "worker"]));
    sftp.write(format!("put {} there\nget there {}\n", files.here, files.back).as_bytes());
    sftp.end().ok();
    files.check()
}

fn rsync(ground: &Ground) -> String {
    let files = Files::new(ground);
    for (from, to) in [(files.here.as_str(), "worker:there"), ("worker:there", files.back.as_str())] {
        let mut rsync = ground.world.command("rsync");
        rsync.args(["-e", &format!("ssh -F {}", ground.world.ssh_config_path().display()), from, to]);
        run(rsync).ok();
    }
    files.check()
}

fn twenty_megabytes(ground: &Ground) -> String {
    let expected = checksum(&ground.world, FEW);
    let arrived = both_ways(&ground.world, "worker", FEW);
    assert_eq!(arrived, (expected.clone(), expected));
    "both checksums right".into()
}

fn twenty_at_once(ground: &Ground) -> String {
    let before = ground.world.upstream();
    let node = |n: usize| ["worker", "control-plane"][n % 2];
    let all: Vec<_> =
        (0..20).map(|n| Running::start(ground.world.ssh(&[node(n), &format!("echo {n}")]))).collect();
    for (n, ssh) in all.into_iter().enumerate() {
        assert_eq!(ssh.end().ok(), format!("{n}\n"));
    }
    let after = ground.world.until_upstream("all streams have ended", |upstream| upstream.streams == 0);
    assert_eq!(after.streams_total - before.streams_total, 20);
    format!("trunks: {}", after.trunks.len())
}

fn unknown_host(ground: &Ground) -> String {
    let words = match ground.way {
        Way::Teleport | Way::Tls => "nowhere.invalid",
        Way::Bastion | Way::Chain => "could not connect to node nowhere.invalid:22",
        Way::Command => {
            "the command of upstream lab ended with exit status 255 before nowhere.invalid:22 answered"
        }
        Way::Direct => "nowhere.invalid:22",
    };
    refused(ground, "nowhere.invalid", words)
}

fn reload(ground: &Ground) -> String {
    let mut ssh = open(ground, "worker");
    // First a change that is none of the upstream's business, then one that replaces it.
    ground.reload("default = \"lab\"", "default = \"lab\"\n\n[upstream.other]\nkind = \"direct\"\n");
    assert_eq!(ground.world.upstream().streams, 1, "the stream is still the same upstream's");
    if ground.way.is_teleport() {
        ground.reload("identity = \"me\"", "identity = \"me\"\nconnect_timeout = \"4s\"");
    } else {
        ground.reload("connect_timeout = \"5s\"", "connect_timeout = \"4s\"");
    }
    assert_eq!(run(ground.world.ssh(&["control-plane", "echo new"])).ok(), "new\n");
    ssh.write(b"still here\n");
    ssh.until_said("still here\n");
    ssh.end().ok();
    assert!(ground.world.status().failures.iter().all(|failure| !failure.message.contains("cut")));
    "the open one and a new one".into()
}

fn node_gone(ground: &Ground) -> String {
    let other = open(ground, "worker");
    ground.stop("control-plane");
    let words = match ground.way {
        Way::Teleport | Way::Tls => "offline",
        _ => "onnection refused",
    };
    let seen = refused(ground, "control-plane", words);
    ground.start("control-plane");
    until("the node is back", || {
        (run(ground.world.ssh(&["control-plane", "true"])).code == Some(0)).then_some(())
    });
    other.end().ok();
    seen
}

fn frozen_node(ground: &Ground) -> String {
    let other = open(ground, "control-plane");
    ground.freeze("worker");
    let stuck = run(ground.world.ssh(&["-o", "ConnectTimeout=3", "worker", "true"]));
    let beside = run(ground.world.ssh(&["control-plane", "echo quick"]));
    ground.thaw("worker");
    let reason = reason(stuck.unreachable());
    assert!(stuck.took < Duration::from_secs(11), "{:?}", stuck.took);
    assert!(
        reason.contains("in time") || reason.contains("frozen") || reason.contains("timed out"),
        "{reason}"
    );
    assert_eq!(beside.ok(), "quick\n");
    other.end().ok();
    assert_eq!(run(ground.world.ssh(&["worker", "echo thawed"])).ok(), "thawed\n");
    reason
}

fn way_killed(ground: &Ground) -> String {
    let ssh = open(ground, "worker");
    ground.break_way();
    ssh.stay().unreachable();
    // While it is away, callers are told, or wait for as long as they can.
    let asked = run(ground.world.ssh(&["worker", "true"]));
    let reason = reason(asked.unreachable());
    assert!(asked.took < Duration::from_secs(11), "{:?}", asked.took);
    ground.mend_way();
    until("the way is back", || (run(ground.world.ssh(&["worker", "true"])).code == Some(0)).then_some(()));
    ground.world.until_upstream("nothing is left open", |upstream| upstream.streams == 0);
    reason
}

// What they share.

/// An ssh that runs until its stdin ends, and its first sign of life.
fn open(ground: &Ground, node: &str) -> Running {
    let ssh = Running::interactive(ground.world.ssh(&[node, "echo open; cat"]));
    ssh.until_said("open");
    ssh
}

/// Asks for a node that cannot be had; ssh and `natssh why` give this reason.
fn refused(ground: &Ground, node: &str, words: &str) -> String {
    let said = run(ground.world.ssh(&[node, "true"]));
    assert!(said.unreachable().contains(words), "{}", said.stderr);
    assert!(said.took < Duration::from_secs(11), "{:?}", said.took);
    let why = ground.world.why(node).text();
    assert!(why.contains(words), "{why}");
    reason(&said.stderr)
}

/// The first line, which is natssh's where it has something to say.
fn reason(stderr: &str) -> String {
    stderr.lines().next().unwrap_or_default().trim_start_matches("natssh: ").to_owned()
}

/// Four megabytes to be carried to the node and back.
struct Files {
    bytes: Vec<u8>,
    here: String,
    back: String,
    there: std::path::PathBuf,
}

impl Files {
    fn new(ground: &Ground) -> Self {
        let bytes: Vec<u8> = (0..1_000_000u32).flat_map(u32::to_le_bytes).collect();
        let here = ground.world.path().join("here");
        fs::write(&here, &bytes).expect("our own folder");
        let there = ground.world.lab.folder().node("worker").join("home/there");
        let back = ground.world.path().join("back").display().to_string();
        Self { bytes, here: here.display().to_string(), back, there }
    }

    fn check(&self) -> String {
        assert!(fs::read(&self.there).expect("it is there") == self.bytes, "not the same there");
        assert!(fs::read(&self.back).expect("it is back") == self.bytes, "not the same back");
        fs::remove_file(&self.there).and_then(|()| fs::remove_file(&self.back)).expect("ours");
        "4 MB each way".into()
    }
}

// The table.

/// How a story ended, and after how long.
struct Cell {
    seen: Result<String, String>,
    took: Duration,
}

/// How many tests fill it.
const GROUNDS: usize = 6;

static TABLE: Mutex<BTreeMap<String, Vec<Cell>>> = Mutex::new(BTreeMap::new());

fn tell_all(way: Way, hop: Hop) {
    need!("ssh", "sshd", "scp", "sftp", "rsync", "sha256sum");
    let ground = Ground::over(way, hop);
    let column: Vec<_> = STORIES.iter().map(|(_, story)| tell(&ground, *story)).collect();
    let failed: Vec<_> = STORIES
        .iter()
        .zip(&column)
        .filter_map(|((name, _), cell)| Some(format!("{name}: {}", cell.seen.as_ref().err()?)))
        .collect();
    let mut table = TABLE.lock().unwrap_or_else(PoisonError::into_inner);
    let name = match hop {
        Hop::Trunk => way.to_string(),
        Hop::Command => "via command".to_owned(),
    };
    table.insert(name.clone(), column);
    if table.len() == GROUNDS {
        // Past the test runner, which keeps the words of tests that pass to itself.
        let _ = std::io::stderr().write_all(render(&table).as_bytes());
    }
    drop(table);
    assert!(failed.is_empty(), "over {name}:\n{}", failed.join("\n"));
}

fn tell(ground: &Ground, story: Story) -> Cell {
    let since = Instant::now();
    let told = catch_unwind(AssertUnwindSafe(|| story(ground)));
    let seen = told.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default()
    });
    Cell { seen, took: since.elapsed() }
}

fn render(table: &BTreeMap<String, Vec<Cell>>) -> String {
    let mut text = format!("\n{:<30}", "story");
    table.keys().for_each(|way| text += &format!("  {way:>12}"));
    for (n, (name, _)) in STORIES.iter().enumerate() {
        text += &format!("\n{name:<30}");
        for column in table.values() {
            let word = if column[n].seen.is_ok() { "ok" } else { "FAILED" };
            text += &format!("  {:>12}", format!("{word} {:.1} s", column[n].took.as_secs_f64()));
        }
    }
    text += "\n\nwhat was seen\n";
    for (n, (name, _)) in STORIES.iter().enumerate() {
        text += &format!("{name}\n");
        for (way, column) in table {
            let (Ok(seen) | Err(seen)) = &column[n].seen;
            text += &format!("  {way:<12}  {}\n", seen.lines().next().unwrap_or_default());
        }
    }
    text + "\n"
}
