//! Who one is at a node that a Teleport proxy leads to: the upstream's identity, where the user says nothing else.
//!
//! What stock ssh is told by `natssh ssh-config` holds here too, so that `natssh node` needs no such fragment: the
//! identity's key and certificate in front of ssh's own, its authorities behind the user's known hosts, the name and the port
//! that a node of the cluster has. Where the user's settings say whom to be, or whom to trust, nothing is added to that:
//! what ssh would refuse by them, natssh refuses too. The real ssh is told the same where it has to run a call.

use super::call::Call;
use super::lookup::Found;
use super::meaning::Whom;
use crate::config::{Kind, Upstream};
use crate::identity::{Source, Watched};
use crate::reach::Reach;
use crate::ssh_config::derived::Places;
use crate::ssh_config::{self, NODE_PORT, SHA1_AUTHORITY, SHA1_CLUSTER};
use crate::target::{Target, Way};
use natssh_wire::NodeAddr;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Where ssh knocks unasked.
const SSH_PORT: u16 = 22;

/// Where identities are, by name: of which generation, and the places.
#[derive(Debug, Default)]
pub(super) struct Identities(Mutex<HashMap<String, (u64, Arc<Places>)>>);

/// The settings that say whom to be.
const WHO: [&str; 5] =
    ["identityfile", "certificatefile", "identitiesonly", "identityagent", "pkcs11provider"];
/// The settings that say whom to trust.
const TRUST: [&str; 4] = ["userknownhostsfile", "globalknownhostsfile", "knownhostscommand", "hostkeyalias"];

/// What a host's upstream has for whoever goes there, as far as the user's words and files leave it open.
#[derive(Debug, Default)]
pub(super) struct Introduction {
    upstream: String,
    /// Whom to be.
    who: Option<Arc<Places>>,
    /// Whom to believe.
    trust: Option<Trust>,
    port: Option<u16>,
    login: Option<String>,
}

#[derive(Debug, Default)]
struct Trust {
    /// Read like the user's, and never written to.
    files: Vec<PathBuf>,
    /// The name that a node of the cluster has.
    alias: Option<String>,
    /// An authority that signs with SHA-1.
    sha1: bool,
}

impl Identities {
    /// What belongs to the upstream of a host that is reached by natssh's routes.
    pub(super) async fn introduction(
        &self,
        whom: &Whom,
        way: &Way,
        call: &Call,
        found: &Found,
        reach: &Reach,
    ) -> Introduction {
        let node = NodeAddr { host: whom.host.clone(), port: whom.port };
        let picked = reach.settings.routes.pick(&node);
        let upstream = reach.settings.upstreams.get(&picked.upstream);
        let cluster = |upstream: &&Upstream| matches!(upstream.kind, Kind::Teleport { .. });
        let Some(upstream) = upstream.filter(cluster).filter(|_| *way == Way::Route) else {
            return Introduction::default();
        };
        let name = picked.identity.as_ref().or(upstream.identity.as_ref());
        let watched = name.and_then(|name| reach.identity(name));
        // The caller's own agent is offered anyway.
        let Some(watched) = watched.filter(|watched| *watched.source() != Source::Agent(None)) else {
            return Introduction::default();
        };
        // What is wrong with an identity is told by the upstream when it is asked for a stream.
        let Some(places) = self.places(watched, reach.state_dir(), found.since).await else {
            return Introduction::default();
        };
        let mentions = |keyword: &str| found.known.scan.keywords.contains(keyword);
        let says_port = call.names_a_port || mentions("port") || whom.port != SSH_PORT;
        let says_login = call.names_a_login || mentions("user") || whom.user != found.basis.name;
        let cluster = picked.cluster.as_ref().or(upstream.cluster.as_ref());
        let trust = || Trust {
            files: upstream.known_hosts.iter().chain(&places.known_hosts).cloned().collect(),
            // ssh makes aliases lower case.
            alias: cluster.map(|cluster| format!("{}.{cluster}", picked.node.host).to_lowercase()),
            sha1: places.sha1_authority,
        };
        Introduction {
            trust: TRUST.iter().all(|keyword| found.leaves_open(keyword)).then(trust),
            who: WHO.iter().all(|keyword| found.leaves_open(keyword)).then(|| places.clone()),
            port: (!says_port && picked.node.port == SSH_PORT).then_some(NODE_PORT),
            login: picked.login.as_ref().or(upstream.login.as_ref()).filter(|_| !says_login).cloned(),
            upstream: picked.upstream,
        }
    }

