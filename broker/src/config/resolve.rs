//! From the file and the tsh profile to `Settings`: every default filled in, every rule in its order.
//!
//! Pure. Rules come in this order: `[[route]]`s, names that end in the cluster or
//! the proxy of an upstream of the file, the same for the tsh profiles, the current one first, `default`.

use super::file::{At, File, IdentityTable, KindWord, RouteTable, UpstreamTable};
use super::known::{Known, TshProfile};
use super::{Bastion, Kind, Settings, TlsRouting, Upstream};
use crate::identity::Source;
use crate::pattern::Pattern;
use crate::routes::{DIRECT, Origin, Routes, Rule};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A dial's deadline: below the 10 s that Ansible gives a connection.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// After this silence a trunk is suspect; after three times this it is closed.
pub const KEEPALIVE: Duration = Duration::from_secs(15);
/// The identity of a bastion in a file that has none: what stock ssh would have offered.
const CALLERS_AGENT: &str = "agent";
/// What tbot puts on one connection too; a proxy has no limit of its own.
pub const STREAMS_PER_TRUNK: u32 = 100;
/// A working day: what a connection gathers, and where a load balancer once put it, goes with it.
pub const MAX_AGE: Duration = Duration::from_secs(12 * 3600);
/// Handshakes that one server sees at a time: sshd drops connections from the tenth on (MaxStartups).
pub const HANDSHAKES: u32 = 8;
/// The same for Teleport, whose proxies and nodes have no such limit.
pub const TELEPORT_HANDSHAKES: u32 = 1000;

/// Resolves a checked file; none means an empty one.
#[must_use]
pub(super) fn resolve(path: Option<&Path>, file: &File, known: &Known) -> Settings {
    let resolver = Resolver { path, file, known };
    let mut settings = Settings {
        path: path.map(Path::to_owned),
        upstreams: BTreeMap::new(),
        identities: BTreeMap::new(),
        routes: Routes::default(),
        metrics: file.metrics.as_ref().and_then(|table| value(table.listen.as_ref())),
        spare: BTreeSet::new(),
        warnings: known.warnings.clone(),
    };
    for (name, table) in &file.identities {
        settings.identities.insert(name.clone(), resolver.source(table));
    }
    for profile in known.profiles() {
        let source = resolver.tsh(Some(profile.name.clone()));
        settings.identities.entry(profile.name.clone()).or_insert(source);
        settings.upstreams.insert(profile.name.clone(), of_profile(profile));
    }
    for (name, table) in &file.upstreams {
        settings.upstreams.insert(name.clone(), resolver.upstream(name, table));
    }
    settings.upstreams.entry(DIRECT.into()).or_insert_with(|| Upstream::direct(DIRECT));
    for upstream in settings.upstreams.values() {
        if let Some(name) = &upstream.identity {
            let implied = || match upstream.kind {
                Kind::Bastion(_) => Source::Agent(None),
                // Nobody is logged in and the file names no identity: whatever tsh logs in to later.
                Kind::Teleport { .. } | Kind::Command(_) | Kind::Direct => resolver.tsh(None),
            };
            settings.identities.entry(name.clone()).or_insert_with(implied);
        }
    }
    settings.spare = resolver.spare();
    settings.routes = resolver.routes(&settings.upstreams);
    settings
}

struct Resolver<'r> {
    path: Option<&'r Path>,
    file: &'r File,
    known: &'r Known,
}

