//! What can go wrong on purpose: the words of `natssh-lab fault …`, which are
//! also the values that tests pass.

use std::time::Duration;

use clap::Subcommand;
use serde::{Deserialize, Serialize};

/// One fault, or the end of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Subcommand)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// The proxy's process and its connections
    #[command(subcommand)]
    Proxy(ProxyFault),
    /// The gateway between the nodes and the proxy
    #[command(subcommand)]
    Nat(NatFault),
    /// One node
    #[command(subcommand)]
    Node(NodeFault),
    /// The user's certificate, in every place where the lab keeps it
    #[command(subcommand)]
    Cert(CertFault),
    /// The authority that vouches for the proxy and the nodes
    #[command(subcommand)]
    HostCa(HostCaFault),
    /// End client connections on which nothing was sent for this long
    Idle {
        /// Seconds, or `off`
        #[arg(value_parser = Idle::parse)]
        after: Idle,
    },
    /// Whether the proxy ends connections whose certificate has ended
    #[command(subcommand)]
    Expiry(Switch),
    /// Whether the proxy records sessions, for which it needs the user's agent
    #[command(subcommand)]
    Recording(Switch),
    /// The age that the proxy shows
    #[command(subcommand)]
    Face(Face),
}

/// See [`Fault::Proxy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Subcommand)]
#[serde(rename_all = "kebab-case")]
pub enum ProxyFault {
    /// Close everything and refuse connections, as if the process were gone
    Stop,
    /// Listen again, on the same ports; the nodes come back by themselves
    Start,
    /// Reset the clients' connections and go on listening
    Cut,
    /// Answer nothing and close nothing, as a hung process does
    Freeze,
    /// End a freeze
    Resume,
}

/// See [`Fault::Nat`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Subcommand)]
#[serde(rename_all = "kebab-case")]
pub enum NatFault {
    /// Let every packet vanish, without a word to either side
    Drop,
    /// Forward again
    Restore,
}

/// See [`Fault::Node`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Subcommand)]
#[serde(rename_all = "kebab-case")]
pub enum NodeFault {
    /// Stop all of its processes: it stays registered and never answers
    Freeze {
        /// The node's name
        node: String,
    },
    /// End a freeze
    Thaw {
        /// The node's name
        node: String,
    },
    /// End its agent: the proxy says that it is offline
    Offline {
        /// The node's name
        node: String,
    },
    /// Start its agent again
    Online {
        /// The node's name
        node: String,
    },
    /// Register a second node of the same name, until the node goes offline
    Duplicate {
        /// The node's name
        node: String,
    },
}

/// See [`Fault::Cert`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Subcommand)]
#[serde(rename_all = "kebab-case")]
pub enum CertFault {
    /// One that ended an hour ago
    Expire,
    /// A fresh one that ends in so many seconds
    Brief {
        /// From now
        seconds: u32,
    },
    /// A fresh one for the same key, as a renewal gives
    Rotate,
    /// A fresh one for a fresh key, as a new login gives: cures the other faults
    Replace,
    /// One for a login that the nodes do not know
    ForeignLogin,
    /// None, as after a logout
    Remove,
}

/// See [`Fault::HostCa`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Subcommand)]
#[serde(rename_all = "kebab-case")]
pub enum HostCaFault {
    /// A new one, which the user does not trust before `fault cert replace`
    Replace,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Subcommand)]
#[serde(rename_all = "kebab-case")]
pub enum Switch {
    /// From now on
    On,
    /// No longer
    Off,
}

/// See [`Fault::Face`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Subcommand)]
#[serde(rename_all = "kebab-case")]
pub enum Face {
    /// Teleport up to 8: proves itself with RSA and SHA-1 alone
    Old,
    /// A current one
    New,
}

/// An idle limit; none is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Idle(pub Option<Duration>);

impl Idle {
    /// Reads `off` or a number of seconds.
    fn parse(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self(None));
        }
        let seconds = text.parse::<f64>().ok().and_then(|s| Duration::try_from_secs_f64(s).ok());
        let positive = seconds.filter(|limit| !limit.is_zero());
        positive.map(|limit| Self(Some(limit))).ok_or_else(|| "a number of seconds, or off".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_limit_is_seconds_or_off() {
        assert_eq!(Idle::parse("off"), Ok(Idle(None)));
        assert_eq!(Idle::parse("0.5"), Ok(Idle(Some(Duration::from_millis(500)))));
        for wrong in ["0", "-1", "inf", "1m", ""] {
            assert!(Idle::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_fault_survives_the_control_socket() {
        let fault = Fault::Node(NodeFault::Freeze { node: "worker".to_owned() });
        let text = serde_json::to_string(&fault).expect("encodes");
        assert_eq!(text, r#"{"node":{"freeze":{"node":"worker"}}}"#);
        assert_eq!(serde_json::from_str::<Fault>(&text).expect("decodes"), fault);
    }
}
