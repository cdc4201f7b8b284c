//! What a client may ask of the proxy on a session channel, read from the
//! subsystem's name, and the words with which Teleport refuses.
//!
//! Pure: no I/O. The grammar is the same from Teleport 4.4 to today:
//! `proxy:HOST:PORT[@CLUSTER]`, `proxy:HOST:PORT@NAMESPACE@CLUSTER`,
//! `proxy:@CLUSTER` for that cluster's auth server, and `proxysites`.

use std::fmt;

/// A subsystem that the proxy knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Carry bytes to a node.
    Node(Target),
    /// Carry bytes to the auth server of a cluster.
    Auth {
        /// The cluster's name.
        cluster: String,
    },
    /// List the clusters.
    Sites,
}

/// A node as the client names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Host name, node id or address.
    pub(crate) host: String,
    /// Kept as text: empty and `0` mean "any".
    pub(crate) port: String,
    /// Empty: wherever the certificate routes to.
    pub(crate) cluster: String,
}

/// Why the proxy says no. Its `Display` is what Teleport writes to the
/// channel's stderr, to the letter, without the last newline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The name follows no rule of the grammar.
    Format(String),
    /// Neither a host nor a cluster was named.
    NothingNamed(String),
    /// There is no such subsystem.
    UnknownSubsystem(String),
    /// The channel was asked for something other than a subsystem.
    RequestType(&'static str),
    /// There is no such cluster.
    UnknownCluster(String),
    /// Several nodes carry this name.
    Ambiguous,
    /// A node id that nobody has; the word for it changed with the versions.
    UnknownUuid {
        /// `uuid-like` or `UUID-like`.
        word: &'static str,
        /// What was asked for.
        host: String,
    },
    /// No tunnel leads there: the node is offline, or nobody knows it.
    NoTunnel {
        /// The address that was tried: `HOST:PORT`, or `@local-node` for a known node.
        agent: String,
        /// `UUID.CLUSTER` of a known node, else empty.
        id: String,
    },
    /// Newer proxies dial nothing that is not in their inventory.
    NotInInventory(String),
    /// The node was reached, and its server was not.
    Node(String),
    /// A recording proxy logs in by the user's agent and was not offered it.
    AgentRequired,
    /// The agent was offered and did not answer.
    Agent(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const FORMAT: &str = "invalid format for proxy request:";
        match self {
            Self::Format(request) => {
                write!(f, "{FORMAT} {request:?}, expected 'proxy:host:port@cluster'")
            }
            Self::NothingNamed(request) => {
                write!(f, "{FORMAT} missing cluster name or target host in {request:?}")
            }
            Self::UnknownSubsystem(name) => write!(f, "unrecognized subsystem: {name}"),
            Self::RequestType(kind) => {
                write!(f, "(proxy) proxy doesn't support request type '{kind}'")
            }
            Self::UnknownCluster(name) => write!(f, "{FORMAT} unknown cluster {name:?}"),
            Self::Ambiguous => f.write_str("err-node-is-ambiguous"),
            Self::UnknownUuid { word, host } => {
                write!(f, "unable to locate node matching {word} target {host}")
            }
            Self::NoTunnel { agent, id } => write!(
                f,
                "Teleport proxy failed to connect to \"node\" agent {agent:?} over reverse tunnel:\n\n\
                 \x20 no tunnel connection found: no node reverse tunnel for {id} found\n\n\
                 This usually means that the agent is offline or has disconnected. Check the\n\
                 agent logs and, if the issue persists, try restarting it or re-registering it\n\
                 with the cluster."
            ),
            Self::NotInInventory(host) => {
                write!(f, "target host {host} is offline or does not exist")
            }
            Self::Node(reason) => f.write_str(reason),
            Self::AgentRequired => f.write_str("agent forwarding required in proxy recording mode"),
            Self::Agent(reason) => write!(f, "failed to use the forwarded agent: {reason}"),
        }
    }
}

