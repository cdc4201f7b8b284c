//! Which node a name means: Teleport's rules for nodes behind tunnels.
//!
//! Pure: the caller supplies the nodes. A node id wins over everything; else
//! the host name must match exactly, case included, and the port is ignored.
//! Labels and `HOST.CLUSTER` are never resolved.

use super::Face;
use super::request::Refusal;
use crate::tunnel::NodeName;

/// What a name leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A node of the inventory, online or not.
    Known(NodeName),
    /// Nobody registered it: an old proxy dials this address by itself.
    Elsewhere {
        /// Host name or address.
        host: String,
        /// The port asked for, or a node's usual one.
        port: u16,
    },
}

/// Teleport's own port for nodes, dialled when the client names none.
const NODE_PORT: u16 = 3022;

/// Finds the node that `host` means.
pub(crate) fn locate<'a>(
    nodes: impl Iterator<Item = &'a NodeName>,
    host: &str,
    port: &str,
    face: Face,
) -> Result<Place, Refusal> {
    let by_id = looks_like_uuid(host);
    let mut named = None;
    let mut matches = 0;
    for node in nodes {
        if by_id && node.uuid == host {
            return Ok(Place::Known(node.clone()));
        }
        if node.hostname == host {
            named = Some(node);
            matches += 1;
        }
    }
    match (named, face) {
        (Some(_), _) if matches > 1 => Err(Refusal::Ambiguous),
        (Some(node), _) => Ok(Place::Known(node.clone())),
        // Never dialled elsewhere: the user would land on another machine.
        (None, _) if by_id => Err(Refusal::UnknownUuid { word: face.uuid_word(), host: host.to_owned() }),
        (None, Face::New) => Err(Refusal::NotInInventory(host.to_owned())),
        (None, Face::Old) => Ok(Place::Elsewhere {
            host: host.to_owned(),
            port: match port.parse() {
                Ok(port) if port > 0 => port,
                _ => NODE_PORT,
            },
        }),
    }
}

/// Whether Go's uuid parser takes it: 8-4-4-4-12 hex digits.
fn looks_like_uuid(text: &str) -> bool {
    let lengths = [8, 4, 4, 4, 12];
    let mut groups = text.split('-');
    let sound = |(group, length): (Option<&str>, usize)| {
        group.is_some_and(|g| g.len() == length && g.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    lengths.into_iter().all(|length| sound((groups.next(), length))) && groups.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORKER: &str = "fa133e75-987d-43e7-ae56-b86504d7588c";

    fn nodes() -> Vec<NodeName> {
        [
            ("worker", WORKER),
            ("twin", "11111111-0000-0000-0000-000000000001"),
            ("twin", "11111111-0000-0000-0000-000000000002"),
        ]
        .map(|(hostname, uuid)| NodeName { hostname: hostname.into(), uuid: uuid.into() })
        .into()
    }

    fn find(host: &str, port: &str, face: Face) -> Result<String, Refusal> {
        let nodes = nodes();
        locate(nodes.iter(), host, port, face).map(|place| match place {
            Place::Known(node) => node.uuid,
            Place::Elsewhere { host, port } => format!("{host}:{port}"),
        })
    }

    #[test]
    fn names_are_found_as_teleport_finds_them() {
        assert_eq!(find("worker", "9999", Face::Old).unwrap(), WORKER);
        assert_eq!(find(WORKER, "0", Face::New).unwrap(), WORKER);
        assert_eq!(find("twin", "22", Face::New), Err(Refusal::Ambiguous));
        let second = "11111111-0000-0000-0000-000000000002";
        assert_eq!(find(second, "22", Face::Old).unwrap(), second);
    }

    #[test]
    fn case_and_cluster_suffix_make_another_name() {
        assert_eq!(find("WORKER", "22", Face::Old).unwrap(), "WORKER:22");
        assert_eq!(find("worker.poc", "22", Face::New), Err(Refusal::NotInInventory("worker.poc".into())));
        assert!(matches!(find(&WORKER.to_uppercase(), "22", Face::Old), Err(Refusal::UnknownUuid { .. })));
    }

    #[test]
    fn an_unknown_name_without_a_port_is_dialled_at_a_nodes_usual_one() {
        assert_eq!(find("other", "0", Face::Old).unwrap(), "other:3022");
        assert_eq!(find("other", "", Face::Old).unwrap(), "other:3022");
        assert_eq!(find("127.0.0.1", "2222", Face::Old).unwrap(), "127.0.0.1:2222");
    }
}
