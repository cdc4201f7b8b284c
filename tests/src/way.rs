//! The ways to a node: every kind of upstream over the same two nodes, each
//! with the means to break it and to mend it.

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use natssh_lab::Fault;
use natssh_lab::ca::{HostRequest, openssh};
use natssh_lab::faults::{NodeFault, ProxyFault};

use crate::Plan;
use crate::sshd::Sshd;
use crate::world::World;

/// The nodes of every ground.
pub const NODES: [&str; 2] = ["worker", "control-plane"];

/// The kinds of upstream, as far as they lead to nodes in different ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// A channel on a trunk to the proxy, which knows the nodes by their tunnels.
    Teleport,
    /// The same, where the trunk is inside TLS.
    Tls,
    /// A channel on a trunk to an sshd, which dials the nodes.
    Bastion,
    /// The same, where the trunk stands on a channel of another bastion.
    Chain,
    /// `ssh -W` to an sshd, a process for each stream.
    Command,
    /// A TCP connection to the node.
    Direct,
}

impl Way {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Teleport, Self::Tls, Self::Bastion, Self::Chain, Self::Command, Self::Direct];

    /// Whether a Teleport proxy leads to the nodes.
    pub fn is_teleport(self) -> bool {
        matches!(self, Self::Teleport | Self::Tls)
    }

    /// A world whose nodes are behind such a proxy, where this is a way through one.
    pub fn plan(self) -> Plan {
        if self == Self::Tls { Plan::new().tls_routing() } else { Plan::new() }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Teleport => "teleport",
            Self::Tls => "teleport, TLS",
            Self::Bastion => "bastion",
            Self::Chain => "chain of two",
            Self::Command => "command",
            Self::Direct => "direct",
        })
    }
}

/// What leads to the second bastion of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hop {
    /// A channel on a trunk to the first.
    Trunk,
    /// `ssh -W` to the first, one process for the whole trunk.
    Command,
}

/// Two nodes, a way to them, and a broker that knows it as the upstream `lab`.
#[derive(Debug)]
pub struct Ground {
    /// The user's side.
    pub world: World,
    /// What lies between.
    pub way: Way,
    /// The servers of [`NODES`], unless a proxy starts them.
    nodes: Vec<Mutex<Sshd>>,
    /// The bastions, the first one dialled first.
    bastions: Vec<Mutex<Sshd>>,
}

impl Ground {
    /// Makes it.
    ///
    /// # Panics
    /// When something does not come up; the sentence says what.
    #[track_caller]
    pub fn lay(way: Way) -> Self {
        Self::over(way, Hop::Trunk)
    }

    /// The same, with a choice of what carries a chain.
    ///
    /// # Panics
    /// As [`Ground::lay`].
    #[track_caller]
    pub fn over(way: Way, hop: Hop) -> Self {
        if way.is_teleport() {
            return Self { world: way.plan().start(), way, nodes: Vec::new(), bastions: Vec::new() };
        }
        let world = Plan::new().without_broker().start();
        let nodes: Vec<_> = NODES.into_iter().map(|node| listening(&world, node)).collect();
        let bastions = match way {
            Way::Chain => vec!["outer", "inner"],
            Way::Bastion | Way::Command => vec!["outer"],
            Way::Teleport | Way::Tls | Way::Direct => Vec::new(),
        };
        let bastions: Vec<_> = bastions.into_iter().map(|name| bastion(&world, name)).collect();
        let addresses = |servers: &[Sshd]| servers.iter().map(Sshd::address).collect::<Vec<_>>();
        let config = config(&world, way, hop, &addresses(&nodes), &addresses(&bastions));
        world.write_config(&config);
        world.start_broker();
        let shared = |servers: Vec<Sshd>| servers.into_iter().map(Mutex::new).collect();
        Self { world, way, nodes: shared(nodes), bastions: shared(bastions) }
    }

    /// Breaks the way, with all that is open on it.
    pub fn break_way(&self) {
        match self.way {
            Way::Teleport | Way::Tls => self.world.fault(Fault::Proxy(ProxyFault::Stop)),
            Way::Direct => self.nodes.iter().for_each(|node| lock(node).kill()),
            Way::Bastion | Way::Chain | Way::Command => lock(&self.bastions[0]).kill(),
        }
    }

    /// Mends what [`Ground::break_way`] has broken.
    pub fn mend_way(&self) {
        match self.way {
            Way::Teleport | Way::Tls => self.world.fault(Fault::Proxy(ProxyFault::Start)),
            Way::Direct => self.nodes.iter().for_each(|node| lock(node).start_again()),
            Way::Bastion | Way::Chain | Way::Command => lock(&self.bastions[0]).start_again(),
        }
    }

    /// Stops a node without a word to anybody.
    pub fn freeze(&self, node: &str) {
        match self.server(node) {
            Some(server) => lock(server).freeze(),
            None => self.world.fault(Fault::Node(NodeFault::Freeze { node: node.into() })),
        }
    }

    /// Ends [`Ground::freeze`].
    pub fn thaw(&self, node: &str) {
        match self.server(node) {
            Some(server) => lock(server).thaw(),
            None => self.world.fault(Fault::Node(NodeFault::Thaw { node: node.into() })),
        }
    }

    /// Takes a node away.
    pub fn stop(&self, node: &str) {
        match self.server(node) {
            Some(server) => lock(server).kill(),
            None => self.world.fault(Fault::Node(NodeFault::Offline { node: node.into() })),
        }
    }