/// Reads the name of a subsystem.
pub(crate) fn parse(name: &str) -> Result<Request, Refusal> {
    if name.starts_with("proxysites") {
        return Ok(Request::Sites);
    }
    let Some(body) = name.strip_prefix("proxy:") else {
        return Err(Refusal::UnknownSubsystem(name.to_owned()));
    };
    let format = || Refusal::Format(name.to_owned());
    let mut parts = body.splitn(3, '@');
    let address = parts.next().unwrap_or_default();
    let (cluster, named_twice) = match (parts.next(), parts.next()) {
        (None, _) => ("", false),
        (Some(cluster), None) => (cluster, false),
        (Some(_namespace), Some(cluster)) => (cluster, true),
    };
    let cluster = cluster.to_owned();
    // Only `proxy:@CLUSTER` may leave the host out.
    if address.is_empty() && body.contains('@') && !named_twice {
        return match cluster.as_str() {
            "" => Err(Refusal::NothingNamed(name.to_owned())),
            _ => Ok(Request::Auth { cluster }),
        };
    }
    let (host, port) = split_host_port(address).ok_or_else(format)?;
    Ok(Request::Node(Target { host: host.to_owned(), port: port.to_owned(), cluster }))
}

/// `HOST:PORT` by the rules of Go's `net.SplitHostPort`: the port may be empty,
/// an IPv6 address needs brackets. An empty host is refused, as Teleport does.
fn split_host_port(address: &str) -> Option<(&str, &str)> {
    let (host, port) = if let Some(rest) = address.strip_prefix('[') {
        let (host, port) = rest.split_once(']')?;
        (host, port.strip_prefix(':')?)
    } else {
        address.split_once(':')?
    };
    let brackets = |text: &str| text.contains(['[', ']']);
    let sound = !host.is_empty() && !port.contains(':') && !brackets(host) && !brackets(port);
    sound.then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(host: &str, port: &str, cluster: &str) -> Result<Request, Refusal> {
        let [host, port, cluster] = [host, port, cluster].map(str::to_owned);
        Ok(Request::Node(Target { host, port, cluster }))
    }

    #[test]
    fn the_grammar_is_read_as_teleport_reads_it() {
        let format = |name: &str| Err(Refusal::Format(name.to_owned()));
        let table = [
            ("proxy:worker:22", node("worker", "22", "")),
            ("proxy:worker:0", node("worker", "0", "")),
            ("proxy:worker:", node("worker", "", "")),
            ("proxy:worker:22@poc", node("worker", "22", "poc")),
            ("proxy:worker:22@", node("worker", "22", "")),
            ("proxy:worker:22@default@poc", node("worker", "22", "poc")),
            ("proxy:worker:22@default@a@b", node("worker", "22", "a@b")),
            ("proxy:[::1]:22", node("::1", "22", "")),
            ("proxy:@poc", Ok(Request::Auth { cluster: "poc".into() })),
            ("proxy:@", Err(Refusal::NothingNamed("proxy:@".into()))),
            ("proxy:", format("proxy:")),
            ("proxy:worker", format("proxy:worker")),
            ("proxy:::1:22", format("proxy:::1:22")),
            ("proxy::22", format("proxy::22")),
            ("proxy:@default@poc", format("proxy:@default@poc")),
            ("proxysites", Ok(Request::Sites)),
            ("sftp", Err(Refusal::UnknownSubsystem("sftp".into()))),
            (" proxy:worker:22", Err(Refusal::UnknownSubsystem(" proxy:worker:22".into()))),
        ];
        for (name, expected) in table {
            assert_eq!(parse(name), expected, "{name:?}");
        }
    }

    #[test]
    fn refusals_are_teleports_own_words() {
        let text = |refusal: Refusal| refusal.to_string();
        assert_eq!(
            text(Refusal::NoTunnel { agent: "nosuchhost:22".into(), id: String::new() }),
            "Teleport proxy failed to connect to \"node\" agent \"nosuchhost:22\" over reverse tunnel:\n\n  \
             no tunnel connection found: no node reverse tunnel for  found\n\n\
             This usually means that the agent is offline or has disconnected. Check the\n\
             agent logs and, if the issue persists, try restarting it or re-registering it\n\
             with the cluster."
        );
        assert_eq!(
            text(Refusal::Format("proxy:worker".into())),
            "invalid format for proxy request: \"proxy:worker\", expected 'proxy:host:port@cluster'"
        );
        assert_eq!(
            text(Refusal::UnknownCluster("nosuchcluster".into())),
            "invalid format for proxy request: unknown cluster \"nosuchcluster\""
        );
    }
}
