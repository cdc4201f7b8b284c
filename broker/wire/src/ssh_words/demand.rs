//! Which words alone send a call to the real ssh, and why. `docs/ssh.md` shows the same table.

use super::Invocation;

/// The real ssh has to run a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    /// Why: lower case, no full stop.
    pub reason: &'static str,
    /// Whether it may need natssh's help to reach the host.
    pub tunnel: Tunnel,
}

/// Whether natssh's tunnel becomes the real ssh's ProxyCommand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tunnel {
    /// No: the call connects to nothing.
    Never,
    /// Where natssh's routes say that this is the way to the host.
    AsRouted,
}

/// The first reason, by the options in the order of this table.
pub(super) fn of(call: &Invocation) -> Option<Demand> {
    let options = TABLE.iter().find(|(letter, ..)| call.has(*letter));
    let demand = options.map(|(_, tunnel, reason)| Demand { reason, tunnel: *tunnel });
    demand.or_else(|| {
        let nameless = call.host().is_empty();
        nameless.then_some(Demand { reason: "the host has no name", tunnel: Tunnel::Never })
    })
}

/// What connects to nothing first: beside it, the others do not matter.
pub(super) const TABLE: [(char, Tunnel, &str); 19] = [
    ('G', Tunnel::Never, "-G prints the configuration"),
    ('O', Tunnel::Never, "-O controls a master of ssh's own"),
    ('Z', Tunnel::Never, "-Z prints public keys"),
    ('A', Tunnel::AsRouted, "-A forwards the agent"),
    ('B', Tunnel::AsRouted, "-B binds to an interface"),
    ('D', Tunnel::AsRouted, "-D forwards ports"),
    ('I', Tunnel::AsRouted, "-I uses keys of a PKCS#11 library"),
    ('K', Tunnel::AsRouted, "-K authenticates by GSSAPI"),
    ('L', Tunnel::AsRouted, "-L forwards a port"),
    ('M', Tunnel::AsRouted, "-M makes a master of ssh's own"),
    ('N', Tunnel::AsRouted, "-N runs nothing"),
    ('P', Tunnel::AsRouted, "-P means something else to every other version of ssh"),
    ('R', Tunnel::AsRouted, "-R forwards a port"),
    ('W', Tunnel::AsRouted, "-W connects standard input and output to a port"),
    ('X', Tunnel::AsRouted, "-X forwards X11"),
    ('Y', Tunnel::AsRouted, "-Y forwards X11"),
    ('f', Tunnel::AsRouted, "-f goes to the background"),
    ('w', Tunnel::AsRouted, "-w forwards a network device"),
    ('y', Tunnel::AsRouted, "-y logs to syslog"),
];
