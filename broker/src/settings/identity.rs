//! Who one is at a node that a Teleport proxy leads to: the upstream's identity, where the user says nothing else.
//!
//! What stock ssh is told by `natssh ssh-config` holds here too, so that `natssh node` needs no such fragment: the
//! identity's key and certificate in front of ssh's own, its authorities behind the user's known hosts, the name and the port
//! that a node of the cluster has. Where the user's settings say whom to be, or whom to trust, nothing is added to that:
//! what ssh would refuse by them, natssh refuses too.

use super::call::Call;
use super::lookup::Found;
use crate::config::{Kind, Upstream};
use crate::identity::{Source, Watched};
use crate::reach::Reach;
use crate::routes::Picked;
use crate::ssh_config::NODE_PORT;
use crate::ssh_config::derived::Places;
use crate::target::{Target, Way};
use natssh_wire::NodeAddr;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

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

/// What the user said, in words or in files.
struct Said {
    who: bool,
    trust: bool,
    login: bool,
    port: bool,
}

impl Identities {
    /// Adds to a target what belongs to its upstream.
    pub(super) async fn introduce(&self, target: &mut Target, call: &Call, found: &Found, reach: &Reach) {
        let node = NodeAddr { host: target.host.clone(), port: target.port };
        let picked = reach.settings.routes.pick(&node);
        let Some(upstream) = reach.settings.upstreams.get(&picked.upstream) else { return };
        if target.way != Way::Route || !matches!(upstream.kind, Kind::Teleport { .. }) {
            return;
        }
        let name = picked.identity.as_ref().or(upstream.identity.as_ref());
        let watched = name.and_then(|name| reach.identity(name));
        // The caller's own agent is offered anyway.
        let Some(watched) = watched.filter(|watched| *watched.source() != Source::Agent(None)) else {
            return;
        };
        // What is wrong with an identity is told by the upstream when it is asked for a stream.
        let Some(places) = self.places(watched, reach.state_dir()).await else { return };
        let scan = &found.known.scan;
        let mentions = |keyword: &str| scan.keywords.contains(keyword);
        let printed = &found.known.printed;
        let says = |keyword: &&str| printed.all(keyword) != found.basis.usual.all(keyword);
        let said = Said {
            who: WHO.iter().any(says),
            trust: TRUST.iter().any(says),
            login: call.names_a_login || mentions("user") || target.user != found.basis.name,
            port: call.names_a_port || mentions("port") || target.port != SSH_PORT,
        };
        add(target, &places, upstream, &picked, &said);
    }

    async fn places(&self, watched: Arc<Watched>, state_dir: &Path) -> Option<Arc<Places>> {
        let (name, state_dir) = (watched.name().to_owned(), state_dir.to_owned());
        let snapshot = tokio::task::spawn_blocking(move || watched.refresh()).await.ok()?;
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

fn add(target: &mut Target, places: &Places, upstream: &Upstream, picked: &Picked, said: &Said) {
    if !said.who {
        let in_front = |files: &mut Vec<PathBuf>, file: &Option<PathBuf>| {
            files.splice(0..0, file.clone());
        };
        in_front(&mut target.proof.keys, &places.key);
        in_front(&mut target.proof.certificates, &places.certificate);
        if places.agent.is_some() {
            target.proof.agent.clone_from(&places.agent);
        }
    }
    if !said.trust {
        // Read like the user's, and never written to.
        target.trust.global_files.extend(upstream.known_hosts.iter().chain(&places.known_hosts).cloned());
        // ssh makes aliases lower case.
        let below = |cluster: &String| format!("{}.{cluster}", picked.node.host).to_lowercase();
        target.trust.alias = picked.cluster.as_ref().or(upstream.cluster.as_ref()).map(below);
    }
    if !said.port && picked.node.port == SSH_PORT {
        target.port = NODE_PORT;
    }
    if let Some(login) = picked.login.as_ref().or(upstream.login.as_ref()).filter(|_| !said.login) {
        target.user.clone_from(login);
    }
}
