//! A broker with one upstream, whose first hop lies behind a relay that can be broken.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use natssh_lab::ca::{HostRequest, openssh};
use natssh_lab::relay::{self, Relay};
use natssh_lab::state::write_private;
use natssh_tests::node::Listening;
use natssh_tests::way::Way;
use natssh_tests::{Running, Said, World};
use tokio::net::TcpListener;

/// Whether natssh itself speaks SSH on the path that is broken, and with an identity.
pub(crate) fn has_trunks(way: Way) -> bool {
    matches!(way, Way::Teleport | Way::Tls | Way::Bastion | Way::Chain)
}

/// The ground of one column of the table.
pub(crate) struct Ground {
    pub(crate) way: Way,
    pub(crate) world: World,
    relay: Option<Relay>,
    _servers: Vec<Listening>,
}

impl Ground {
    pub(crate) fn new(way: Way) -> Self {
        let mut plan = way.plan().nodes(1).without_broker();
        if way.is_teleport() {
            plan = plan.relay().upstream(TERMS);
        }
        let world = plan.start();
        let (mut servers, mut own) = (Vec::new(), None);
        let node = lab_node(&world);
        if !way.is_teleport() {
            let sshd = world.listening(&node);
            let at_node = sshd.address();
            servers.push(sshd);
            let bastions = match way {
                Way::Bastion => 1,
                Way::Chain => 2,
                _ => 0,
            };
            for n in 0..bastions {
                servers.push(bastion(&world, n));
            }
            let first = servers.last().map_or(at_node, Listening::address);
            let relay = relay_to(&world, first);
            world.write_config(&config(&world, way, at_node, relay.address(), &servers));
            own = Some(relay);
        }
        world.write_ssh_config(IMPATIENT);
        world.start_broker();
        Self { way, world, relay: own, _servers: servers }
    }

    /// What lies between the broker and its first hop.
    pub(crate) fn path(&self) -> &Relay {
        self.relay.as_ref().unwrap_or_else(|| self.world.relay())
    }

    /// The node that is asked.
    pub(crate) fn node(&self) -> String {
        lab_node(&self.world)
    }

    /// `ssh NODE echo WORD`, to its end or for as long as anything may take.
    pub(crate) fn ask(&self, word: &str) -> Said {
        Running::start(self.world.ssh(&[&self.node(), &format!("echo {word}")])).end_within(BOUND)
    }

    /// An ssh that runs until its stdin ends, and its first sign of life.
    pub(crate) fn hold(&self) -> Running {
        let ssh = Running::interactive(self.world.ssh(&[&self.node(), "echo open; cat"]));
        ssh.until_said("open");
        ssh
    }
}

/// The longest that any command may take, whatever is broken: ssh's own patience
/// for a connection and for a server that went silent, on a busy machine.
pub(crate) const BOUND: Duration = Duration::from_secs(20);

/// The upstream's.
const TERMS: &str = "connect_timeout = \"4s\"\nkeepalive = \"1s\"";

/// ssh's: what Ansible's users set, scaled down.
const IMPATIENT: &str = "Host *\n  ConnectTimeout 8\n  ServerAliveInterval 2\n  ServerAliveCountMax 2\n";

fn lab_node(world: &World) -> String {
    let status = world.lab.status().expect("the lab answers");
    status.nodes.first().expect("a plan with a node").name.clone()
}

fn relay_to(world: &World, target: SocketAddr) -> Relay {
    let _inside = world.runtime().enter();
    let listener = world.runtime().block_on(TcpListener::bind("127.0.0.1:0")).expect("a free port");
    relay::start(listener, target, Duration::ZERO).expect("a listener has an address")
}

/// A real sshd that lets the user in to go on from there.
fn bastion(world: &World, number: usize) -> Listening {
    let keys = world.path().join(format!("bastion-{number}"));
    let request = HostRequest::proxy(&format!("bastion-{number}"), "bastion", &[]);
    let host = world.lab.authority().issue_host(&request).expect("a certificate for it");
    openssh::write(&keys, &host).expect("our own folder");
    let user_ca = world.lab.folder().node(&lab_node(world)).join("ssh/user_ca.pub");
    let config = format!(
        "HostKey {keys}\nHostCertificate {keys}-cert.pub\nTrustedUserCAKeys {}\nAuthorizedKeysFile none\n\
         PermitRootLogin prohibit-password\nUsePAM no\nStrictModes no\nPidFile none\nAllowTcpForwarding local\n",
        user_ca.display(),
        keys = keys.display(),
    );
    let path = world.path().join(format!("bastion-{number}.conf"));
    write_private(&path, &config).expect("our own folder");
    Listening::sshd(world.runtime(), &path)
}

/// natssh.toml of every way but Teleport's, which the plan writes.
fn config(world: &World, way: Way, node: SocketAddr, path: SocketAddr, servers: &[Listening]) -> String {
    let bastion = |name: &str, host: SocketAddr, more: &str| {
        format!(
            "[upstream.{name}]\nkind = \"bastion\"\nhost = \"{host}\"\nlogin = \"{}\"\nidentity = \"me\"\n\
             known_hosts = [\"{}\"]\n{TERMS}\n{more}\n",
            world.login(),
            world.credentials.known_hosts().display(),
        )
    };
    // Where the node is, as seen from the last hop.
    let mut at = node;
    let upstreams = match way {
        Way::Bastion => bastion("lab", path, ""),
        Way::Chain => {
            // The one behind is the first that was started.
            let behind = servers[1].address();
            bastion("front", path, "") + &bastion("lab", behind, "via = \"front\"")
        }
        Way::Command => format!(
            "[upstream.lab]\nkind = \"command\"\ncommand = \"socat - TCP:{path}\"\nconnect_timeout = \"4s\"\n"
        ),
        Way::Direct | Way::Teleport | Way::Tls => {
            at = path;
            "[upstream.lab]\nkind = \"direct\"\nconnect_timeout = \"4s\"\n".to_owned()
        }
    };
    let identity = if has_trunks(way) { "[identity.me]\ntsh = true\n" } else { "" };
    format!(
        "{upstreams}\n{identity}\n[[route]]\nhosts = [\"*\"]\nupstream = \"lab\"\nmap = {{ \"{}\" = \"{}\" }}\nport = {}\n",
        lab_node(world),
        at.ip(),
        at.port(),
    )
}

/// The descriptors that a process holds.
pub(crate) fn descriptors(pid: rustix::process::Pid) -> usize {
    let folder = format!("/proc/{}/fd", pid.as_raw_nonzero());
    fs::read_dir(folder).map_or(0, Iterator::count)
}
