//! The folder of `tsh login`, in the layouts of Teleport 4 to 17.
//!
//! `current-profile` names a profile, `<proxy>.yaml` describes it, and
//! `keys/<proxy>/<user>` is its key. The certificate is one a cluster at
//! `<user>-ssh/<cluster>-cert.pub`, up to v6 a single `<user>-cert.pub`.
//! `known_hosts` holds the authorities of every cluster that was logged in to.

use super::error::{FileFault, IdentityError};
use super::files::{Content, Files};
use super::keys::{belonging_to, read_certificate, read_key, read_known_hosts};
use super::{Credential, Found, SshFiles};
use crate::known_hosts::Dialect;
use serde::Deserialize;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a login left: how to reach the proxy, and as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// The profile's name, which tsh makes the host part of the web address.
    pub name: String,
    /// The host part of the web address.
    pub proxy_host: String,
    /// `host:port` of the web listener, as `tsh login --proxy` takes it.
    pub web_proxy_addr: String,
    /// `host:port` of the SSH listener; tsh's default 3023 where the profile has none.
    pub ssh_proxy_addr: String,
    /// The Teleport user.
    pub user: String,
    /// The cluster that is logged in to; a leaf after `tsh login <leaf>`.
    pub cluster: String,
    /// Whether SSH goes through the web listener.
    pub tls_routing_enabled: bool,
    /// Whether that needs an HTTP upgrade first, behind a load balancer.
    pub conn_upgrade_required: bool,
}

/// The profile's file; the many other keys are for tsh alone.
#[derive(Deserialize)]
struct ProfileFile {
    #[serde(default)]
    web_proxy_addr: String,
    #[serde(default)]
    ssh_proxy_addr: String,
    #[serde(default)]
    user: String,
    #[serde(default)]
    cluster: String,
    #[serde(default)]
    tls_routing_enabled: bool,
    #[serde(default)]
    tls_routing_conn_upgrade_required: bool,
}

/// tsh's folder, from the environment's `TELEPORT_HOME` and the user's home.
#[must_use]
pub fn home(teleport_home: Option<&OsStr>, home: Option<&Path>) -> Option<PathBuf> {
    match teleport_home {
        Some(set) if !set.is_empty() => Some(set.into()),
        _ => Some(home?.join(".tsh")),
    }
}