    /// Brings it back.
    pub fn start(&self, node: &str) {
        match self.server(node) {
            Some(server) => lock(server).start_again(),
            None => self.world.fault(Fault::Node(NodeFault::Online { node: node.into() })),
        }
    }

    /// As [`World::reconfigure`].
    ///
    /// # Panics
    /// As that.
    #[track_caller]
    pub fn reload(&self, old: &str, new: &str) {
        self.world.reconfigure(old, new);
    }

    fn server(&self, node: &str) -> Option<&Mutex<Sshd>> {
        let at = NODES.iter().position(|name| *name == node).expect("one of the nodes");
        self.nodes.get(at)
    }
}

fn lock(server: &Mutex<Sshd>) -> MutexGuard<'_, Sshd> {
    server.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The lab's node of this name as a server that listens, with OpenSSH's own limits.
fn listening(world: &World, node: &str) -> Sshd {
    let own = world.lab.folder().node(node).join("ssh/sshd_config");
    let lines = fs::read_to_string(own).expect("the lab has written it");
    Sshd::start(&folder(world, node), &lines)
}

/// A server with a key of its own that lets the user in and forwards.
fn bastion(world: &World, name: &str) -> Sshd {
    let folder = folder(world, name);
    let request = HostRequest::proxy(name, "proxy", &[]);
    let host = world.lab.authority().issue_host(&request).expect("a key for it");
    openssh::write(&key(world, name), &host).expect("our own folder");
    let lines = format!(
        "HostKey {}\nTrustedUserCAKeys {}\nAuthorizedKeysFile none\nPermitRootLogin prohibit-password\n\
         UsePAM no\nUseDNS no\nStrictModes no\nPidFile none\n",
        key(world, name).display(),
        world.lab.folder().node("worker").join("ssh/user_ca.pub").display(),
    );
    let sshd = Sshd::start(&folder, &lines);
    let public = fs::read_to_string(key(world, name).with_extension("pub")).expect("just written");
    let known = format!("[127.0.0.1]:{} {public}", sshd.address().port());
    fs::write(known_hosts(world, name), known).expect("our own folder");
    sshd
}

fn folder(world: &World, name: &str) -> PathBuf {
    let folder = world.path().join(name);
    natssh_lab::state::create_private(&folder).expect("a folder of our own");
    folder
}

fn key(world: &World, name: &str) -> PathBuf {
    world.path().join(name).join("host_key")
}

fn known_hosts(world: &World, name: &str) -> PathBuf {
    world.path().join(name).join("known_hosts")
}

/// natssh.toml. Names of nodes become addresses by their routes, and every other host goes the same way.
fn config(world: &World, way: Way, hop: Hop, nodes: &[SocketAddr], bastions: &[SocketAddr]) -> String {
    let mut text = "default = \"lab\"\n\n[identity.me]\ntsh = true\n".to_owned();
    for (name, address) in NODES.iter().zip(nodes) {
        text += &format!(
            "\n[[route]]\nhosts = [\"{name}\"]\nupstream = \"lab\"\nmap = {{ {name} = \"{}\" }}\nport = {}\n",
            address.ip(),
            address.port()
        );
    }
    let bastion = |upstream: &str, name: &str, address: &SocketAddr, more: &str| {
        format!(
            "\n[upstream.{upstream}]\nkind = \"bastion\"\nhost = \"{address}\"\nlogin = \"{}\"\nidentity = \"me\"\n\
             known_hosts = [\"{}\"]\n{more}",
            world.login(),
            known_hosts(world, name).display(),
        )
    };
    let command = |upstream: &str, address: &SocketAddr, more: &str| {
        let command = ssh_to(world, "outer", *address);
        format!("\n[upstream.{upstream}]\nkind = \"command\"\ncommand = '''{command}'''\n{more}")
    };
    let limit = "connect_timeout = \"5s\"\n";
    match (way, bastions) {
        (Way::Bastion, [outer]) => text += &bastion("lab", "outer", outer, limit),
        (Way::Chain, [outer, inner]) => {
            text += &match hop {
                Hop::Trunk => bastion("outer", "outer", outer, ""),
                Hop::Command => command("outer", outer, ""),
            };
            text += &bastion("lab", "inner", inner, &format!("via = \"outer\"\n{limit}"));
        }
        (Way::Command, [outer]) => text += &command("lab", outer, limit),
        _ => text += &format!("\n[upstream.lab]\nkind = \"direct\"\n{limit}"),
    }
    text
}

/// The ProxyCommand of someone who has a bastion and no natssh.
fn ssh_to(world: &World, name: &str, bastion: SocketAddr) -> String {
    let config = world.path().join(name).join("ssh_config");
    let key = world.credentials.openssh_key();
    let text = format!(
        "Host bastion\n  HostName {}\n  Port {}\n  User {}\n  IdentityFile {key}\n  CertificateFile {key}-cert.pub\n  \
         IdentitiesOnly yes\n  IdentityAgent none\n  BatchMode yes\n  UserKnownHostsFile {}\n  \
         GlobalKnownHostsFile none\n  StrictHostKeyChecking yes\n  UpdateHostKeys no\n  \
         KexAlgorithms curve25519-sha256\n  CASignatureAlgorithms +ssh-rsa\n",
        bastion.ip(),
        bastion.port(),
        world.login(),
        known_hosts(world, name).display(),
        key = key.display(),
    );
    fs::write(&config, text).expect("our own folder");
    format!("{} -F {} -W %h:%p bastion", program("ssh").display(), config.display())
}

fn program(name: &str) -> PathBuf {
    natssh_lab::tools::find(name).unwrap_or_else(|| Path::new(name).to_owned())
}
