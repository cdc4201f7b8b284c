//! A bastion is any sshd: who it is and who we are is settled as with `ssh -J`, and what it
//! refuses is told in its own words.

use natssh_tests::node::Listening;
use natssh_tests::{Plan, Running, Said, Sshd, World, need, run, until};
use natssh_wire::FailureKind;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// A bastion in front of the lab's node `worker`, and a broker that knows it.
struct Ground {
    bastion: Sshd,
    node: Listening,
    world: World,
}

impl Ground {
    /// An sshd with a host key of each of these kinds, and more lines of its configuration.
    fn new(kinds: &[&str], lines: &str) -> Self {
        let world = Plan::new().without_broker().start();
        keygen(&world, "ed25519", "me");
        let mut config = format!(
            "AuthorizedKeysFile {}\nStrictModes no\nPidFile none\nUsePAM no\nLogLevel VERBOSE\n{lines}\n",
            world.path().join("me.pub").display()
        );
        for kind in kinds {
            keygen(&world, kind, &format!("host_{kind}"));
            config += &format!("HostKey {}\n", world.path().join(format!("host_{kind}")).display());
        }
        let bastion = Sshd::start(world.path(), &config);
        let node = world.listening("worker");
        Self { bastion, node, world }
    }

    /// The usual: one key, which is known.
    fn usual(lines: &str) -> Self {
        let ground = Self::new(&["ed25519"], lines);
        ground.know("host_ed25519");
        ground.start("");
        ground
    }

    /// Writes known_hosts, with this key as the bastion's.
    fn know(&self, key: &str) {
        let line = format!("[127.0.0.1]:{} {}\n", self.bastion.address().port(), self.public(key));
        fs::write(self.path("known_hosts"), line).expect("our own folder");
    }

    fn start(&self, more: &str) {
        let identity = format!("key = {:?}", self.path("me"));
        self.start_as(&identity, more);
    }

    /// Starts the broker with more lines for the upstream.
    fn start_as(&self, identity: &str, more: &str) {
        self.world.write_config(&format!(
            "default = \"lab\"\n[identity.me]\n{identity}\n[upstream.lab]\nkind = \"bastion\"\nhost = \"{}\"\nlogin = {:?}\n\
             known_hosts = [{:?}]\n{more}\n[[route]]\nhosts = [\"worker\"]\nupstream = \"lab\"\n\
             map = {{ worker = \"127.0.0.1\" }}\nport = {}\n",
            self.bastion.address(),
            self.world.login(),
            self.path("known_hosts"),
            self.node.address().port(),
        ));
        self.world.start_broker();
    }

    fn ssh(&self, host: &str) -> Said {
        run(self.world.ssh(&[host, "echo here"]))
    }

    /// ssh could not reach the host; the words are ssh's, and `natssh why` has them too.
    fn refusal(&self, host: &str) -> String {
        let said = self.ssh(host);
        let words = said.unreachable().lines().next().unwrap_or_default().to_owned();
        let why = self.world.why(host).text();
        // What to type stands in brackets here and on a line of its own there.
        let sentence = words.trim_start_matches("natssh: ").split(" (").next().unwrap_or_default();
        assert!(why.contains(sentence), "{sentence:?} is not in {why}");
        words
    }

    fn path(&self, name: &str) -> PathBuf {
        self.world.path().join(name)
    }

    /// Type and key of a public key file.
    fn public(&self, name: &str) -> String {
        let text = fs::read_to_string(self.path(&format!("{name}.pub"))).expect("it was made");
        text.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
    }
}

fn keygen(world: &World, kind: &str, name: &str) {
    let mut command = world.command("ssh-keygen");
    run({
        command.args(["-q", "-t", kind, "-N", "", "-f"]).arg(world.path().join(name));
        command
    })
    .ok();
}

#[test]
fn many_connections_share_one_to_the_bastion() {
    need!("ssh", "sshd", "ssh-keygen");
    let ground = Ground::usual("");
    let all: Vec<_> = (0..6).map(|_| Running::start(ground.world.ssh(&["worker", "echo here"]))).collect();
    for ssh in all {
        assert_eq!(ssh.end().ok(), "here\n");
    }
    assert_eq!(ground.bastion.log_lines("Accepted publickey"), 1);
    let upstream = ground.world.until_upstream("all streams have ended", |upstream| upstream.streams == 0);
    assert_eq!((upstream.kind.as_str(), upstream.streams_total, upstream.dials_ok), ("bastion", 6, 1));
}

#[test]
fn a_bastion_that_is_unknown_or_another_is_not_believed() {
    need!("ssh", "sshd", "ssh-keygen");
    let ground = Ground::new(&["ed25519"], "");
    fs::write(ground.path("known_hosts"), "").expect("our own folder");
    ground.start("");
    let words = ground.refusal("worker");
    assert!(words.contains(&ground.bastion.address().port().to_string()), "{words}");
    keygen(&ground.world, "ed25519", "another");
    ground.know("another");
    // A refused key is remembered for two seconds.
    until("the changed key is told", || ground.refusal("worker").contains("has changed").then_some(()));
    assert_eq!(ground.world.failures("worker")[0].kind, FailureKind::HostKey);
    assert_eq!(ground.bastion.log_lines("Accepted publickey"), 0);
}

