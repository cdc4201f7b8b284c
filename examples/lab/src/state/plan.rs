//! The plan by which a lab can be taken down by someone who did not bring it up.
//!
//! It is written before anything that it names is made, so that nothing can
//! exist that [`crate::cleanup`] would not find. No I/O.

use serde::{Deserialize, Serialize};

use crate::processes::Process;
use crate::python::Python;
use crate::topology::Topology;

/// The environment variable that every process of a lab carries, with the
/// lab's folder as its value. It is how leftovers are recognised.
pub const MARK: &str = "NATSSH_LAB_OWNER";

/// How the nodes are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Namespaces behind a NAT, each with a listening sshd. Needs root.
    Rooted,
    /// One dialling agent a node, which starts `sshd -i` for each stream.
    Rootless,
}

/// What a lab is made of, known before it is made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// How the nodes are made.
    pub mode: Mode,
    /// The nodes' names, in order.
    pub nodes: Vec<String>,
    /// The network, when there is one.
    pub topology: Option<Topology>,
    /// The Python of the nodes.
    pub python: Python,
    /// The daemon that owns everything; none when a program holds the lab in itself.
    pub supervisor: Option<Process>,
}

/// The nodes' names: `control-plane`, `worker`, `worker-2`, `worker-3` …
pub fn node_names(count: usize) -> Vec<String> {
    let name = |index| match index {
        0 => "control-plane".to_owned(),
        1 => "worker".to_owned(),
        _ => format!("worker-{index}"),
    };
    (0..count).map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_named_as_in_a_small_cluster() {
        let names = node_names(4);
        assert_eq!(names, ["control-plane", "worker", "worker-2", "worker-3"]);
    }
}
