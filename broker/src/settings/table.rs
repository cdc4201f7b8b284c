//! Every setting that `ssh -G` prints, and what natssh makes of it.
//!
//! Pure. `docs/ssh-settings.md` shows this table to people, and a test holds the two together; another
//! holds it against the keywords that the ssh of this machine prints. What is not in it counts as
//! [`Does::Default`]: a newer ssh's setting sends the call to that ssh as soon as somebody uses it.

use super::printed::Printed;
use Does::{Default, DefaultOverTcp, Native, Nothing, Only, Pool, When};

/// One keyword.
pub(super) struct Setting {
    /// As ssh_config(5) writes it.
    pub(super) name: &'static str,
    /// What natssh makes of it.
    pub(super) does: Does,
    /// Why, or how, in words for the docs.
    pub(super) why: &'static str,
}

/// What natssh makes of a setting.
pub(super) enum Does {
    /// What it says.
    Native,
    /// It is about keeping a connection, which the pool does.
    Pool,
    /// It says nothing about a command on a node.
    Nothing,
    /// What these values say; with another one the call is the real ssh's.
    Only(&'static [&'static str]),
    /// What values say that pass; with another one the call is the real ssh's.
    When(fn(&str) -> bool),
    /// What ssh says unasked; with any other value the call is the real ssh's.
    Default,
    /// The same where natssh connects to the host by TCP itself; behind anything else ssh does not use it either.
    DefaultOverTcp,
}

/// How natssh would reach the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// A TCP connection from this machine.
    Tcp,
    /// Anything that ssh would have called a proxy.
    Proxy,
}

const fn setting(name: &'static str, does: Does, why: &'static str) -> Setting {
    Setting { name, does, why }
}

const NO: &[&str] = &["no", "false"];

