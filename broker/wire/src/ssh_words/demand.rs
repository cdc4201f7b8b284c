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

/// The first reason: what connects to nothing first, because beside it the others do not matter.
pub(super) fn of(call: &Invocation) -> Option<Demand> {
    let never = |reason| Some(Demand { reason, tunnel: Tunnel::Never });
    let routed = |reason| Some(Demand { reason, tunnel: Tunnel::AsRouted });
    let option = TABLE.iter().find(|(letter, ..)| call.has(*letter));
    match option {
        Some((_, Tunnel::Never, reason)) => never(reason),
        // What natssh answers of it is no call either: see `Invocation::control`.
        _ if call.has('O') => never("-O controls a master of ssh's own"),
        Some((_, Tunnel::AsRouted, reason)) => routed(reason),
        None if call.host().is_empty() => never("the host has no name"),
        // ssh refuses most of these, by the order in which they stand.
        None if call.is_subsystem() && (call.has('N') || call.has('W')) => {
            never("-s and -N exclude each other")
        }
        None if call.has('W') && call.stdio_forward().is_none() => {
            routed("-W names no host with a number of a port")
        }
        None => None,
    }
}

/// By option.
pub(super) const TABLE: [(char, Tunnel, &str); 16] = [
    ('G', Tunnel::Never, "-G prints the configuration"),
    ('Z', Tunnel::Never, "-Z prints public keys"),
    ('A', Tunnel::AsRouted, "-A forwards the agent"),
    ('B', Tunnel::AsRouted, "-B binds to an interface"),
    ('D', Tunnel::AsRouted, "-D forwards ports"),
    ('I', Tunnel::AsRouted, "-I uses keys of a PKCS#11 library"),
    ('K', Tunnel::AsRouted, "-K authenticates by GSSAPI"),
    ('L', Tunnel::AsRouted, "-L forwards a port"),
    ('M', Tunnel::AsRouted, "-M makes a master of ssh's own"),
    ('P', Tunnel::AsRouted, "-P means something else to every other version of ssh"),
    ('R', Tunnel::AsRouted, "-R forwards a port"),
    ('X', Tunnel::AsRouted, "-X forwards X11"),
    ('Y', Tunnel::AsRouted, "-Y forwards X11"),
    ('f', Tunnel::AsRouted, "-f goes to the background"),
    ('w', Tunnel::AsRouted, "-w forwards a network device"),
    ('y', Tunnel::AsRouted, "-y logs to syslog"),
];