    async fn places(&self, watched: Arc<Watched>, state_dir: &Path, since: Instant) -> Option<Arc<Places>> {
        let (name, state_dir) = (watched.name().to_owned(), state_dir.to_owned());
        let snapshot = watched.snapshot_since(since).await.ok()?;
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&name).cloned();
        if let Some((_, places)) = known.filter(|(generation, _)| *generation == snapshot.generation) {
            return Some(places);
        }
        let generation = snapshot.generation;
        let made = tokio::task::spawn_blocking(move || {
            let identity = snapshot.identity.as_ref().ok()?;
            let made = Places::of(&state_dir, identity);
            made.inspect_err(|error| tracing::warn!(reason = %error, "files of an identity not written")).ok()
        });
        let places = Arc::new(made.await.ok()??);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name, (generation, places.clone()));
        Some(places)
    }
}

impl Introduction {
    /// For natssh's own session.
    pub(super) fn add_to(&self, target: &mut Target) {
        if let Some(places) = &self.who {
            let in_front = |files: &mut Vec<PathBuf>, file: &Option<PathBuf>| {
                files.splice(0..0, file.clone());
            };
            in_front(&mut target.proof.keys, &places.key);
            in_front(&mut target.proof.certificates, &places.certificate);
            if places.agent.is_some() {
                target.proof.agent.clone_from(&places.agent);
            }
        }
        if let Some(trust) = &self.trust {
            target.trust.global_files.extend(trust.files.iter().cloned());
            target.trust.alias.clone_from(&trust.alias);
        }
        target.port = self.port.unwrap_or(target.port);
        if let Some(login) = &self.login {
            target.user.clone_from(login);
        }
    }

    /// Whom the call is for, then.
    pub(super) fn as_whom(&self, whom: &Whom) -> Whom {
        let Whom { host, port, user } = whom.clone();
        Whom { host, port: self.port.unwrap_or(port), user: self.login.clone().unwrap_or(user) }
    }

    /// The same for the real ssh, each as it is written after `-o`. It may have to be dialled for that.
    pub(super) async fn as_options(&self, found: &Found, reach: &Reach) -> Vec<String> {
        let printed = &found.known.printed;
        let mut options = Vec::new();
        let mut tell = |keyword: &str, value: &str| options.push(format!("{keyword}={value}"));
        if let Some(places) = &self.who {
            if let Some(key) = &places.key {
                tell("IdentityFile", &ssh_config::path(key));
                // ssh leaves its usual keys out where it is told of one.
                printed.all("identityfile").iter().for_each(|usual| tell("IdentityFile", usual));
            }
            places.certificate.iter().for_each(|file| tell("CertificateFile", &ssh_config::path(file)));
            places.agent.iter().for_each(|socket| tell("IdentityAgent", &ssh_config::path(socket)));
        }
        if let Some(trust) = &self.trust {
            let usual = printed.one("globalknownhostsfile").unwrap_or_default().to_owned();
            let files = trust.files.iter().map(|file| ssh_config::quoted(file.to_string_lossy().into()));
            let files: Vec<String> = std::iter::once(usual).chain(files).collect();
            tell("GlobalKnownHostsFile", files.join(" ").trim());
            trust.alias.iter().for_each(|alias| tell("HostKeyAlias", alias));
            if trust.sha1 && found.leaves_open("casignaturealgorithms") {
                tell(SHA1_AUTHORITY.0, SHA1_AUTHORITY.1);
            }
            if found.leaves_open("hostkeyalgorithms") && reach.is_sha1(&self.upstream).await {
                SHA1_CLUSTER.iter().for_each(|(keyword, value)| tell(keyword, value));
            }
        }
        self.port.iter().for_each(|port| tell("Port", &port.to_string()));
        self.login.iter().for_each(|login| tell("User", login));
        options
    }
}
