//! `ProxyJump` and `-J`: the hosts on the way are reached once, for all hosts behind them and for every call.

use natssh_tests::{Plan, Said, Sshd, World, need, run};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Two jump hosts and the nodes behind them, each a real sshd with a key of its own.
struct Ground {
    world: World,
    jumps: [Sshd; 2],
    nodes: [Sshd; 2],
}

impl Ground {
    fn new() -> Self {
        let world = Plan::new().without_broker().start();
        world.write_config("");
        keygen(&world, "me");
        let ground = Self {
            jumps: ["first", "second"].map(|name| sshd(&world, name)),
            nodes: ["web", "db"].map(|name| sshd(&world, name)),
            world,
        };
        let hosts = [
            ("first", &ground.jumps[0], ""),
            ("second", &ground.jumps[1], "ProxyJump first"),
            ("web", &ground.nodes[0], "ProxyJump second"),
            ("db", &ground.nodes[1], ""),
        ];
        let (mut config, mut known) = (String::new(), String::new());
        for (name, sshd, way) in hosts {
            let port = sshd.address().port();
            config += &format!("Host {name}\n  HostName 127.0.0.1\n  Port {port}\n  {way}\n");
            known += &format!("[127.0.0.1]:{port} {}", ground.public(name));
        }
        config += &format!(
            "Host *\n  User {}\n  IdentityFile {}\n  IdentitiesOnly yes\n  IdentityAgent none\n  BatchMode yes\n  \
             UserKnownHostsFile {}\n  GlobalKnownHostsFile none\n  StrictHostKeyChecking yes\n",
            ground.world.login(),
            ground.path("me").display(),
            ground.path("known_hosts").display(),
        );
        fs::write(ground.path("config"), config).expect("our own folder");
        fs::write(ground.path("known_hosts"), known).expect("our own folder");
        ground
    }

    /// `natssh -F config WORDS`.
    fn natssh(&self, words: &[&str]) -> Said {
        let mut natssh = self.world.natssh(&["-F"]);
        natssh.arg(self.path("config")).args(words);
        run(natssh)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.world.path().join(name)
    }

    /// The line of a public key, with its end.
    fn public(&self, name: &str) -> String {
        fs::read_to_string(self.path(&format!("{name}/key.pub"))).expect("it was made")
    }

    /// How often each of the jump hosts and each of the nodes let somebody in.
    fn let_in(&self) -> [usize; 4] {
        let [first, second] = &self.jumps;
        let [web, db] = &self.nodes;
        [first, second, web, db].map(|sshd| sshd.log_lines("Accepted publickey"))
    }
}

/// In a folder of its own, where its key is.
fn sshd(world: &World, name: &str) -> Sshd {
    let folder = world.path().join(name);
    fs::create_dir(&folder).expect("our own folder");
    keygen(world, &format!("{name}/key"));
    let lines = format!(
        "HostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nPidFile none\nUsePAM no\nLogLevel VERBOSE\n",
        folder.join("key").display(),
        world.path().join("me.pub").display(),
    );
    Sshd::start(&folder, &lines)
}

fn keygen(world: &World, name: &str) {
    let mut command: Command = world.command("ssh-keygen");
    command.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(world.path().join(name));
    run(command).ok();
}

#[test]
fn jump_hosts_are_reached_once_for_all_that_is_behind_them() {
    need!("ssh", "sshd", "ssh-keygen");
    let ground = Ground::new();
    for _ in 0..2 {
        assert_eq!(ground.natssh(&["web", "echo here"]).ok(), "here\n");
        assert_eq!(ground.natssh(&["-J", "second", "db", "echo there"]).ok(), "there\n");
    }
    assert_eq!(ground.let_in(), [1, 1, 1, 1]);
    // By another way it is another session, and what is on that way is kept as well.
    assert_eq!(ground.natssh(&["-J", "first", "db", "echo there"]).ok(), "there\n");
    assert_eq!(ground.natssh(&["db", "echo there"]).ok(), "there\n");
    assert_eq!(ground.let_in(), [1, 1, 1, 3]);
}

#[test]
fn a_jump_host_that_is_another_is_not_believed() {
    need!("ssh", "sshd", "ssh-keygen");
    let ground = Ground::new();
    keygen(&ground.world, "another");
    let another = fs::read_to_string(ground.path("another.pub")).expect("it was made");
    let known = fs::read_to_string(ground.path("known_hosts")).expect("ours");
    fs::write(ground.path("known_hosts"), known.replace(&ground.public("second"), &another)).expect("ours");
    let said = ground.natssh(&["web", "echo here"]);
    let port = ground.jumps[1].address().port().to_string();
    assert!(said.unreachable().contains("has changed") && said.stderr.contains(&port), "{}", said.stderr);
    assert_eq!(ground.let_in(), [1, 0, 0, 0]);
}
