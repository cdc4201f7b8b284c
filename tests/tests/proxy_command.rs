//! `natssh proxy` as the ProxyCommand of stock `ssh`, `scp`, `sftp`, `rsync`
//! and Paramiko: every byte arrives, and nothing of natssh stays in between.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::path::Path;
use std::process::Command;

use natssh_lab::processes::{Process, trees};
use natssh_tests::bytes::{FEW, MANY, both_ways, checksum};
use natssh_tests::node::Listening;
use natssh_tests::{Plan, Running, door, need, run, tools};

/// A way past the proxy, to this machine alone.
const DIRECT: &str =
    "[upstream.plain]\nkind = \"direct\"\n\n[[route]]\nhosts = [\"127.*\"]\nupstream = \"plain\"\n";

#[test]
fn no_natssh_process_is_alive_while_a_connection_is_open() {
    need!("ssh", "sshd");
    let world = Plan::new().start();
    let mut ssh = Running::interactive(world.ssh(&["worker", "cat"]));
    ssh.write(b"hello\n");
    ssh.until_said("hello\n");
    let ssh_itself = Process::find(ssh.pid().as_raw_nonzero().get().unsigned_abs()).expect("it runs");
    let family = trees(&[ssh_itself]);
    assert_eq!(family, [ssh_itself], "ssh has children");
    assert_eq!(world.upstream().streams, 1);
    assert_eq!(ssh.end().ok(), "hello\n");
    let upstream = world.until_upstream("the stream has ended", |upstream| upstream.streams == 0);
    assert_eq!((upstream.dials_ok, upstream.streams_total), (1, 1));
}

#[test]
fn a_hundred_megabytes_each_way_at_once_arrive_through_the_relay() {
    need!("ssh", "sshd", "sha256sum");
    let world = Plan::new().start();
    let (there, back) = both_ways(&world, "-o ProxyUseFdpass=no worker", MANY);
    let expected = checksum(&world, MANY);
    assert_eq!((there, back), (expected.clone(), expected));
}

#[test]
fn bytes_arrive_both_ways_over_a_passed_descriptor() {
    need!("ssh", "sshd", "sha256sum");
    let world = Plan::new().start();
    let (there, back) = both_ways(&world, "worker", FEW);
    let expected = checksum(&world, FEW);
    assert_eq!((there, back), (expected.clone(), expected));
}

#[test]
fn a_host_without_a_proxy_is_reached_directly() {
    need!("ssh", "sshd", "sha256sum");
    let world = Plan::new().config(DIRECT).start();
    let node = world.listening("worker");
    let port = node.address().port();
    for fdpass in ["yes", "no"] {
        let words = format!("-o ProxyUseFdpass={fdpass} -p {port} 127.0.0.1");
        let (there, back) = both_ways(&world, &words, FEW);
        let expected = checksum(&world, FEW);
        assert_eq!((there, back), (expected.clone(), expected), "ProxyUseFdpass={fdpass}");
    }
    assert_eq!(world.upstream().dials_ok, 0, "the proxy was not asked");
}

#[test]
fn commands_under_control_persist_share_one_stream() {
    need!("ssh", "sshd");
    let world = Plan::new().start();
    world.write_ssh_config(&format!(
        "Host *\n  ControlMaster auto\n  ControlPersist 60\n  ControlPath {}/cm-%n\n",
        world.path().display()
    ));
    assert_eq!(run(world.ssh(&["worker", "echo one"])).ok(), "one\n");
    assert_eq!(run(world.ssh(&["worker", "echo two"])).ok(), "two\n");
    let upstream = world.upstream();
    assert_eq!((upstream.streams, upstream.streams_total), (1, 1));
    run(world.ssh(&["-O", "exit", "worker"])).ok();
    world.until_upstream("the master's stream has ended", |upstream| upstream.streams == 0);
    assert_eq!(world.upstream().streams_cut, 0);
}

