//! The network of a rooted lab, as values: who has which address, and the
//! commands that build it.
//!
//! ```text
//!  the machine            NAT namespace             node namespaces
//!  nat-ID 198.18.2k.1 --- outside 198.18.2k.2
//!                         inside  198.18.2k+1.1 --- eth0 198.18.2k+1.10, .11, …
//! ```
//!
//! All of it lies in 198.18.0.0/15, which RFC 2544 sets apart for test
//! networks, so no real network is shadowed. The machine routes the inner net
//! to the NAT, which refuses: an attempt to reach a node directly ends there
//! and does not leak to the default route. No I/O.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// How many labs fit side by side into 198.18.0.0/15, at two /24 each.
pub const SLOTS: u16 = 256;

/// How many nodes an inner net has addresses for.
pub const MAX_NODES: usize = 240;

/// One lab's place in the address range, and its names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topology {
    /// Six hexadecimal digits, drawn at random: part of every name.
    pub id: String,
    /// Which pair of /24 nets, below [`SLOTS`].
    pub slot: u16,
    /// The nodes' names, in order.
    pub nodes: Vec<String>,
}

/// Lines for one `ip -batch` run.
#[derive(Debug, PartialEq, Eq)]
pub struct Batch {
    /// The namespace whose network the lines change; none is the machine's own.
    pub namespace: Option<String>,
    /// One `ip` command a line, without the word `ip`.
    pub lines: Vec<String>,
}

impl Topology {
    /// The machine's address on the outer link: the proxy listens for tunnels here.
    pub fn outer_machine(&self) -> Ipv4Addr {
        self.address(0, 1)
    }

    /// The NAT's address on the outer link: all nodes seem to come from it.
    pub fn outer_nat(&self) -> Ipv4Addr {
        self.address(0, 2)
    }

    /// The nodes' gateway.
    pub fn inner_nat(&self) -> Ipv4Addr {
        self.address(1, 1)
    }

    /// The address of the node at this place in [`Topology::nodes`].
    pub fn node(&self, index: usize) -> Ipv4Addr {
        let last = u8::try_from(10 + index.min(MAX_NODES)).unwrap_or(u8::MAX);
        self.address(1, last)
    }

    /// The NAT's network namespace.
    pub fn nat_namespace(&self) -> String {
        format!("{}nat", self.prefix())
    }

    /// A node's network namespace. The `n.` keeps a node named `nat` apart.
    pub fn node_namespace(&self, node: &str) -> String {
        format!("{}n.{node}", self.prefix())
    }

    /// What the names of all of this lab's namespaces start with.
    pub fn prefix(&self) -> String {
        format!("natssh-{}-", self.id)
    }

    /// The machine's end of the outer link.
    pub fn outer_link(&self) -> String {
        format!("nat-{}", self.id)
    }

    /// The inner net in CIDR notation.
    pub fn inner_net(&self) -> String {
        format!("{}/24", self.address(1, 0))
    }

    /// The outer link's net in CIDR notation.
    pub fn outer_net(&self) -> String {
        format!("{}/30", self.address(0, 0))
    }

    fn address(&self, net: u32, last: u8) -> Ipv4Addr {
        let base = u32::from(Ipv4Addr::new(198, 18, 0, 0));
        let third = u32::from(self.slot % SLOTS) * 2 + net;
        Ipv4Addr::from(base + (third << 8) + u32::from(last))
    }

    /// The batches that build links, addresses and routes, in order.
    pub fn batches(&self) -> Vec<Batch> {
        let nat = self.nat_namespace();
        let link = self.outer_link();
        let mut batches = Vec::new();

        let mut machine = vec![format!("netns add {nat}")];
        for node in &self.nodes {
            machine.push(format!("netns add {}", self.node_namespace(node)));
        }
        machine.extend([
            format!("link add {link} type veth peer name outside netns {nat}"),
            format!("address add {}/30 dev {link}", self.outer_machine()),
            format!("link set {link} up"),
            format!("route add {} via {}", self.inner_net(), self.outer_nat()),
        ]);
        batches.push(Batch { namespace: None, lines: machine });

        let mut gateway = vec![
            "link set lo up".to_owned(),
            format!("address add {}/30 dev outside", self.outer_nat()),
            "link set outside up".to_owned(),
            "link add inside type bridge".to_owned(),
            format!("address add {}/24 dev inside", self.inner_nat()),
            "link set inside up".to_owned(),
        ];
        for (index, node) in self.nodes.iter().enumerate() {
            let namespace = self.node_namespace(node);
            gateway.push(format!("link add node{index} type veth peer name eth0 netns {namespace}"));
            gateway.push(format!("link set node{index} master inside up"));
        }
        batches.push(Batch { namespace: Some(nat), lines: gateway });

        for (index, node) in self.nodes.iter().enumerate() {
            let lines = vec![
                "link set lo up".to_owned(),
                format!("address add {}/24 dev eth0", self.node(index)),
                "link set eth0 up".to_owned(),
                format!("route add default via {}", self.inner_nat()),
            ];
            let namespace = Some(self.node_namespace(node));
            batches.push(Batch { namespace, lines });
        }
        batches
    }

