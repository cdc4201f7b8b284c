//! Which upstream reaches a node, and what the node is called there.
//!
//! Pure: no I/O, knows nobody. The configuration puts the rules in their order;
//! the first one that takes the host wins.

use crate::pattern::{self, Pattern};
use natssh_wire::NodeAddr;
use std::collections::BTreeMap;
use std::fmt;

/// The name of the upstream that always exists: plain TCP.
pub const DIRECT: &str = "direct";

/// All rules, in the order in which they are asked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Routes {
    /// Asked one after the other.
    pub rules: Vec<Rule>,
    /// The hosts of the proxies themselves, in lower case. They are always reached directly:
    /// a route that sends everything through a proxy must not send the way to the proxy there too.
    pub proxies: Vec<String>,
}

/// One rule: the hosts it takes and what becomes of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The hosts, as in ssh_config's `Host`.
    pub hosts: Vec<Pattern>,
    /// The upstream that reaches them.
    pub upstream: String,
    /// Inventory name, in lower case, to node name. What it answers is final.
    pub map: BTreeMap<String, String>,
    /// Endings taken off one after the other, each with its leading dot.
    pub strip: Vec<String>,
    /// The port to ask for instead of the caller's.
    pub port: Option<u16>,
    /// The cluster to ask for instead of the upstream's.
    pub cluster: Option<String>,
    /// The login towards the proxy instead of the upstream's.
    pub login: Option<String>,
    /// The identity to use instead of the upstream's.
    pub identity: Option<String>,
    /// Which rule this is.
    pub origin: Origin,
}

/// Where a rule comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A `[[route]]`.
    Route {
        /// From 1.
        number: usize,
        /// `file:line`.
        place: String,
    },
    /// An upstream takes the names that end in its cluster or its proxy's host.
    Names {
        /// The upstream.
        upstream: String,
    },
    /// `default`.
    Default {
        /// `file:line`.
        place: String,
    },
}

/// For people: `route 2 (natssh.toml:14)`.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Route { number, place } => write!(f, "route {number} ({place})"),
            Self::Names { upstream } => write!(f, "names of upstream {upstream}"),
            Self::Default { place } => write!(f, "default ({place})"),
        }
    }
}

/// The answer: where to go, and under which name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Picked {
    /// The upstream's name.
    pub upstream: String,
    /// The node as the upstream knows it.
    pub node: NodeAddr,
    /// The cluster, where the rule names one; else the upstream's holds.
    pub cluster: Option<String>,
    /// The login towards the proxy, where the rule names one; else the upstream's holds.
    pub login: Option<String>,
    /// The identity, where the rule names one; else the upstream's holds.
    pub identity: Option<String>,
    /// Which rule decided, for status, logs and `natssh why`.
    pub rule: String,
}

impl Routes {
    /// Finds the way to a node. There always is one: what no rule takes goes direct.
    #[must_use]
    pub fn pick(&self, node: &NodeAddr) -> Picked {
        if self.proxies.contains(&node.host.to_lowercase()) {
            return Picked::direct(node, "the proxy itself is reached directly");
        }
        match self.rules.iter().find(|rule| pattern::list_matches(&rule.hosts, &node.host)) {
            Some(rule) => rule.apply(node),
            None => Picked::direct(node, "no route names this host"),
        }
    }

    /// Whether a `[[route]]` says where the node is: such a route wins over the user's ssh_config.
    #[must_use]
    pub fn is_written(&self, node: &NodeAddr) -> bool {
        let mut rules = self.rules.iter().filter(|rule| pattern::list_matches(&rule.hosts, &node.host));
        !self.proxies.contains(&node.host.to_lowercase())
            && matches!(rules.next(), Some(Rule { origin: Origin::Route { .. }, .. }))
    }
}

impl Picked {
    fn direct(node: &NodeAddr, rule: &str) -> Self {
        Self {
            upstream: DIRECT.into(),
            node: node.clone(),
            cluster: None,
            login: None,
            identity: None,
            rule: rule.into(),
        }
    }
}

impl Rule {
    /// A rule that sends hosts to an upstream and changes nothing else.
    #[must_use]
    pub fn new(hosts: Vec<Pattern>, upstream: &str, origin: Origin) -> Self {
        Self {
            hosts,
            upstream: upstream.into(),
            map: BTreeMap::new(),
            strip: Vec::new(),
            port: None,
            cluster: None,
            login: None,
            identity: None,
            origin,
        }
    }

    fn apply(&self, node: &NodeAddr) -> Picked {
        Picked {
            upstream: self.upstream.clone(),
            node: NodeAddr { host: self.rewrite(&node.host), port: self.port.unwrap_or(node.port) },
            cluster: self.cluster.clone(),
            login: self.login.clone(),
            identity: self.identity.clone(),
            rule: self.origin.to_string(),
        }
    }

    /// The map is asked first and again after each ending taken off, so that `web` in it
    /// answers for `web`, `web.prod.example.com` and `web.cluster` alike.
    fn rewrite(&self, host: &str) -> String {
        let mut host = host;
        if let Some(name) = self.mapped(host) {
            return name;
        }
        for ending in &self.strip {
            if let Some(shorter) = without_ending(host, ending) {
                host = shorter;
                if let Some(name) = self.mapped(host) {
                    return name;
                }
            }
        }
        host.to_owned()
    }

    fn mapped(&self, host: &str) -> Option<String> {
        self.map.get(&host.to_lowercase()).cloned()
    }
}