#[test]
fn scp_and_sftp_and_rsync_carry_files_both_ways() {
    need!("ssh", "sshd", "scp", "sftp", "rsync");
    let world = Plan::new().start();
    let file = world.path().join("file");
    let bytes: Vec<u8> = (0..1_000_000u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(&file, &bytes).unwrap();
    let home = world.lab.folder().node("worker").join("home");
    let (file, back) = (file.display().to_string(), world.path().join("back"));
    let check = |name: &str| {
        assert!(std::fs::read(home.join(name)).unwrap() == bytes, "{name} there");
        assert!(std::fs::read(&back).unwrap() == bytes, "{name} back");
        std::fs::remove_file(&back).unwrap();
    };
    let back = back.display().to_string();

    run(world.openssh("scp", &["-q", &file, "worker:by-scp"])).ok();
    run(world.openssh("scp", &["-q", "worker:by-scp", &back])).ok();
    check("by-scp");

    let mut sftp = Running::interactive(world.openssh("sftp", &["-q", "-b", "-", "worker"]));
    sftp.write(format!("put {file} by-sftp\nget by-sftp {back}\n").as_bytes());
    sftp.end().ok();
    check("by-sftp");

    let ssh = format!("ssh -F {}", world.ssh_config_path().display());
    let rsync = |from: &str, to: &str| {
        let mut rsync = world.command("rsync");
        rsync.args(["-e", &ssh, from, to]);
        run(rsync).ok()
    };
    rsync(&file, "worker:by-rsync");
    rsync("worker:by-rsync", &back);
    check("by-rsync");
}

#[test]
fn paramiko_works_through_its_proxy_command() {
    need!("ssh", "sshd");
    let Some(python) = python_with_paramiko() else { return };
    let world = Plan::new().start();
    let mut client = world.command(python);
    client
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/clients/paramiko_client.py"))
        .arg(natssh_tests::programs::path("natssh"))
        .args(["worker", world.login()])
        .arg(world.credentials.openssh_key())
        .arg(world.lab.folder().node("worker").join("ssh/host_key.pub"));
    let said = run(client);
    assert_eq!(said.ok(), "echoed 1000000 bytes\nexit status 7\nthe file came back\n");
    world.until_upstream("its stream has ended", |upstream| upstream.streams == 0);
}

#[test]
fn half_a_stream_may_end_before_the_other() {
    need!("ssh", "sshd");
    let world = Plan::new().config(DIRECT).start();
    assert_eq!(
        run(world.ssh(&["worker", "cat; echo after the end of file"])).ok(),
        "after the end of file\n"
    );

    // Below ssh a Teleport proxy ends both halves with the first, but a plain connection does not.
    let (tell, told) = std::sync::mpsc::channel();
    let speaks_last = Listening::start(world.runtime(), |mut stream| {
        let mut heard = String::new();
        stream.read_to_string(&mut heard).unwrap();
        stream.write_all(format!("heard {heard}").as_bytes()).unwrap();
    });
    let listens_last = Listening::start(world.runtime(), move |mut stream| {
        let mut heard = String::new();
        stream.shutdown(Shutdown::Write).unwrap();
        stream.read_to_string(&mut heard).unwrap();
        let _ = tell.send(heard);
    });
    let mut heard = String::new();
    let mut client = door::connect(&world.socket(), &speaks_last.address().to_string());
    client.write_all(b"all of it").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    client.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "heard all of it");

    let mut client = door::connect(&world.socket(), &listens_last.address().to_string());
    assert_eq!(client.read_to_string(&mut heard).unwrap(), 0);
    client.write_all(b"still here").unwrap();
    drop(client);
    assert_eq!(told.recv_timeout(natssh_tests::wait::PATIENCE).unwrap(), "still here");
}

#[test]
fn the_exit_status_is_the_commands_own() {
    need!("ssh", "sshd");
    let world = Plan::new().start();
    for code in [0, 1, 2, 126, 127, 128, 130, 254, 255] {
        let said = run(world.ssh(&["worker", &format!("exit {code}")]));
        assert_eq!((said.code, said.stderr.as_str()), (Some(code), ""));
    }
    assert_eq!(run(world.ssh(&["worker", "kill -9 $$"])).code, Some(255));
    assert!(world.status().failures.is_empty(), "{:?}", world.status().failures);
}

#[test]
fn fifty_connections_at_once_share_a_trunk() {
    need!("ssh", "sshd");
    let world = Plan::new().start();
    let node = |n: usize| if n.is_multiple_of(2) { "worker" } else { "control-plane" };
    let all: Vec<_> = (0..50).map(|n| Running::start(world.ssh(&[node(n), &format!("echo {n}")]))).collect();
    for (n, ssh) in all.into_iter().enumerate() {
        assert_eq!(ssh.end().ok(), format!("{n}\n"));
    }
    let upstream = world.until_upstream("all streams have ended", |upstream| upstream.streams == 0);
    assert_eq!((upstream.dials_ok, upstream.streams_total, upstream.streams_cut), (1, 50, 0));
    assert!(world.status().failures.is_empty(), "{:?}", world.status().failures);
}

/// The Python of the project's environment, or the one in PATH.
fn python_with_paramiko() -> Option<std::path::PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/bin/python3");
    let found = [Some(own), natssh_lab::tools::find("python3")].into_iter().flatten().find(|python| {
        let imported = Command::new(python).args(["-c", "import paramiko"]).output();
        imported.is_ok_and(|output| output.status.success())
    });
    if found.is_none() {
        tools::skip("no Python here has Paramiko; type: make setup");
    }
    found
}