    /// The NAT's rules: nodes may dial the proxy's side of the outer link and
    /// nothing else; what comes in uninvited is refused, at once and audibly.
    pub fn nat_rules(&self) -> String {
        let outer = self.outer_net();
        format!(
            "table ip natssh {{
  chain forward {{
    type filter hook forward priority 0; policy drop;
    ct state established,related accept
    iifname \"inside\" oifname \"outside\" ip daddr {outer} accept
    meta l4proto tcp reject with tcp reset
    reject with icmp admin-prohibited
  }}
  chain input {{
    type filter hook input priority 0; policy drop;
    iifname \"lo\" accept
    ct state established,related accept
    icmp type echo-request accept
    meta l4proto tcp reject with tcp reset
  }}
  chain outgoing {{
    type nat hook postrouting priority 100;
    oifname \"outside\" masquerade
  }}
}}
"
        )
    }
}

/// The rules of a NAT that has gone silent: it forwards nothing and says nothing.
pub const SILENT_NAT: &str = "table ip natssh_silent {
  chain forward {
    type filter hook forward priority -10; policy drop;
  }
}
";

/// Takes [`SILENT_NAT`] away again, also when it is not there.
pub const SPEAKING_NAT: &str = "add table ip natssh_silent
delete table ip natssh_silent
";

/// The first slot that no route listed by `ip -4 route show table all` touches.
pub fn free_slot(routes: &str) -> Option<u16> {
    (0..SLOTS).find(|slot| {
        let third = slot * 2;
        let (second, third) = (18 + third / 256, third % 256);
        let nets = [third, third + 1].map(|third| format!("198.{second}.{third}."));
        !routes.split_whitespace().any(|word| nets.iter().any(|net| word.starts_with(net.as_str())))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lab(slot: u16) -> Topology {
        let nodes = vec!["control-plane".to_owned(), "worker".to_owned()];
        Topology { id: "3f9a12".to_owned(), slot, nodes }
    }

    #[test]
    fn addresses_stay_in_the_benchmarking_range() {
        assert_eq!(lab(0).outer_machine().to_string(), "198.18.0.1");
        assert_eq!(lab(0).node(1).to_string(), "198.18.1.11");
        assert_eq!(lab(255).inner_nat().to_string(), "198.19.255.1");
        assert_eq!(lab(255).node(MAX_NODES).to_string(), "198.19.255.250");
    }

    #[test]
    fn names_of_links_fit_the_kernel() {
        // IFNAMSIZ is 16 with the closing zero.
        assert!(lab(0).outer_link().len() <= 15);
        assert!(format!("node{MAX_NODES}").len() <= 15);
    }

    #[test]
    fn a_lab_takes_the_first_nets_that_nobody_routes() {
        assert_eq!(free_slot("default via 192.0.2.1 dev eth0"), Some(0));
        let one = "198.18.0.0/30 dev nat-1 proto kernel\n198.18.1.0/24 via 198.18.0.2 dev nat-1";
        assert_eq!(free_slot(one), Some(1));
        let inner_only = "198.18.3.0/24 via 10.0.0.1\n198.18.0.0/30 dev x";
        assert_eq!(free_slot(inner_only), Some(2));
        // 198.18.10.0 must not be taken for 198.18.1.0.
        assert_eq!(free_slot("198.18.10.0/24 dev x"), Some(0));
    }

    #[test]
    fn every_namespace_is_added_before_it_is_used() {
        let topology = lab(0);
        let batches = topology.batches();
        let added = &batches[0].lines;
        for batch in &batches[1..] {
            let namespace = batch.namespace.as_ref().expect("a namespace");
            assert!(added.contains(&format!("netns add {namespace}")));
            assert!(namespace.starts_with(&topology.prefix()));
        }
    }
}
