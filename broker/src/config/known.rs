//! What the machine knows besides the file: the tsh profiles, and which cluster an identity is for.
//!
//! It reads and decides nothing. What cannot be read becomes a warning: someone
//! whose file does without tsh must not be stopped by a broken profile.

use super::{Environment, Kind, Settings, TlsRouting};
use crate::identity::{Identity, tsh};
use natssh_wire::NodeAddr;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The facts that `resolve` fills gaps with.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    /// The home folder, for `~/`.
    pub(super) home: PathBuf,
    /// The user's name on this machine.
    pub(super) user: String,
    /// The folder of tsh.
    pub(super) tsh_home: PathBuf,
    /// The current tsh profile.
    pub(super) current: Option<TshProfile>,
    /// The other ones, by name: logins to other proxies, which may be over.
    pub(super) others: Vec<TshProfile>,
    /// The cluster of each identity whose certificate names one.
    pub(super) clusters: BTreeMap<String, String>,
    /// What a person should know.
    pub(super) warnings: Vec<String>,
}

/// What of a tsh profile matters to routing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TshProfile {
    /// The profile's name.
    pub(super) name: String,
    /// The host by which people know the proxy.
    pub(super) proxy_host: String,
    /// Its SSH listener, or its web listener where SSH goes through that.
    pub(super) ssh_proxy: NodeAddr,
    /// How it does; none where it does not.
    pub(super) tls_routing: Option<TlsRouting>,
    /// The cluster that was logged in to.
    pub(super) cluster: String,
}

impl Known {
    /// Reads the tsh profiles.
    pub(super) fn look_up(env: &Environment) -> Self {
        let mut known = Self {
            home: env.home.clone(),
            user: env.user.clone(),
            tsh_home: env.tsh_home(),
            ..Self::default()
        };
        match tsh::current_profile(&known.tsh_home) {
            Ok(Some(profile)) => known.current = known.take(&profile),
            Ok(None) => {}
            Err(error) => known.warnings.push(format!("the current tsh profile is ignored: {error}")),
        }
        for profile in tsh::other_profiles(&known.tsh_home) {
            match profile {
                Ok(profile) => {
                    let taken = known.take(&profile);
                    known.others.extend(taken);
                }
                Err(error) => known.warnings.push(format!("a tsh profile is ignored: {error}")),
            }
        }
        known
    }

    /// All profiles, the current one first.
    pub(super) fn profiles(&self) -> impl Iterator<Item = &TshProfile> {
        self.current.iter().chain(&self.others)
    }

    /// The profile of this name.
    pub(super) fn profile(&self, name: &str) -> Option<&TshProfile> {
        self.profiles().find(|profile| profile.name == name)
    }

    fn take(&mut self, profile: &tsh::Profile) -> Option<TshProfile> {
        let address = &profile.ssh_proxy_addr;
        let name = &profile.name;
        match NodeAddr::parse(address) {
            Ok(ssh_proxy) => Some(TshProfile {
                name: name.clone(),
                proxy_host: profile.proxy_host.clone(),
                ssh_proxy,
                tls_routing: profile
                    .tls_routing_enabled
                    .then(|| TlsRouting { upgrade: profile.conn_upgrade_required, ..TlsRouting::default() }),
                cluster: profile.cluster.clone(),
            }),
            Err(error) => {
                self.warnings
                    .push(format!("tsh profile {name} is ignored: its ssh_proxy_addr {address:?}: {error}"));
                None
            }
        }
    }

    /// Reads which clusters the certificates are for, where an upstream does not say. Whether any was found.
    pub(super) fn look_up_clusters(&mut self, settings: &Settings) -> bool {
        let unknown = settings
            .upstreams
            .values()
            .filter(|upstream| matches!(upstream.kind, Kind::Teleport { .. }) && upstream.cluster.is_none());
        for name in unknown.filter_map(|upstream| upstream.identity.as_ref()) {
            let Some(source) = settings.identities.get(name) else { continue };
            // What is wrong with an identity is its own story, told in `status`.
            if let Some(cluster) = Identity::load(name, source, 0).ok().and_then(|identity| identity.cluster)
            {
                self.clusters.insert(name.clone(), cluster);
            }
        }
        !self.clusters.is_empty()
    }
}
