//! Nodes are reached through the proxy, by the system's own tools, and not
//! otherwise.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use natssh_lab::state::Mode;

use crate::harness::{Ground, has_namespaces, modes, output, stderr};

#[test]
fn ssh_scp_and_sftp_reach_a_node() {
    for mode in modes() {
        let ground = Ground::up(mode);
        let home = ground.says("control-plane", "pwd; ls -A");
        assert_eq!(ground.says("control-plane", "cd; pwd"), home, "{mode:?}: a home of its own, and empty");

        let file = ground.folder.path().join("file");
        fs::write(&file, "some bytes").expect("writable");
        let copied = ground.stock("scp", &[file.to_str().expect("text"), "worker:copied"]);
        assert!(copied.status.success(), "{mode:?} scp: {}", stderr(&copied));

        let batch = ground.folder.path().join("batch");
        fs::write(&batch, "rename copied moved\n").expect("writable");
        let moved = ground.stock("sftp", &["-b", batch.to_str().expect("text"), "worker"]);
        assert!(moved.status.success(), "{mode:?} sftp: {}", stderr(&moved));
        assert_eq!(ground.says("worker", "ls; cat moved"), "moved\nsome bytes");
    }
}

#[test]
fn exit_statuses_and_terminals_pass() {
    for mode in modes() {
        let ground = Ground::up(mode);
        assert_eq!(ground.stock("ssh", &["worker", "exit 7"]).status.code(), Some(7));
        if mode == Mode::Rootless && !gives_terminals() {
            eprintln!("SKIPPED: terminals; sshd without root needs /dev/pts mounted with gid=5");
            continue;
        }
        let terminal = ground.stock("ssh", &["-tt", "worker", "tty"]);
        let name = String::from_utf8_lossy(&terminal.stdout).into_owned();
        assert!(name.starts_with("/dev/pts/"), "{mode:?}: {name:?} {}", stderr(&terminal));
    }
}

#[test]
fn a_node_behind_the_nat_refuses_whoever_comes_directly() {
    if !has_namespaces() {
        eprintln!("SKIPPED: a NAT, which takes root");
        return;
    }
    let ground = Ground::up(Mode::Rooted);
    for node in ground.lab.status().expect("a status").nodes {
        let address = SocketAddr::from((node.address.expect("an address"), 22));
        let refused = TcpStream::connect_timeout(&address, Duration::from_secs(2));
        let kind = refused.expect_err("no way in").kind();
        assert_eq!(kind, std::io::ErrorKind::ConnectionRefused, "{address}");
    }
    // Out there is nothing but the proxy either.
    let out = "exec 3<>/dev/tcp/192.0.2.1/80";
    let tried = ground.stock("ssh", &["worker", &format!("timeout 2 bash -c '{out}'")]);
    assert!(!tried.status.success());
    assert_eq!(ground.says("worker", "hostname"), "worker");
}

#[test]
fn what_a_playbook_breaks_on_a_node_stays_there() {
    if !has_namespaces() {
        eprintln!("SKIPPED: nodes with a file system of their own, which take root");
        return;
    }
    let ground = Ground::up(Mode::Rooted);
    let mark = format!("natssh-lab-{}", std::process::id());
    let folders = ["/etc", "/tmp", "/var/tmp", "/usr/bin", "/run", "/root"];
    let files = folders.map(|folder| format!("{folder}/{mark}"));
    ground.says("worker", &format!("touch {0} && ls {0}", files.join(" ")));
    for file in &files {
        assert!(!std::path::Path::new(file).exists(), "{file} is the machine's");
    }
    let other = ground.says("control-plane", &format!("ls {} 2>/dev/null || true", files.join(" ")));
    assert_eq!(other, "", "the other node has them too");
    for harm in ["date -s 10:00", "echo 1 > /proc/sys/kernel/panic", "mknod /tmp/disk b 254 0"] {
        let tried = ground.stock("ssh", &["worker", harm]);
        assert!(!tried.status.success(), "{harm} was allowed");
    }
    // The lab's own keys are not for its nodes.
    let lab = ground.lab.folder().path().display().to_string();
    assert_eq!(ground.says("worker", &format!("ls {lab} 2>/dev/null | wc -l")), "0");
    // Processes: only the node's own.
    let busy = "ps -e -o pid= | wc -l";
    let inside: usize = ground.says("worker", busy).parse().expect("a number");
    assert!(inside < 12, "{inside} processes are seen");
}

#[test]
fn a_round_trip_time_is_added() {
    use natssh_lab::{Lab, Options};
    let folder = tempfile::TempDir::new().expect("a folder");
    let mut options = Options::rootless(&folder.path().join("lab")).expect("a short path");
    options.nodes = 1;
    options.rtt = Duration::from_millis(100);
    let lab = Lab::up(options).expect("it comes up");
    let started = std::time::Instant::now();
    let mut ssh = std::process::Command::new("ssh");
    ssh.arg("-F").arg(lab.folder().ssh_config()).args(["control-plane", "true"]);
    let ran = output(ssh);
    assert!(ran.status.success(), "{}", stderr(&ran));
    // Two connections and two handshakes: ten round trips at the very least.
    assert!(started.elapsed() > Duration::from_secs(1), "{:?}", started.elapsed());
    assert_eq!(lab.status().expect("a status").rtt_ms, 100);
}

/// Whether an sshd started by this user can hand out terminals: root always,
/// others only where they come with the group that sshd wants them to have.
fn gives_terminals() -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("the mount table");
    let with_group = |line: &str| line.contains(" /dev/pts devpts ") && line.contains("gid=5");
    rustix::process::geteuid().is_root() || mounts.lines().any(with_group)
}

#[test]
fn with_tls_routing_ssh_is_inside_tls_and_the_web_beside_it() {
    if ["openssl", "curl"].into_iter().any(|tool| natssh_lab::tools::find(tool).is_none()) {
        eprintln!("SKIPPED: the proxy inside TLS, which takes openssl and curl; type: scripts/setup.sh");
        return;
    }
    let ground = Ground::with_tls_routing();
    // Through `openssl s_client`, which is nobody's of this project.
    assert_eq!(ground.says("worker", "echo reached"), "reached");

    let proxy = ground.lab.status().expect("a status").proxy;
    let mut outside = TcpStream::connect(proxy).expect("it listens");
    outside.write_all(b"SSH-2.0-anybody\r\n").expect("it takes a line");
    let mut heard = Vec::new();
    // A reset is as good a refusal as an end.
    let _ = outside.read_to_end(&mut heard);
    assert!(!heard.starts_with(b"SSH-"), "{heard:?}");

    let mut web = Command::new("curl");
    web.args(["-sk", "-o", "/dev/null", "-w", "%{http_code}", &format!("https://{proxy}/")]);
    assert_eq!(String::from_utf8_lossy(&output(web).stdout), "404");
    let mut unheard_of = Command::new("openssl");
    unheard_of.args(["s_client", "-alpn", "unheard-of", "-connect", &proxy.to_string()]);
    assert!(!output(unheard_of).status.success());
}
