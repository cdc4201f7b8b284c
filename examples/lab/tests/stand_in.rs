//! The stand-in proxy before real OpenSSH: what a client sees of it.
//!
//! The node is a real `sshd -i`, reached through a tunnel that only dials out.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use natssh_lab::agent::{self, NodeName, Target};
use natssh_lab::ca::{Authority, Credential, HostRequest, KeyKind, UserRequest, Validity, openssh};
use natssh_lab::proxy::{Face, Options, Policy, Proxy, Recording, TlsRouting};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

const WORKER: &str = "fa133e75-987d-43e7-ae56-b86504d7588c";

/// A cluster of one proxy and one node, and the files of its user.
struct Lab {
    folder: TempDir,
    authority: Authority,
    proxy: Proxy,
    node: AbortHandle,
    face: Face,
    login: String,
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.node.abort();
    }
}

impl Lab {
    async fn new(face: Face) -> Self {
        let kind = match face {
            Face::Old => KeyKind::Rsa,
            Face::New => KeyKind::Ed25519,
        };
        Self::of(face, kind).await
    }

    async fn of(face: Face, kind: KeyKind) -> Self {
        let folder = TempDir::new().unwrap();
        let authority = Authority::new("poc", kind).unwrap();
        let proxy = start_proxy(&authority, face, loopback().await, loopback().await);
        let sshd = node_config(folder.path(), &authority);
        let node = agent::Options {
            proxy: proxy.tunnel_address(),
            token: "lab-token".into(),
            node: name("worker", WORKER),
            target: Target::Spawn(
                ["/usr/sbin/sshd", "-i", "-e", "-f"]
                    .map(Into::into)
                    .into_iter()
                    .chain([sshd.into_os_string()])
                    .collect(),
            ),
        };
        let node = tokio::spawn(async move { match agent::run(node).await {} }).abort_handle();
        let login = whoami();
        let lab = Self { folder, authority, proxy, node, face, login };
        lab.issue("alice", &UserRequest::new("alice", &[&lab.login]));
        let known = lab.authority.known_hosts("localhost") + &lab.authority.known_hosts("worker");
        std::fs::write(lab.path("known_hosts"), known).unwrap();
        lab.until_online(true).await;
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a key and its certificate under this name.
    fn issue(&self, name: &str, request: &UserRequest) -> Credential {
        let credential = self.authority.issue_user(request).unwrap();
        openssh::write(&self.path(name), &credential).unwrap();
        credential
    }

    /// The words that every ssh of the lab begins with.
    fn options(&self, key: &str) -> Vec<String> {
        let mut words: Vec<String> = ["-F", "none", "-T"].map(Into::into).into();
        for option in [
            format!("IdentityFile={}", self.path(key).display()),
            format!("CertificateFile={}-cert.pub", self.path(key).display()),
            format!("UserKnownHostsFile={}", self.path("known_hosts").display()),
            "GlobalKnownHostsFile=/dev/null".into(),
            "IdentitiesOnly=yes".into(),
            "BatchMode=yes".into(),
            "StrictHostKeyChecking=yes".into(),
            "LogLevel=INFO".into(),
        ] {
            words.extend(["-o".into(), option]);
        }
        if self.face == Face::Old {
            for option in ["HostKeyAlgorithms", "PubkeyAcceptedAlgorithms"] {
                words.extend(["-o".into(), format!("{option}=+ssh-rsa-cert-v01@openssh.com,ssh-rsa")]);
            }
        }
        words
    }

    /// The words of an ssh to the proxy.
    fn to_proxy(&self, key: &str) -> Vec<String> {
        let port = self.proxy.client_address().port().to_string();
        let mut words = self.options(key);
        words.extend(["-p".into(), port, "-o".into(), "HostKeyAlias=localhost".into()]);
        words
    }

    /// `ssh … LOGIN@127.0.0.1 ARGUMENTS`.
    async fn hop(&self, key: &str, login: &str, arguments: &[&str]) -> Output {
        let mut ssh = Command::new("ssh");
        ssh.args(self.to_proxy(key)).arg(format!("{login}@127.0.0.1")).args(arguments);
        run(ssh).await
    }

    /// `ssh worker COMMAND` by the nested ProxyCommand.
    async fn nested(&self, key: &str, command: &str) -> Output {
        let proxy =
            format!("ssh {} {}@127.0.0.1 -s proxy:%h:%p", self.to_proxy("alice").join(" "), self.login);
        let mut ssh = Command::new("ssh");
        ssh.args(self.options(key))
            .args(["-o", &format!("ProxyCommand={proxy}")])
            .arg(format!("{}@worker", self.login))
            .arg(command);
        run(ssh).await
    }

    async fn until_online(&self, online: bool) {
        let begun = Instant::now();
        while self.proxy.nodes().iter().any(|node| node.online != online) || self.proxy.nodes().is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", self.proxy.nodes());
            sleep(Duration::from_millis(10)).await;
        }
    }
}

