//! Real ssh and a real sshd, with natssh between them.

mod fake;

use fake::{CONNECTED, FakeBroker};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};

const SSHD: &str = "/usr/sbin/sshd";

#[test]
fn ssh_holds_the_stream_itself_and_no_shim_stays() {
    let Some(node) = Node::new() else { return };
    let (alive, output) = node.converse("yes");
    assert_eq!((alive, output.as_str()), (0, "hello\n"));
    assert!(node.broker.request().contains("\r\nNatssh-Verdict: in-stream\r\n"), "ssh need not wait");
}

#[test]
fn ssh_without_fdpass_goes_through_one_shim() {
    let Some(node) = Node::new() else { return };
    let (alive, output) = node.converse("no");
    assert_eq!((alive, output.as_str()), (1, "hello\n"));
    assert!(!node.broker.request().contains("Natssh-Verdict"), "who reads bytes hears the verdict on stderr");
}

#[test]
fn a_refusal_is_sshs_own_255_with_our_sentence() {
    let body = r#"{"kind":"offline","message":"node web-3 is offline","hint":"natssh why web-3"}"#;
    let broker = FakeBroker::answer(fake::json("502 Bad Gateway", body));
    for fdpass in ["yes", "no"] {
        let Some(mut ssh) = ssh(&broker, fdpass) else { return };
        let done = ssh.arg("root@web-3").arg("true").output().unwrap();
        let stderr = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(255));
        assert!(stderr.starts_with("natssh: node web-3 is offline (natssh why web-3)\n"), "{stderr}");
    }
}

/// An sshd for each stream that the fake broker opens.
struct Node {
    folder: tempfile::TempDir,
    broker: FakeBroker,
}

impl Node {
    fn new() -> Option<Self> {
        if !Path::new(SSHD).exists() {
            eprintln!("skipped: {SSHD} is not there (apt-get install openssh-server)");
            return None;
        }
        if rustix::process::geteuid().is_root() {
            // sshd started by root refuses to run without it; the distribution makes it at boot.
            std::fs::create_dir_all("/run/sshd").unwrap();
        }
        let folder = tempfile::tempdir().unwrap();
        for name in ["host", "user"] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(folder.path().join(name))
                .status();
            assert!(made.unwrap().success());
        }
        let at = folder.path().display();
        let config = format!(
            "HostKey {at}/host\nAuthorizedKeysFile {at}/user.pub\nStrictModes no\nPasswordAuthentication no\n\
             KbdInteractiveAuthentication no\nUsePAM no\nPidFile none\nPermitRootLogin yes\n\
             SetEnv HOME={at}\n"
        );
        std::fs::write(folder.path().join("sshd_config"), config).unwrap();
        let host_key = std::fs::read_to_string(folder.path().join("host.pub")).unwrap();
        std::fs::write(folder.path().join("known_hosts"), format!("web-3 {host_key}")).unwrap();

        let config = folder.path().join("sshd_config");
        let broker = FakeBroker::serve(move |mut stream| {
            stream.write_all(CONNECTED).unwrap();
            let input = OwnedFd::from(stream.try_clone().unwrap());
            let mut sshd = Command::new(SSHD);
            sshd.args(["-i", "-e", "-f"])
                .arg(&config)
                .stdin(input)
                .stdout(OwnedFd::from(stream))
                .stderr(Stdio::null());
            let mut sshd = sshd.spawn().unwrap();
            sshd.wait().unwrap();
        });
        Some(Self { folder, broker })
    }

    /// Runs `cat` on the node; how many shims live while it runs, and what came back.
    fn converse(&self, fdpass: &str) -> (usize, String) {
        let mut ssh = ssh(&self.broker, fdpass).unwrap();
        let user = std::env::var("USER").ok().filter(|user| !user.is_empty()).unwrap_or_else(whoami);
        let mut session = ssh
            .arg("-i")
            .arg(self.folder.path().join("user"))
            .arg(format!("-oUserKnownHostsFile={}/known_hosts", self.folder.path().display()))
            .arg(format!("{user}@web-3"))
            .arg("echo up; cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(session.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(line, "up\n");
        let alive = shims_of(&self.broker.socket());
        session.stdin.take().unwrap().write_all(b"hello\n").unwrap();
        let mut rest = String::new();
        output.read_to_string(&mut rest).unwrap();
        assert!(session.wait().unwrap().success());
        (alive, rest)
    }
}

fn ssh(broker: &FakeBroker, fdpass: &str) -> Option<Command> {
    if Command::new("ssh").arg("-V").stderr(Stdio::null()).status().is_err() {
        eprintln!("skipped: ssh is not there (apt-get install openssh-client)");
        return None;
    }
    let mut ssh = Command::new("ssh");
    ssh.args(["-F", "/dev/null", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"])
        .args(["-o", "IdentitiesOnly=yes", "-o", &format!("ProxyUseFdpass={fdpass}")])
        .arg(format!("-oProxyCommand='{}' proxy %h %p --login %r", env!("CARGO_BIN_EXE_natssh")))
        .env("NATSSH_SOCKET", broker.socket())
        .env_remove("SSH_AUTH_SOCK");
    Some(ssh)
}

/// How many natssh processes live that were told of this socket.
fn shims_of(socket: &Path) -> usize {
    let told = format!("NATSSH_SOCKET={}\0", socket.display());
    let is_ours = |process: &Path| {
        let program = std::fs::read_link(process.join("exe")).unwrap_or_default();
        let environment = std::fs::read(process.join("environ")).unwrap_or_default();
        program == Path::new(env!("CARGO_BIN_EXE_natssh"))
            && String::from_utf8_lossy(&environment).contains(&told)
    };
    std::fs::read_dir("/proc").unwrap().filter(|entry| is_ours(&entry.as_ref().unwrap().path())).count()
}

fn whoami() -> String {
    let output = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().into()
}