impl Resolver<'_> {
    fn upstream(&self, name: &str, table: &UpstreamTable) -> Upstream {
        let paths =
            |files: &At<Vec<At<String>>>| files.value.iter().map(|file| self.path(&file.value)).collect();
        let common = Upstream {
            login: value(table.login.as_ref()),
            known_hosts: table.known_hosts.as_ref().map(paths).unwrap_or_default(),
            connect_timeout: value(table.connect_timeout.as_ref()).unwrap_or(CONNECT_TIMEOUT),
            keepalive: value(table.keepalive.as_ref()).unwrap_or(KEEPALIVE),
            max_age: value(table.max_age.as_ref()).unwrap_or(MAX_AGE),
            streams_per_trunk: value(table.streams_per_trunk.as_ref()).unwrap_or(STREAMS_PER_TRUNK) as usize,
            handshakes: value(table.handshakes.as_ref()).unwrap_or(HANDSHAKES) as usize,
            ..Upstream::direct(name)
        };
        match (table.kind.as_ref().map(|kind| kind.value), &table.proxy, &table.host) {
            (Some(KindWord::Teleport), Some(proxy), _) => {
                let identity = value(table.identity.as_ref()).unwrap_or_else(|| self.only_identity());
                let Some((proxy, others)) = proxy.value.split_first() else { return common };
                let routed = value(table.tls_routing.as_ref()).unwrap_or(false);
                let tls = routed.then(|| TlsRouting {
                    authorities: table.tls_ca.as_ref().map(paths).unwrap_or_default(),
                    upgrade: value(table.connection_upgrade.as_ref()).unwrap_or(false),
                });
                Upstream {
                    cluster: value(table.cluster.as_ref()).or_else(|| self.cluster_of(&identity)),
                    identity: Some(identity),
                    handshakes: value(table.handshakes.as_ref()).unwrap_or(TELEPORT_HANDSHAKES) as usize,
                    kind: Kind::Teleport { proxy: proxy.clone(), others: others.to_vec(), tls },
                    ..common
                }
            }
            (Some(KindWord::Bastion), _, Some(host)) => {
                let only = || self.file.identities.keys().next().cloned();
                let identity = value(table.identity.as_ref()).or_else(only);
                let bastion = Bastion {
                    host: host.value.clone(),
                    login: self.known.user.clone(),
                    via: value(table.via.as_ref()),
                    socket: value(table.socket.as_ref()),
                };
                let files = ["~/.ssh/known_hosts", "/etc/ssh/ssh_known_hosts"].map(|file| self.path(file));
                Upstream {
                    identity: Some(identity.unwrap_or_else(|| CALLERS_AGENT.into())),
                    known_hosts: table.known_hosts.as_ref().map_or_else(|| files.to_vec(), paths),
                    kind: Kind::Bastion(bastion),
                    ..common
                }
            }
            (Some(KindWord::Command), ..) => {
                let kind = table.command.as_ref().map_or(Kind::Direct, |at| Kind::Command(at.value.clone()));
                Upstream { kind, ..common }
            }
            _ => common,
        }
    }

    /// The file's one identity, else the current tsh profile, else whatever tsh logs in to later.
    fn only_identity(&self) -> String {
        let of_file = self.file.identities.keys().next();
        of_file.or(self.known.current.as_ref().map(|p| &p.name)).cloned().unwrap_or_else(|| "tsh".into())
    }

    fn cluster_of(&self, identity: &str) -> Option<String> {
        let of_profile = || self.known.profile(identity).map(|profile| &profile.cluster);
        self.known.clusters.get(identity).or_else(of_profile).cloned()
    }

    fn source(&self, table: &IdentityTable) -> Source {
        let path = |at: &At<String>| self.path(&at.value);
        if let Some(proxy) = value(table.tsh.as_ref()) {
            let home = table.home.as_ref().map_or_else(|| self.known.tsh_home.clone(), path);
            Source::Tsh { home, proxy, cluster: None }
        } else if let Some(file) = &table.file {
            Source::File(path(file))
        } else if let Some(directory) = &table.directory {
            Source::Directory(path(directory))
        } else if let Some(key) = &table.key {
            Source::Keys { key: path(key), certificate: table.certificate.as_ref().map(path) }
        } else {
            Source::Agent(value(table.agent.as_ref()).flatten().map(|socket| self.path(&socket)))
        }
    }

    fn tsh(&self, proxy: Option<String>) -> Source {
        Source::Tsh { home: self.known.tsh_home.clone(), proxy, cluster: None }
    }

    /// The profiles beside the current one that the file does not speak of.
    fn spare(&self) -> BTreeSet<String> {
        let file = self.file;
        let mut named: Vec<&At<String>> = file.default.iter().collect();
        named.extend(file.upstreams.values().filter_map(|table| table.identity.as_ref()));
        named.extend(file.routes.iter().flat_map(|route| route.upstream.iter().chain(&route.identity)));
        let others = self.known.others.iter().map(|profile| &profile.name);
        others
            .filter(|name| !file.identities.contains_key(*name) && named.iter().all(|at| at.value != **name))
            .cloned()
            .collect()
    }

    fn path(&self, text: &str) -> PathBuf {
        match text.strip_prefix("~/") {
            Some(rest) => self.known.home.join(rest),
            None => PathBuf::from(text),
        }
    }

    fn routes(&self, upstreams: &BTreeMap<String, Upstream>) -> Routes {
        let mut rules: Vec<Rule> = self
            .file
            .routes
            .iter()
            .enumerate()
            .map(|(n, table)| self.route(n + 1, table, upstreams))
            .collect();
        let of_file = |upstream: &&Upstream| self.file.upstreams.contains_key(&upstream.name);
        rules.extend(upstreams.values().filter_map(Self::of_inner_bastion));
        let of_profiles = self.known.profiles().filter_map(|profile| upstreams.get(&profile.name));
        rules.extend(upstreams.values().filter(of_file).filter_map(|upstream| self.by_ending(upstream)));
        rules.extend(of_profiles.filter(|u| !of_file(u)).filter_map(|upstream| self.by_ending(upstream)));
        if let Some(default) = &self.file.default {
            rules.push(Rule {
                strip: upstreams
                    .get(&default.value)
                    .map(|upstream| self.endings(upstream))
                    .unwrap_or_default(),
                ..Rule::new(
                    vec![Pattern::any()],
                    &default.value,
                    Origin::Default { place: self.place(default.line) },
                )
            });
        }
        let proxies =
            upstreams.values().flat_map(Upstream::proxies).map(|proxy| proxy.host.to_lowercase()).collect();
        Routes { rules, proxies }
    }

    fn route(&self, number: usize, table: &RouteTable, upstreams: &BTreeMap<String, Upstream>) -> Rule {
        let name = value(table.upstream.as_ref()).unwrap_or_else(|| DIRECT.into());
        let hosts = table.hosts.iter().flat_map(|hosts| &hosts.value).map(|at| at.value.clone()).collect();
        let cluster = value(table.cluster.as_ref());
        let mut strip: Vec<String> = value(table.strip_suffix.as_ref()).into_iter().collect();
        if let Some(upstream) = upstreams.get(&name) {
            strip.extend(self.endings(upstream));
        }
        strip.extend(cluster.iter().map(|cluster| format!(".{cluster}")));
        Rule {
            map: value(table.map.as_ref()).unwrap_or_default(),
            strip,
            port: table.port.as_ref().and_then(|port| u16::try_from(port.value).ok()),
            cluster,
            login: value(table.login.as_ref()),
            identity: value(table.identity.as_ref()),
            ..Rule::new(hosts, &name, Origin::Route { number, place: self.place(table.line) })
        }
    }

    /// A bastion behind another upstream is itself reached through that: the way to it must not lead through it.
    fn of_inner_bastion(upstream: &Upstream) -> Option<Rule> {
        let Kind::Bastion(Bastion { host, via: Some(via), .. }) = &upstream.kind else { return None };
        let hosts = vec![Pattern::parse(&host.host).ok()?];
        Some(Rule::new(hosts, via, Origin::Names { upstream: upstream.name.clone() }))
    }

    /// The rule of an upstream for names that say by their end where they belong.
    fn by_ending(&self, upstream: &Upstream) -> Option<Rule> {
        let strip = self.endings(upstream);
        let hosts: Vec<_> =
            strip.iter().filter_map(|ending| Pattern::parse(&format!("*{ending}")).ok()).collect();
        let origin = Origin::Names { upstream: upstream.name.clone() };
        (!hosts.is_empty()).then(|| Rule { strip, ..Rule::new(hosts, &upstream.name, origin) })
    }

    /// What `tsh` takes off a name before it dials: first the proxy's host, then the cluster.
    fn endings(&self, upstream: &Upstream) -> Vec<String> {
        let Kind::Teleport { .. } = &upstream.kind else { return Vec::new() };
        let profile = upstream.identity.as_ref().and_then(|name| self.known.profile(name));
        let mut endings = Vec::new();
        let proxies = upstream.proxies().into_iter().map(|proxy| &proxy.host);
        let names = profile.map(|p| &p.proxy_host).into_iter().chain(proxies).chain(&upstream.cluster);
        for name in names {
            let ending = format!(".{name}");
            // An address such as [::1] is the end of no name.
            if !name.contains(':') && !endings.contains(&ending) {
                endings.push(ending);
            }
        }
        endings
    }

    fn place(&self, line: usize) -> String {
        match self.path {
            Some(path) => format!("{}:{line}", path.display()),
            None => format!("line {line}"),
        }
    }
}

fn of_profile(profile: &TshProfile) -> Upstream {
    Upstream {
        identity: Some(profile.name.clone()),
        cluster: Some(profile.cluster.clone()),
        handshakes: TELEPORT_HANDSHAKES as usize,
        kind: Kind::Teleport {
            proxy: profile.ssh_proxy.clone(),
            others: Vec::new(),
            tls: profile.tls_routing.clone(),
        },
        ..Upstream::direct(&profile.name)
    }
}

fn value<T: Clone>(at: Option<&At<T>>) -> Option<T> {
    at.map(|at| at.value.clone())
}