fn start_proxy(authority: &Authority, face: Face, clients: TcpListener, tunnel: TcpListener) -> Proxy {
    Proxy::start(Options {
        tls_routing: TlsRouting::Off,
        clients,
        tunnel,
        token: "lab-token".into(),
        authority: authority.clone(),
        face,
        public_names: vec!["proxy.example".into()],
        inventory: vec![name("worker", WORKER)],
        policy: Policy::default(),
    })
    .unwrap()
}

fn name(hostname: &str, uuid: &str) -> NodeName {
    NodeName { hostname: hostname.into(), uuid: uuid.into() }
}

async fn loopback() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

/// The settings of the node's sshd, which needs no privileges.
fn node_config(folder: &Path, authority: &Authority) -> PathBuf {
    let host = authority.issue_host(&HostRequest::node(WORKER, "worker")).unwrap();
    let key = folder.join("host_key");
    openssh::write(&key, &host).unwrap();
    let trusted = folder.join("user_ca.pub");
    std::fs::write(&trusted, authority.user_ca().to_openssh().unwrap() + "\n").unwrap();
    let config = folder.join("sshd_config");
    let text = format!(
        "HostKey {key}\nHostCertificate {key}-cert.pub\nTrustedUserCAKeys {trusted}\n\
         AuthorizedKeysFile none\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
         UsePAM no\nStrictModes no\nPidFile none\nPermitRootLogin prohibit-password\n\
         SetEnv HOME={home}\n",
        home = folder.display(),
        key = key.display(),
        trusted = trusted.display(),
    );
    std::fs::write(&config, text).unwrap();
    config
}