/// The profile that `tsh` uses now; none for someone who never logged in.
///
/// # Errors
/// A profile that is named and cannot be read.
pub fn current_profile(home: &Path) -> Result<Option<Profile>, IdentityError> {
    match read_profile(&mut Files::default(), home, None) {
        Ok(profile) => Ok(Some(profile)),
        Err(IdentityError::Missing { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

impl Profile {
    /// Reads a profile's file; `name` is the file's, without `.yaml`.
    ///
    /// # Errors
    /// What does not fit, in YAML's terms.
    pub fn parse(text: &str, name: &str) -> Result<Self, String> {
        let file: ProfileFile = serde_yaml_ng::from_str(text).map_err(|error| error.to_string())?;
        let web_proxy_addr =
            if file.web_proxy_addr.is_empty() { name.to_owned() } else { file.web_proxy_addr };
        let proxy_host = host_of(&web_proxy_addr).to_owned();
        if file.user.is_empty() {
            return Err("it names no user".into());
        }
        let ssh_proxy_addr = match file.ssh_proxy_addr {
            addr if !addr.is_empty() => addr,
            _ if file.tls_routing_enabled => web_proxy_addr.clone(),
            _ if proxy_host.contains(':') => format!("[{proxy_host}]:3023"),
            _ => format!("{proxy_host}:3023"),
        };
        Ok(Self {
            name: name.to_owned(),
            // Older tsh did not write the cluster where it has the proxy's name.
            cluster: if file.cluster.is_empty() { name.to_owned() } else { file.cluster },
            proxy_host,
            web_proxy_addr,
            ssh_proxy_addr,
            user: file.user,
            tls_routing_enabled: file.tls_routing_enabled,
            conn_upgrade_required: file.tls_routing_conn_upgrade_required,
        })
    }
}

/// The key, the certificate and the authorities of a profile.
pub(super) fn find(
    files: &mut Files,
    home: &Path,
    proxy: Option<&str>,
    cluster: Option<&str>,
) -> Result<Found, IdentityError> {
    let profile = read_profile(files, home, proxy)?;
    let renew = login_command(&profile.web_proxy_addr, cluster.filter(|cluster| *cluster != profile.cluster));
    let folder = home.join("keys").join(&profile.proxy_host);
    let key_path = folder.join(&profile.user);
    let key = read_key(files, &key_path, &renew)?;
    let (certificate, certificate_path) =
        read_cluster_certificate(files, &folder, &profile, cluster, &renew)?;
    let certificate = belonging_to(&key, &key_path, certificate, &certificate_path, &renew)?;
    let known_hosts = home.join("known_hosts");
    let authorities = read_known_hosts(files, &known_hosts, Dialect::Tsh)?;
    let ssh_files = SshFiles {
        key: Some(key_path),
        certificate: Some(certificate_path),
        known_hosts: authorities.is_some().then_some(known_hosts),
        agent: None,
    };
    Ok(Found {
        credential: Credential::Key { key: Arc::new(key), certificate: Some(certificate) },
        authorities: authorities.unwrap_or_default(),
        ssh_files,
        renew,
    })
}

/// The certificate for the cluster that is wanted, else for the profile's, which the
/// leaves of a trusting cluster accept too, else the only one of an old tsh.
fn read_cluster_certificate(
    files: &mut Files,
    folder: &Path,
    profile: &Profile,
    cluster: Option<&str>,
    renew: &str,
) -> Result<(Box<ssh_key::Certificate>, PathBuf), IdentityError> {
    let by_cluster = folder.join(format!("{}-ssh", profile.user));
    let mut candidates = Vec::new();
    for cluster in [cluster, Some(&profile.cluster), Some(&profile.proxy_host)].into_iter().flatten() {
        candidates.push(by_cluster.join(format!("{cluster}-cert.pub")));
    }
    candidates.push(folder.join(format!("{}-cert.pub", profile.user)));
    for path in &candidates {
        if let Some(certificate) = read_certificate(files, path, renew)? {
            return Ok((certificate, path.clone()));
        }
    }
    Err(IdentityError::Missing { what: "certificate", path: candidates.swap_remove(0), renew: renew.into() })
}

fn read_profile(files: &mut Files, home: &Path, proxy: Option<&str>) -> Result<Profile, IdentityError> {
    let (name, path) = match proxy {
        Some(proxy) => (host_of(proxy).to_owned(), home.join(format!("{}.yaml", host_of(proxy)))),
        None => match current_name(files, home)? {
            Some(name) => (name.clone(), home.join(format!("{name}.yaml"))),
            // Teleport 4 linked `profile` to the file instead; its name does not matter then.
            None => (String::new(), home.join("profile")),
        },
    };
    let renew = login_command(if name.is_empty() { "PROXY" } else { &name }, None);
    let Some(bytes) = files.read(&path, Content::Public)? else {
        return Err(IdentityError::Missing { what: "tsh profile", path, renew });
    };
    let name = if name.is_empty() { linked_name(&path) } else { name };
    Profile::parse(&String::from_utf8_lossy(&bytes), &name).map_err(|why| IdentityError::Unusable {
        path,
        fault: FileFault::Garbage { expected: "tsh profile", why },
        renew,
    })
}

fn current_name(files: &mut Files, home: &Path) -> Result<Option<String>, IdentityError> {
    let bytes = files.read(&home.join("current-profile"), Content::Public)?;
    let name = bytes.map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned());
    // A name is one part of a path, whatever else the file says.
    Ok(name.filter(|name| !name.is_empty() && !name.contains('/')))
}

/// The name of the file behind Teleport 4's link.
fn linked_name(link: &Path) -> String {
    let target = std::fs::read_link(link).unwrap_or_default();
    target.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// `host` of `host:port`, without an IPv6 address's brackets.
fn host_of(addr: &str) -> &str {
    if let Some((host, _)) = addr.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return host;
    }
    match addr.split_once(':') {
        Some((host, port)) if !port.contains(':') => host,
        _ => addr,
    }
}

fn login_command(proxy: &str, cluster: Option<&str>) -> String {
    match cluster {
        Some(cluster) => format!("tsh login --proxy={proxy} {cluster}"),
        None => format!("tsh login --proxy={proxy}"),
    }
}