/// The table, by name.
pub(super) const TABLE: &[Setting] = &[
    setting(
        "AddKeysToAgent",
        Nothing,
        "a key that needs a passphrase goes to the real ssh, which adds it; natssh adds none",
    ),
    setting("AddressFamily", DefaultOverTcp, "natssh takes whichever family answers first"),
    setting(
        "BatchMode",
        Native,
        "natssh never asks; where no key does, the real ssh is not called to ask either",
    ),
    setting("BindAddress", DefaultOverTcp, "natssh connects from whichever address the system picks"),
    setting("BindInterface", DefaultOverTcp, "natssh connects through whichever interface the system picks"),
    setting("CanonicalDomains", Nothing, "`ssh -G` has found the name already"),
    setting("CanonicalizeFallbackLocal", Nothing, "`ssh -G` has found the name already"),
    setting("CanonicalizeHostname", Nothing, "`ssh -G` has found the name already, each time anew"),
    setting("CanonicalizeMaxDots", Nothing, "`ssh -G` has found the name already"),
    setting("CanonicalizePermittedCNAMEs", Nothing, "`ssh -G` has found the name already, each time anew"),
    setting("CASignatureAlgorithms", Native, "by which algorithms host certificates may be signed"),
    setting("CertificateFile", Native, "offered with its key"),
    setting(
        "ChallengeResponseAuthentication",
        Nothing,
        "natssh answers with keys only; where they do not do, the real ssh is asked",
    ),
    setting("ChannelTimeout", Only(&["none"]), "natssh closes no channel for being idle"),
    setting("CheckHostIP", DefaultOverTcp, "natssh looks a host up by its name, never by its address"),
    setting("Ciphers", Native, "in that order, as far as natssh has them"),
    setting("ClearAllForwardings", Nothing, "`ssh -G` prints no forwarding that was cleared"),
    setting("Compression", Nothing, "the bytes are the same; natssh does not compress them"),
    setting("ConnectionAttempts", Nothing, "natssh tries again by itself, within the time there is"),
    setting("ConnectTimeout", Native, "the time that reaching the node may take"),
    setting(
        "ControlMaster",
        Only(&["false", "no", "true", "yes", "auto"]),
        "natssh keeps the connection; it does not ask before each use",
    ),
    setting("ControlPath", Pool, "natssh keeps the connection; no socket is made there"),
    setting("ControlPersist", Pool, "how long a connection is kept unused"),
    setting("DynamicForward", Default, "natssh forwards no ports"),
    setting("EnableEscapeCommandline", Nothing, "`~C` would only forward ports, which natssh does not"),
    setting("EnableSSHKeysign", Nothing, "only with HostbasedAuthentication"),
    setting("EscapeChar", Native, "at a terminal"),
    setting(
        "ExitOnForwardFailure",
        Nothing,
        "a `-W` that fails ends in any case, and natssh forwards nothing else",
    ),
    setting("FingerprintHash", Nothing, "how fingerprints are shown"),
    setting("ForkAfterAuthentication", Only(NO), "natssh does not go to the background"),
    setting("ForwardAgent", Only(NO), "natssh forwards no agent"),
    setting("ForwardX11", Only(NO), "natssh forwards no X11"),
    setting("ForwardX11Timeout", Nothing, "only with ForwardX11"),
    setting("ForwardX11Trusted", Nothing, "only with ForwardX11"),
    setting("GatewayPorts", Nothing, "only with forwarded ports"),
    setting("GlobalKnownHostsFile", Native, "read, with `none` too"),
    setting(
        "GSSAPIAuthentication",
        Native,
        "where no key does, the real ssh is called for it, unless it is off",
    ),
    setting("GSSAPIClientIdentity", Nothing, "only with GSSAPI"),
    setting("GSSAPIDelegateCredentials", Only(NO), "natssh has no Kerberos tickets to hand on"),
    setting("GSSAPIKexAlgorithms", Nothing, "only with GSSAPIKeyExchange"),
    setting("GSSAPIKeyExchange", Only(NO), "natssh recognises a host by its key, not by Kerberos"),
    setting("GSSAPIRenewalForcesRekey", Nothing, "only with GSSAPI"),
    setting("GSSAPIServerIdentity", Nothing, "only with GSSAPI"),
    setting("GSSAPITrustDns", Nothing, "only with GSSAPI"),
    setting("HashKnownHosts", Native, "how a new key is written down"),
    setting("Host", Native, "the name as it was typed"),
    setting("HostbasedAcceptedAlgorithms", Nothing, "only with HostbasedAuthentication"),
    setting("HostbasedAuthentication", Only(NO), "natssh has no host key to show"),
    setting("HostbasedKeyTypes", Nothing, "only with HostbasedAuthentication"),
    setting("HostKeyAlgorithms", Native, "in that order, as far as natssh has them"),
    setting("HostKeyAlias", Native, "the name that a host key is looked up by"),
    setting("HostName", Native, "the host to reach"),
    setting(
        "IdentitiesOnly",
        Native,
        "nothing of the agent's but what IdentityFile and CertificateFile name",
    ),
    setting("IdentityAgent", Native, "a path, `$VARIABLE`, `SSH_AUTH_SOCK` or `none`"),
    setting("IdentityFile", Native, "offered in that order, each with its certificate"),
    setting("IgnoreUnknown", Nothing, "`ssh -G` has left them out already"),
    setting("IPQoS", Nothing, "natssh marks no packets"),
    setting(
        "KbdInteractiveAuthentication",
        Native,
        "where no key does, the real ssh is called for it, unless it is off",
    ),
    setting("KbdInteractiveDevices", Nothing, "only with KbdInteractiveAuthentication"),
    setting("KexAlgorithms", Native, "in that order, as far as natssh has them"),
    setting("KnownHostsCommand", Default, "it is the caller's program, run in the caller's environment"),
    setting("LocalCommand", Nothing, "only with PermitLocalCommand"),
    setting("LocalForward", Default, "natssh forwards no ports"),
    setting("LogLevel", Native, "natssh has little to say"),
    setting("LogVerbose", Nothing, "what ssh says about itself"),
    setting("MACs", Native, "in that order, as far as natssh has them"),
    setting("NoHostAuthenticationForLocalhost", Only(NO), "natssh checks every host's key"),
    setting("NumberOfPasswordPrompts", Nothing, "natssh never asks"),
    setting("ObscureKeystrokeTiming", Nothing, "keys are sent as they are typed"),
    setting(
        "PasswordAuthentication",
        Native,
        "where no key does, the real ssh is called for it, unless it is off",
    ),
    setting("PermitLocalCommand", Only(NO), "natssh runs nothing on this machine"),
    setting("PermitRemoteOpen", Nothing, "only with forwarded ports"),
    setting("PKCS11Provider", Default, "natssh speaks to no hardware"),
    setting("Port", Native, "the port to reach"),
    setting(
        "PreferredAuthentications",
        When(names_publickey),
        "lists that name `publickey`; natssh answers with keys only",
    ),
    setting("ProxyCommand", Native, "one process for each connection, not for each command"),
    setting("ProxyJump", Native, "each hop is one kept connection for all hosts behind it"),
    setting("ProxyUseFdpass", Nothing, "part of ProxyCommand"),
    setting("PubkeyAcceptedAlgorithms", Native, "what keys may sign with"),
    setting("PubkeyAcceptedKeyTypes", Native, "the older name of PubkeyAcceptedAlgorithms"),
    setting(
        "PubkeyAuthentication",
        Only(&["true", "yes", "unbound", "host-bound"]),
        "natssh answers with keys only",
    ),
    setting(
        "RekeyLimit",
        When(is_lax_rekey),
        "limits of 1 GiB and one hour or more; natssh renews keys that often",
    ),
    setting("RemoteCommand", Native, "run where no command is given"),
    setting("RemoteForward", Default, "natssh forwards no ports"),
    setting("RequestTTY", Native, "the node is asked for a terminal when ssh would ask"),
    setting("RequiredRSASize", Native, "shorter RSA keys are neither shown nor believed"),
    setting(
        "RevokedHostKeys",
        Only(&["none"]),
        "natssh reads no lists of revoked keys; `@revoked` lines in known_hosts are heeded",
    ),
    setting(
        "SecurityKeyProvider",
        Nothing,
        "a key on hardware that the agent does not have goes to the real ssh",
    ),
    setting("SendEnv", Native, "picked from the caller's environment"),
    setting("ServerAliveCountMax", Native, "with ServerAliveInterval"),
    setting(
        "ServerAliveInterval",
        Native,
        "a positive one holds instead of natssh's 15 s; `ssh -G` does not tell whether 0 was meant",
    ),
    setting("SessionType", Native, "with `none` the connection is kept until the call is killed"),
    setting("SetEnv", Native, "sent after what SendEnv picks"),
    setting("StdinNull", Native, "nothing of standard input is read"),
    setting("StreamLocalBindMask", Nothing, "only with forwarded sockets"),
    setting("StreamLocalBindUnlink", Nothing, "only with forwarded sockets"),
    setting("StrictHostKeyChecking", Native, "`ask` goes to the real ssh where there is something to ask"),
    setting("SyslogFacility", Nothing, "natssh writes nothing there"),
    setting("Tag", Nothing, "`ssh -G` has matched it already"),
    setting("TCPKeepAlive", Nothing, "natssh watches over its connections by itself"),
    setting("Tunnel", Only(NO), "natssh has no tunnel device"),
    setting("TunnelDevice", Nothing, "only with Tunnel"),
    setting("UpdateHostKeys", Nothing, "natssh learns no further keys of a host that it knows"),
    setting("UseKeychain", Nothing, "a key that needs a passphrase goes to the real ssh"),
    setting("UsePrivilegedPort", Only(NO), "natssh connects from whichever port the system picks"),
    setting("User", Native, "the login at the host"),
    setting("UserKnownHostsFile", Native, "read, and the first one written, with `none` too"),
    setting("VerifyHostKeyDNS", Only(NO), "natssh asks no name server for keys"),
    setting("VersionAddendum", Default, "natssh says its own name"),
    setting("VisualHostKey", Nothing, "how keys are shown"),
    setting("WarnWeakCrypto", Nothing, "natssh does not warn of it"),
    setting("XAuthLocation", Nothing, "only with ForwardX11"),
];