#[test]
fn a_bastion_is_asked_for_the_kind_of_key_that_is_known() {
    need!("ssh", "sshd", "ssh-keygen");
    for known in ["rsa", "ecdsa", "ed25519"] {
        let ground = Ground::new(&["rsa", "ecdsa", "ed25519"], "");
        ground.know(&format!("host_{known}"));
        ground.start("");
        assert_eq!(ground.ssh("worker").ok(), "here\n", "{known}");
    }
}

#[test]
fn what_the_bastion_forbids_is_told_with_the_options_to_look_at() {
    need!("ssh", "sshd", "ssh-keygen");
    let ground = Ground::usual("AllowTcpForwarding no");
    let words = ground.refusal("worker");
    let node = format!("127.0.0.1:{}", ground.node.address().port());
    assert!(words.contains(&format!("does not forward to node {node}")), "{words}");
    let failure = &ground.world.failures("worker")[0];
    assert_eq!(failure.kind, FailureKind::Denied);
    assert!(failure.hint.as_ref().is_some_and(|hint| hint.contains("AllowTcpForwarding")), "{failure:?}");
}

#[test]
fn a_node_that_the_bastion_cannot_reach_is_told_in_its_words() {
    need!("ssh", "sshd", "ssh-keygen");
    let ground = Ground::usual("");
    let Ground { node, world, bastion } = ground;
    let port = node.address().port();
    drop(node);
    let said = run(world.ssh(&["worker", "true"]));
    let expected = format!(
        "bastion {} could not connect to node 127.0.0.1:{port}: Connection refused",
        bastion.address()
    );
    assert!(said.unreachable().contains(&expected), "{}", said.stderr);
    assert_eq!(world.failures("worker")[0].kind, FailureKind::Offline);
}

#[test]
fn nodes_that_dialled_out_are_reached_by_their_sockets() {
    need!("ssh", "sshd", "ssh-keygen");
    let ground = Ground::new(&["ed25519"], "");
    ground.know("host_ed25519");
    let socket = ground.path("worker.sock");
    // The node's side is stock ssh: `ssh -R SOCKET:localhost:22 bastion`.
    let forward = format!("{}:{}", socket.display(), ground.node.address());
    let known = format!("UserKnownHostsFile={}", ground.path("known_hosts").display());
    let mut dial_out = ground.world.command("ssh");
    dial_out
        .args(["-F", "none", "-N", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", &known, "-i"])
        .arg(ground.path("me"))
        .args(["-R", &forward, "-p", &ground.bastion.address().port().to_string()])
        .arg(format!("{}@127.0.0.1", ground.world.login()));
    let node = Running::interactive(dial_out);
    until("the node has dialled out", || socket.exists().then_some(()));
    // The route's names would lead to an address; a socket has the node's own.
    ground.world.write_config(&format!(
        "default = \"lab\"\n[identity.me]\nkey = {:?}\n[upstream.lab]\nkind = \"bastion\"\nhost = \"{}\"\nlogin = {:?}\n\
         known_hosts = [{:?}]\nsocket = \"{}/{{node}}.sock\"\n",
        ground.path("me"),
        ground.bastion.address(),
        ground.world.login(),
        ground.path("known_hosts"),
        ground.world.path().display(),
    ));
    ground.world.start_broker();
    assert_eq!(ground.ssh("worker").ok(), "here\n");
    let words = ground.refusal("nobody");
    assert!(words.contains("could not connect to node nobody:22"), "{words}");
    drop(node);
}

#[test]
fn the_right_key_of_an_agent_is_found_among_others() {
    need!("ssh", "sshd", "ssh-keygen", "ssh-agent", "ssh-add");
    let ground = Ground::new(&["ed25519"], "");
    ground.know("host_ed25519");
    let agent = Agent::start(&ground.world);
    for (kind, name) in [("ecdsa", "first"), ("ed25519", "second")] {
        keygen(&ground.world, kind, name);
        agent.add(&ground.world, name);
    }
    agent.add(&ground.world, "me");
    ground.start_as(&format!("agent = {:?}", agent.socket), "");
    assert_eq!(ground.ssh("worker").ok(), "here\n");
    assert_eq!(ground.bastion.log_lines("Accepted publickey"), 1);
}

/// An ssh-agent, which ends with this.
struct Agent {
    child: Child,
    socket: PathBuf,
}

impl Agent {
    fn start(world: &World) -> Self {
        let socket = world.path().join("agent.sock");
        let mut command: Command = world.command("ssh-agent");
        command.args(["-D", "-a"]).arg(&socket).stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().expect("ssh-agent starts");
        natssh_tests::wait::until_heard_at(&socket);
        Self { child, socket }
    }

    fn add(&self, world: &World, key: &str) {
        let mut command = world.command("ssh-add");
        command.env("SSH_AUTH_SOCK", &self.socket).arg("-q").arg(world.path().join(key));
        run(command).ok();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
