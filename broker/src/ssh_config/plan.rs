//! Which blocks a configuration asks for.
//!
//! Pure. Every node's certificate is for `<node>.<cluster>`, so each block must make
//! ssh check that name: by HostKeyAlias for one host, by the end of the name itself,
//! or by `HostName %h.<cluster>` for short names, which the broker takes off again.
//! What none of these can say is said in a comment.

use super::block;
use super::block::Block;
use super::view::View;
use crate::config::{Kind, Settings, Upstream};
use crate::pattern::Pattern;
use crate::routes::{Origin, Picked, Rule};
use natssh_wire::NodeAddr;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Where Teleport's own nodes listen; one behind a tunnel takes any port.
pub const NODE_PORT: u16 = 3022;
/// What ssh is told of a cluster that signs with SHA-1 only.
///
/// PubkeyAcceptedAlgorithms by the name that OpenSSH before 8.5 knows too.
pub const SHA1_CLUSTER: [(&str, &str); 2] = [
    ("HostKeyAlgorithms", "+ssh-rsa-cert-v01@openssh.com"),
    ("PubkeyAcceptedKeyTypes", "+ssh-rsa-cert-v01@openssh.com"),
];
/// The same of an authority that signs certificates so.
pub const SHA1_AUTHORITY: (&str, &str) = ("CASignatureAlgorithms", "+ssh-rsa");
/// The port that ssh asks for where nothing else is written.
const SSH_PORT: u16 = 22;

/// What the blocks are made of.
pub(super) struct Plan<'p> {
    pub(super) settings: &'p Settings,
    /// What stock ssh can use of each identity, or why it cannot.
    pub(super) views: &'p BTreeMap<String, Result<View, String>>,
    /// The upstreams whose server offers nothing newer than SHA-1.
    pub(super) sha1: &'p BTreeSet<String>,
    /// The words of the ProxyCommand before `%h %p`, already quoted.
    pub(super) proxy_command: &'p str,
}