/// The host without the ending, unless nothing would be left. Case does not matter in
/// the ending; the rest keeps its case, because it matters to Teleport.
fn without_ending<'h>(host: &'h str, ending: &str) -> Option<&'h str> {
    let at = host.len().checked_sub(ending.len()).filter(|at| *at > 0)?;
    let tail = host.get(at..)?;
    tail.eq_ignore_ascii_case(ending).then(|| &host[..at])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rule(hosts: &[&str], upstream: &str) -> Rule {
        let hosts = hosts.iter().map(|h| Pattern::parse(h).unwrap()).collect();
        Rule::new(hosts, upstream, Origin::Route { number: 1, place: "natssh.toml:7".into() })
    }

    fn node(host: &str) -> NodeAddr {
        NodeAddr { host: host.into(), port: 22 }
    }

    fn pick(routes: &Routes, host: &str) -> (String, String) {
        let picked = routes.pick(&node(host));
        (picked.upstream, picked.node.to_string())
    }

    fn reached(upstream: &str, node: &str) -> (String, String) {
        (upstream.into(), node.into())
    }

    #[test]
    fn the_first_rule_that_takes_the_host_wins() {
        let routes = Routes {
            rules: vec![
                rule(&["*.prod", "!db.prod"], "office"),
                rule(&["*.prod"], "vault"),
                rule(&["w*"], "lan"),
            ],
            proxies: vec![],
        };
        assert_eq!(pick(&routes, "web.prod"), reached("office", "web.prod:22"));
        assert_eq!(pick(&routes, "db.prod"), reached("vault", "db.prod:22"));
        assert_eq!(pick(&routes, "web"), reached("lan", "web:22"));
        assert_eq!(pick(&routes, "mail"), reached("direct", "mail:22"));
    }

    #[test]
    fn a_proxy_is_never_reached_through_itself() {
        let routes =
            Routes { rules: vec![rule(&["*"], "office")], proxies: vec!["proxy.example.com".into()] };
        assert_eq!(pick(&routes, "Proxy.example.com"), reached("direct", "Proxy.example.com:22"));
        assert_eq!(pick(&routes, "web.proxy.example.com").0, "office");
    }

    #[test]
    fn only_a_written_route_is_stronger_than_ssh_config() {
        let mut by_name = rule(&["*.cluster"], "office");
        by_name.origin = Origin::Names { upstream: "office".into() };
        let mut default = rule(&["*"], "office");
        default.origin = Origin::Default { place: "natssh.toml:1".into() };
        let routes = Routes {
            rules: vec![rule(&["web", "proxy"], "lan"), by_name, default],
            proxies: vec!["proxy".into()],
        };
        assert!(routes.is_written(&node("web")));
        for other in ["web.cluster", "mail", "proxy"] {
            assert!(!routes.is_written(&node(other)), "{other}");
        }
    }

    #[test]
    fn endings_come_off_in_their_order_and_the_rest_keeps_its_case() {
        let mut takes_all = rule(&["*"], "office");
        takes_all.strip = vec![".proxy.example.com".into(), ".example".into()];
        let routes = Routes { rules: vec![takes_all], proxies: vec![] };
        for (asked, told) in [
            ("Web.example", "Web"),
            ("web.EXAMPLE", "web"),
            ("web.example.proxy.example.com", "web"),
            ("web.proxy.example.com", "web"),
            ("a.b.example", "a.b"),
            (".example", ".example"),
            ("example", "example"),
            ("web.example.org", "web.example.org"),
        ] {
            assert_eq!(pick(&routes, asked).1, format!("{told}:22"), "{asked}");
        }
    }

    #[test]
    fn the_map_answers_for_the_long_and_the_short_name_and_is_final() {
        let mut mapped = rule(&["*"], "office");
        mapped.strip = vec![".prod".into()];
        mapped.map = [("web", "WEB-01"), ("db.prod", "main.prod")].map(|(k, v)| (k.into(), v.into())).into();
        let routes = Routes { rules: vec![mapped], proxies: vec![] };
        assert_eq!(pick(&routes, "web").1, "WEB-01:22");
        assert_eq!(pick(&routes, "Web.prod").1, "WEB-01:22");
        assert_eq!(pick(&routes, "db.prod").1, "main.prod:22");
        assert_eq!(pick(&routes, "db").1, "db:22");
    }

    #[test]
    fn a_rule_hands_on_all_it_says() {
        let mut full = rule(&["web"], "office");
        full.port = Some(3022);
        full.cluster = Some("leaf".into());
        full.login = Some("root".into());
        full.identity = Some("me".into());
        let picked = Routes { rules: vec![full], proxies: vec![] }.pick(&node("web"));
        assert_eq!(
            picked,
            Picked {
                upstream: "office".into(),
                node: NodeAddr { host: "web".into(), port: 3022 },
                cluster: Some("leaf".into()),
                login: Some("root".into()),
                identity: Some("me".into()),
                rule: "route 1 (natssh.toml:7)".into(),
            }
        );
    }

    proptest! {
        #[test]
        fn every_host_has_a_way_and_keeps_a_name(host in "\\PC{1,20}", ending in "\\.\\PC{0,8}") {
            let mut takes_all = rule(&["*", "!a*"], "office");
            takes_all.strip = vec![ending];
            let routes = Routes { rules: vec![takes_all], proxies: vec!["b".into()] };
            prop_assert!(!routes.pick(&node(&host)).node.host.is_empty());
        }
    }
}