fn whoami() -> String {
    let output = std::process::Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Runs it with an empty stdin, bounded in time. At its end of file the proxy
/// ends the stream, once the node's banner has passed.
async fn run(mut command: Command) -> Output {
    command.env_remove("SSH_AUTH_SOCK").kill_on_drop(true);
    command.stdin(std::process::Stdio::null());
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let child = command.spawn().unwrap();
    timeout(Duration::from_secs(20), child.wait_with_output()).await.expect("ssh hangs").unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
fn refused(output: &Output, reason: &str) {
    // OpenSSH loses the reason for some requests: it dies of the failure first.
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(255), "{said}");
    assert!(output.stdout.is_empty(), "{}", text(&output.stdout));
    assert!(said.contains("request failed on channel 0"), "{said}");
    let lost = said.lines().count() == 1;
    assert!(lost || said.contains(reason), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_ssh_reaches_a_node_through_the_stand_in() {
    for (face, kind) in [
        (Face::Old, KeyKind::Rsa),
        (Face::New, KeyKind::Rsa),
        (Face::New, KeyKind::Ed25519),
        (Face::New, KeyKind::Ecdsa),
    ] {
        let lab = Lab::of(face, kind).await;
        let hop = lab.hop("alice", &lab.login, &["-s", "proxy:worker:22"]);
        let output = hop.await;
        assert!(text(&output.stdout).starts_with("SSH-2.0-OpenSSH"), "{output:?}");
        assert_eq!(output.status.code(), Some(255), "no exit status is sent");

        let output = lab.nested("alice", "echo ok; cat /dev/null; exit 7").await;
        assert_eq!(text(&output.stdout), "ok\n", "{}", text(&output.stderr));
        assert_eq!(output.status.code(), Some(7));
        for request in [
            "proxy:worker:9999",
            "proxy:worker:22@poc",
            "proxy:worker:22@default@poc",
            &format!("proxy:{WORKER}:0"),
        ] {
            let output = lab.hop("alice", &lab.login, &["-s", request]).await;
            assert!(text(&output.stdout).starts_with("SSH-2.0-"), "{request}: {output:?}");
        }
        let output = lab.hop("alice", &lab.login, &["-s", "proxysites"]).await;
        assert!(text(&output.stdout).starts_with(r#"[{"name":"poc","lastconnected":""#));
        let output = lab.hop("alice", &lab.login, &["-W", "worker:22"]).await;
        assert!(text(&output.stdout).starts_with("SSH-2.0-OpenSSH"), "{output:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_come_in_teleports_words() {
    let lab = Lab::new(Face::Old).await;
    for (request, reason) in [
        ("proxy:worker", "invalid format for proxy request: \"proxy:worker\""),
        ("proxy:worker:22@nosuchcluster", "unknown cluster \"nosuchcluster\""),
        ("proxy:nosuchhost.invalid:22", "failed to connect to \"node\" agent \"nosuchhost.invalid:22\""),
        ("proxy:WORKER.invalid:22", "no node reverse tunnel for  found"),
        ("sftp", "unrecognized subsystem: sftp"),
        (
            "proxy:11111111-2222-3333-4444-555555555555:22",
            "unable to locate node matching uuid-like target 11111111-2222-3333-4444-555555555555",
        ),
    ] {
        refused(&lab.hop("alice", &lab.login, &["-s", request]).await, reason);
    }
    refused(&lab.hop("alice", &lab.login, &["true"]).await, "doesn't support request type 'exec'");

    lab.node.abort();
    lab.until_online(false).await;
    let output = lab.hop("alice", &lab.login, &["-s", "proxy:worker:22"]).await;
    refused(&output, &format!("no node reverse tunnel for {WORKER}.poc found"));
    assert!(lab.proxy.counters().refused >= 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_clusters_own_valid_certificates_log_in() {
    let lab = Lab::new(Face::New).await;
    let login = lab.login.clone();
    let alice = UserRequest::new("alice", &[&login]);
    lab.issue("expired", &alice.clone().valid(Validity::expired()));
    lab.issue("early", &alice.clone().valid(Validity::not_yet()));
    lab.issue("other", &UserRequest::new("alice", &["nobody-here"]));
    let stranger = Authority::new("poc", KeyKind::Ed25519).unwrap();
    openssh::write(&lab.path("stranger"), &stranger.issue_user(&alice).unwrap()).unwrap();
    for key in ["expired", "early", "other", "stranger"] {
        let output = lab.hop(key, &login, &["-s", "proxy:worker:22"]).await;
        assert!(text(&output.stderr).contains("Permission denied (publickey)"), "{key}: {output:?}");
    }
    // A key without its certificate is nobody.
    std::fs::copy(lab.path("alice"), lab.path("bare")).unwrap();
    let output = lab.hop("bare", &login, &["-s", "proxy:worker:22"]).await;
    assert!(text(&output.stderr).contains("Permission denied (publickey)"), "{output:?}");
    assert_eq!(lab.proxy.counters().logins, 0);

    let mut rotated = lab.authority.clone();
    rotated.rotate().unwrap();
    lab.proxy.set_authority(&rotated, &[]).unwrap();
    let output = lab.hop("alice", &login, &["-s", "proxy:worker:22"]).await;
    assert!(text(&output.stderr).contains("Host key verification failed"), "{output:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_face_knows_nothing_but_sha1() {
    let lab = Lab::new(Face::Old).await;
    let mut ssh = Command::new("ssh");
    let modern: Vec<String> = lab
        .to_proxy("alice")
        .into_iter()
        .map(|word| {
            word.replace("=+ssh-rsa-cert-v01@openssh.com,ssh-rsa", "=rsa-sha2-512-cert-v01@openssh.com")
        })
        .collect();
    ssh.args(modern).args([&format!("{}@127.0.0.1", lab.login), "-s", "proxy:worker:22"]);
    let output = run(ssh).await;
    assert!(
        text(&output.stderr)
            .contains("no matching host key type found. Their offer: ssh-rsa-cert-v01@openssh.com"),
        "{output:?}"
    );
}

/// An ssh to the node through the proxy that has printed its first line.
async fn running(lab: &Lab) -> (tokio::process::Child, BufReader<tokio::process::ChildStdout>) {
    let proxy = format!("ssh {} {}@127.0.0.1 -s proxy:%h:%p", lab.to_proxy("alice").join(" "), lab.login);
    let mut ssh = Command::new("ssh");
    ssh.args(lab.options("alice"))
        .args(["-o", &format!("ProxyCommand={proxy}")])
        .args([&format!("{}@worker", lab.login), "echo ready; sleep 60"])
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .kill_on_drop(true);
    let mut child = ssh.spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    timeout(Duration::from_secs(20), stdout.read_line(&mut line)).await.unwrap().unwrap();
    assert_eq!(line, "ready\n");
    (child, stdout)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_ends_connections_that_are_idle_or_expired() {
    let lab = Lab::new(Face::New).await;
    let (mut idle, _stdout) = running(&lab).await;
    lab.proxy.set_idle_timeout(Some(Duration::from_secs(1)));
    let ended = timeout(Duration::from_secs(10), idle.wait()).await.unwrap().unwrap();
    assert_eq!(ended.code(), Some(255));
    assert_eq!(lab.proxy.counters().evicted, 1);

    lab.proxy.set_idle_timeout(None);
    lab.issue(
        "alice",
        &UserRequest::new("alice", &[&lab.login]).valid(Validity::ttl(Duration::from_secs(4))),
    );
    let (mut expiring, _stdout) = running(&lab).await;
    lab.proxy.set_policy(|policy| policy.disconnect_expired = true);
    let ended = timeout(Duration::from_secs(15), expiring.wait()).await.unwrap().unwrap();
    assert_eq!(ended.code(), Some(255));
    assert_eq!(lab.proxy.counters().evicted, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_node_is_not_answered_and_others_are() {
    let lab = Lab::new(Face::New).await;
    assert_eq!(lab.proxy.freeze_node("worker"), 1);
    let words = ["-s", "proxy:worker:22"];
    let frozen = lab.hop("alice", &lab.login, &words);
    assert!(timeout(Duration::from_secs(2), frozen).await.is_err(), "a frozen node answered");
    let sites = lab.hop("alice", &lab.login, &["-s", "proxysites"]).await;
    assert!(!sites.stdout.is_empty());
    lab.proxy.thaw_node("worker");
    let output = lab.nested("alice", "echo awake").await;
    assert_eq!(text(&output.stdout), "awake\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_rejoin_a_proxy_that_came_back() {
    let mut lab = Lab::new(Face::New).await;
    let (mut open, _stdout) = running(&lab).await;
    let (clients, tunnel) = (lab.proxy.client_address(), lab.proxy.tunnel_address());
    lab.proxy.stop();
    let ended = timeout(Duration::from_secs(5), open.wait()).await.unwrap().unwrap();
    assert_eq!(ended.code(), Some(255));
    let again = |address: SocketAddr| async move { bind(address).await };
    lab.proxy = start_proxy(&lab.authority, Face::New, again(clients).await, again(tunnel).await);
    let begun = Instant::now();
    lab.until_online(true).await;
    assert!(begun.elapsed() < Duration::from_secs(3), "rejoined after {:?}", begun.elapsed());
    assert_eq!(text(&lab.nested("alice", "echo back").await.stdout), "back\n");
}

/// Binds the address again; the listener's task may need a moment to let go of it.
async fn bind(address: SocketAddr) -> TcpListener {
    let begun = Instant::now();
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(error) => assert!(begun.elapsed() < Duration::from_secs(5), "{error}"),
        }
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recording_proxy_insists_on_the_agent() {
    let lab = Lab::new(Face::New).await;
    lab.proxy.set_policy(|policy| policy.recording = Recording::Proxy);
    let output = lab.hop("alice", &lab.login, &["-s", "proxy:worker:22"]).await;
    refused(&output, "agent forwarding required in proxy recording mode");

    let socket = lab.path("agent.sock");
    let mut agent = Command::new("ssh-agent")
        .args(["-D", "-a"])
        .arg(&socket)
        .stdout(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    while !socket.exists() {
        sleep(Duration::from_millis(10)).await;
    }
    let add = Command::new("ssh-add")
        .arg("-q")
        .arg(lab.path("alice"))
        .env("SSH_AUTH_SOCK", &socket)
        .output()
        .await
        .unwrap();
    assert!(add.status.success(), "{add:?}");
    let mut ssh = Command::new("ssh");
    ssh.args(lab.to_proxy("alice"))
        .args(["-o", "ForwardAgent=yes"])
        .args(["-o", &format!("IdentityAgent={}", socket.display())])
        .arg(format!("{}@127.0.0.1", lab.login))
        .args(["-s", "proxy:worker:22"]);
    let output = run(ssh).await;
    assert!(text(&output.stdout).starts_with("SSH-2.0-"), "{output:?}");
    assert_eq!(lab.proxy.counters().agents_listed, 1);
    agent.kill().await.unwrap();
}
