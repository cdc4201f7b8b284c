//! The words of `natssh-lab`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::faults::Fault;
use crate::proxy::TlsRouting;

/// Real nodes behind a NAT, reached through a stand-in for the Teleport proxy.
/// For tests and demos: the proxy is not Teleport and guards nothing.
#[derive(Debug, Parser)]
#[command(name = "natssh-lab", version, max_term_width = 100)]
pub struct Cli {
    /// The lab's folder [default: $NATSSH_LAB, or natssh-lab in the user's state folder]
    #[arg(long, global = true, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// See [`Cli::command`].
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Bring a lab up; returns when all nodes have joined
    Up(Up),
    /// Take the lab down and leave nothing behind; safe to repeat, also after a crash
    Down,
    /// Show the proxy and the nodes
    Status {
        /// The same as JSON
        #[arg(long)]
        json: bool,
    },
    /// Print shell lines for `eval "$(natssh-lab env)"`
    Env,
    /// Run a command on a node, past ssh
    Exec {
        /// The node's name
        node: String,
        /// The command and its arguments; a shell when there are none
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Break something, or mend it
    #[command(subcommand)]
    Fault(Fault),
    /// The daemon that `up` leaves running
    #[command(hide = true)]
    Supervise(Up),
    /// The first process of a rooted node
    #[command(hide = true)]
    Node {
        /// Its name
        name: String,
    },
    /// A node's side of the tunnel
    #[command(hide = true)]
    Agent {
        /// Its orders
        file: PathBuf,
    },
}

/// How a lab is to be.
#[derive(Clone, Debug, Args)]
pub struct Up {
    /// How many nodes: control-plane, worker, worker-2, worker-3 …
    #[arg(long, default_value_t = 2, value_name = "N")]
    pub nodes: usize,
    /// Round-trip time to add between clients and the proxy, in milliseconds
    #[arg(long, default_value_t = 0, value_name = "MS")]
    pub rtt: u64,
    /// A proxy with one port for everything, SSH inside TLS, as Teleport has it since 8 where it is told to;
    /// with `=web-socket` or `=frames` behind a load balancer that ends TLS, which stock ssh cannot pass
    #[arg(long, value_enum, num_args = 0..=1, require_equals = true, default_value = "off", default_missing_value = "on")]
    pub tls_routing: TlsRouting,
    /// Do without namespaces and a NAT, as it is without root anyway
    #[arg(long)]
    pub rootless: bool,
}