impl Plan<'_> {
    /// One block for each host named.
    pub(super) fn hosts(&self, hosts: &[String]) -> Vec<Block> {
        hosts.iter().map(|host| self.host(host, &self.pick(host))).collect()
    }

    /// Blocks for whatever the routes take, in the order in which they are asked.
    pub(super) fn everything(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        // Hosts that a route reaches directly: no later wildcard may take them.
        let mut direct: Vec<String> = Vec::new();
        // Wildcards that an earlier rule takes whole: a second block would only add a second identity.
        let mut taken: BTreeSet<String> = BTreeSet::new();
        for rule in &self.settings.routes.rules {
            let Some(upstream) = self.settings.upstreams.get(&rule.upstream) else { continue };
            if matches!(upstream.kind, Kind::Direct) {
                direct.extend(positive(rule).map(|pattern| format!("!{pattern}")));
                continue;
            }
            blocks.extend(self.single_names(rule).map(|host| {
                let mut block = self.host(&host, &self.pick(&host));
                // A wildcard further down must not rename it.
                block.options.insert(0, ("HostName", "%h".into()));
                block
            }));
            let wildcards: Vec<String> = positive(rule).filter(|pattern| is_wildcard(pattern)).collect();
            let open = wildcards.iter().filter(|pattern| !taken.contains(*pattern)).cloned().collect();
            blocks.extend(self.wildcards(rule, open, upstream, &direct));
            if !rule.hosts.iter().any(Pattern::is_negated) {
                taken.extend(wildcards);
            }
        }
        if blocks.is_empty() {
            blocks.push(Block::remark(vec![
                "no upstream but plain TCP: log in with tsh, or write an [upstream.NAME]".into(),
            ]));
        }
        blocks
    }

    /// Names that a rule spells out, in its patterns or in its map, and that reach it.
    fn single_names<'r>(&'r self, rule: &'r Rule) -> impl Iterator<Item = String> + use<'r> {
        let spelled = positive(rule).filter(|name| !is_wildcard(name));
        let names: BTreeSet<String> = spelled.chain(rule.map.keys().cloned()).collect();
        names.into_iter().filter(|name| self.pick(name).rule == rule.origin.to_string())
    }

    /// The blocks for some of a rule's wildcards: those that end in the cluster, and short ones, which ssh must lengthen.
    fn wildcards(
        &self,
        rule: &Rule,
        wildcards: Vec<String>,
        upstream: &Upstream,
        direct: &[String],
    ) -> Vec<Block> {
        if wildcards.is_empty() {
            return Vec::new();
        }
        if !matches!(upstream.kind, Kind::Teleport { .. }) {
            return vec![self.plain_wildcards(rule, wildcards, direct)];
        }
        let Some(cluster) = rule.cluster.as_ref().or(upstream.cluster.as_ref()) else {
            return vec![Block::remark(vec![format!(
                "{}: the cluster of upstream {} is unknown; write cluster = \"…\" into its table",
                rule.origin, upstream.name
            )])];
        };
        let ending = format!(".{cluster}");
        let (long, rest): (Vec<_>, Vec<_>) =
            wildcards.into_iter().partition(|p| p.ends_with(&ending.to_lowercase()));
        let (short, unsayable): (Vec<_>, Vec<_>) =
            rest.into_iter().partition(|p| self.takes_the_ending(p, &ending));
        let mut blocks = Vec::new();
        // Nobody asked for the endings that are no cluster, such as the proxy's host.
        if matches!(rule.origin, Origin::Route { .. }) && !unsayable.is_empty() {
            blocks.push(Block::remark(vec![
                rule.origin.to_string(),
                format!(
                    "names like {} need a HostKeyAlias each, so a block each: natssh ssh-config {}",
                    unsayable.join(" "),
                    unsayable[0].replace(['*', '?'], "x")
                ),
            ]));
        }
        let mut others: Vec<String> =
            rule.hosts.iter().filter(|pattern| pattern.is_negated()).map(ToString::to_string).collect();
        others.extend(direct.iter().cloned());
        others.extend(self.settings.routes.proxies.iter().map(|proxy| format!("!{proxy}")));
        let mut put = |hosts: Vec<String>, hostname: Option<String>| {
            let mut comments = vec![rule.origin.to_string()];
            let mut options: Vec<_> = hostname.map(|name| ("HostName", name)).into_iter().collect();
            let identity = rule.identity.as_ref().or(upstream.identity.as_ref());
            options.extend(self.options(&upstream.name, identity, rule.port, "%h", &mut comments));
            blocks.push(Block { comments, hosts, options });
        };
        if !long.is_empty() {
            put([long, others.clone()].concat(), None);
        }
        if !short.is_empty() {
            others.push(format!("!*{ending}"));
            if short.iter().any(|pattern| pattern == "*") {
                // Everything else, but not what plainly is no node: a name on the Internet, an address, this machine.
                others.extend(["!*.*", "!*:*", "!localhost"].map(String::from));
            }
            put([short, others].concat(), Some(format!("%h{ending}")));
        }
        blocks
    }

    /// The block for the wildcards of an upstream whose nodes go by their own names.
    fn plain_wildcards(&self, rule: &Rule, wildcards: Vec<String>, direct: &[String]) -> Block {
        let mut hosts = wildcards;
        hosts.extend(rule.hosts.iter().filter(|pattern| pattern.is_negated()).map(ToString::to_string));
        hosts.extend(direct.iter().cloned());
        hosts.extend(self.settings.routes.proxies.iter().map(|proxy| format!("!{proxy}")));
        Block {
            comments: vec![rule.origin.to_string()],
            hosts,
            options: self.way(&rule.upstream, "%h", rule.port),
        }
    }

    /// Whether a name and the same name with the cluster's ending are one node to the routes.
    fn takes_the_ending(&self, pattern: &str, ending: &str) -> bool {
        let name = pattern.replace(['*', '?'], "x");
        let (short, long) = (self.pick(&name), self.pick(&format!("{name}{ending}")));
        let essence = |p: &Picked| {
            (p.upstream.clone(), p.node.clone(), p.cluster.clone(), p.login.clone(), p.identity.clone())
        };
        name == short.node.host && essence(&short) == essence(&long)
    }

    fn host(&self, host: &str, picked: &Picked) -> Block {
        let mut comments = vec![format!("{host}: {}", picked.rule)];
        let upstream = match self.settings.upstreams.get(&picked.upstream) {
            Some(upstream) if !matches!(upstream.kind, Kind::Direct) => upstream,
            _ => {
                comments[0] += ", so it needs nothing of natssh";
                return Block::remark(comments);
            }
        };
        // ssh makes %h lower case, and case matters to Teleport.
        let asked = if host.chars().any(char::is_uppercase) { block::shell_word(host) } else { "%h".into() };
        if !matches!(upstream.kind, Kind::Teleport { .. }) {
            let asked_port = NodeAddr { host: host.to_owned(), port: SSH_PORT };
            let port =
                Some(self.settings.routes.pick(&asked_port).node.port).filter(|port| *port != SSH_PORT);
            return Block {
                comments,
                hosts: vec![host.to_owned()],
                options: self.way(&upstream.name, &asked, port),
            };
        }
        let node = &picked.node.host;
        let mut options = Vec::new();
        match picked.cluster.as_ref().or(upstream.cluster.as_ref()) {
            Some(cluster) => options.push(("HostKeyAlias", format!("{node}.{cluster}"))),
            None => comments.push(format!(
                "the cluster of upstream {} is unknown, so ssh may not accept its host key; write cluster = \"…\" into its table",
                upstream.name
            )),
        }
        let port = (picked.node.port != NODE_PORT).then_some(picked.node.port);
        let identity = picked.identity.as_ref().or(upstream.identity.as_ref());
        options.extend(self.options(&upstream.name, identity, port, &asked, &mut comments));
        Block { comments, hosts: vec![host.to_owned()], options }
    }

    /// How ssh gets a stream; the node behind it is the user's own, with a key and a login that natssh does not know.
    fn way(&self, upstream: &str, host: &str, port: Option<u16>) -> Vec<(&'static str, String)> {
        let kind = self.settings.upstreams.get(upstream).map(|upstream| &upstream.kind);
        let login = match kind {
            Some(Kind::Command(command)) if command.needs_login() => " --login %r",
            _ => "",
        };
        let mut options = vec![
            ("ProxyCommand", format!("{} {host} %p{login}", self.proxy_command)),
            ("ProxyUseFdpass", "yes".into()),
        ];
        options.extend(port.map(|port| ("Port", port.to_string())));
        options
    }

    /// What every block of a cluster's nodes has: the way, the identity, and the algorithms of an old cluster.
    fn options(
        &self,
        upstream: &str,
        identity: Option<&String>,
        port: Option<u16>,
        host: &str,
        comments: &mut Vec<String>,
    ) -> Vec<(&'static str, String)> {
        let mut options = self.way(upstream, host, Some(port.unwrap_or(NODE_PORT)));
        let view = match identity.and_then(|name| Some((name, self.views.get(name)?))) {
            Some((_, Ok(view))) => view.clone(),
            Some((name, Err(why))) => {
                comments.push(format!("identity {name} is missing here: {why}"));
                View::default()
            }
            None => View::default(),
        };
        options.extend(view.options());
        let extra = self
            .settings
            .upstreams
            .get(upstream)
            .map(|upstream| upstream.known_hosts.as_slice())
            .unwrap_or_default();
        // First the user's own: ssh adds new keys to the first, and the others are rewritten by tsh.
        let files = std::iter::once(PathBuf::from("~/.ssh/known_hosts"))
            .chain(extra.iter().cloned())
            .chain(view.known_hosts);
        let files: Vec<String> = files.map(|file| block::path(&file)).collect();
        options.push(("UserKnownHostsFile", files.join(" ")));
        if self.sha1.contains(upstream) {
            comments.push("an old cluster, which signs with SHA-1 only".into());
            options.extend(SHA1_CLUSTER.map(|(keyword, value)| (keyword, value.into())));
        }
        if view.sha1_authority {
            options.push((SHA1_AUTHORITY.0, SHA1_AUTHORITY.1.into()));
        }
        options
    }

    fn pick(&self, host: &str) -> Picked {
        self.settings.routes.pick(&NodeAddr { host: host.to_owned(), port: NODE_PORT })
    }
}

/// The patterns that take hosts, as written.
fn positive(rule: &Rule) -> impl Iterator<Item = String> {
    rule.hosts.iter().filter(|pattern| !pattern.is_negated()).map(ToString::to_string)
}

fn is_wildcard(pattern: &str) -> bool {
    pattern.contains(['*', '?'])
}