/// What matters only where something is run on the session: nothing to `-N` and `-W`.
const OF_A_RUN: [&str; 3] = ["forwardagent", "forwardx11", "requesttty"];

/// What matters only where something is run: nothing to a hop of ProxyJump, which ssh calls with `-W`.
const OF_A_COMMAND: [&str; 11] = [
    "channeltimeout",
    "dynamicforward",
    "forkafterauthentication",
    "forwardagent",
    "forwardx11",
    "localforward",
    "permitlocalcommand",
    "remoteforward",
    "sessiontype",
    "stdinnull",
    "tunnel",
];

/// What a connection is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum For {
    /// A command.
    Command,
    /// Itself, with nothing that runs: `-N` and `-W`.
    Connection,
    /// The way to the next host.
    Hop,
}

/// The first setting by which a call is the real ssh's, as a reason: lower case, no full stop.
/// `usual` is what ssh says unasked.
pub(super) fn demands_real_ssh(
    printed: &Printed,
    usual: &Printed,
    over: Over,
    purpose: For,
) -> Option<String> {
    let demands = |keyword: &str, values: &[String]| {
        let is_idle = match purpose {
            For::Command => false,
            For::Connection => OF_A_RUN.contains(&keyword),
            For::Hop => OF_A_COMMAND.contains(&keyword),
        };
        if is_idle {
            return false;
        }
        let is_usual = || usual.all(keyword) == values;
        match find(keyword).map(|setting| &setting.does) {
            Some(Native | Pool | Nothing) => false,
            Some(Only(known)) => !values.iter().all(|value| known.contains(&value.as_str())),
            Some(When(passes)) => !values.iter().all(|value| passes(value)),
            Some(Default) | None => !is_usual(),
            Some(DefaultOverTcp) => over == Over::Tcp && !is_usual(),
        }
    };
    let (keyword, values) = printed.iter().find(|(keyword, values)| demands(keyword, values))?;
    let (name, why) = find(keyword).map_or((keyword, "natssh does not know it"), |s| (s.name, s.why));
    Some(match values {
        [value] if value.len() <= 12 => format!("{name} is {value}: {why}"),
        _ => format!("{name} is set: {why}"),
    })
}

fn find(keyword: &str) -> Option<&'static Setting> {
    TABLE.iter().find(|setting| setting.name.eq_ignore_ascii_case(keyword))
}

fn names_publickey(methods: &str) -> bool {
    methods.split(',').any(|method| method == "publickey")
}

/// russh renews keys after 1 GiB and after an hour (`Limits::default`). 0 is no limit of the user's.
fn is_lax_rekey(limits: &str) -> bool {
    let limits: Option<Vec<u64>> = limits.split(' ').map(|limit| limit.parse().ok()).collect();
    let lax = |limit: u64, own: u64| limit == 0 || limit >= own;
    matches!(limits.as_deref(), Some([bytes, seconds]) if lax(*bytes, 1 << 30) && lax(*seconds, 3600))
}

#[cfg(test)]
mod tests;
