//! What a login left: `<proxy>.yaml` in tsh's folder, and which of them is the current one.
//!
//! A folder holds a profile for each proxy that was logged in to, and tsh's
//! commands go to the current one: `current-profile` names it since Teleport 5,
//! and in Teleport 4 `profile` is a link to its file (api/profile/profile.go).

use super::super::error::{FileFault, IdentityError};
use super::super::files::{Content, Files};
use super::login_command;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::Path;

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

/// The profile that `tsh` uses now; none for someone who never logged in.
///
/// # Errors
/// A profile that is named and cannot be read.
pub fn current_profile(home: &Path) -> Result<Option<Profile>, IdentityError> {
    match read(&mut Files::default(), home, None) {
        Ok(profile) => Ok(Some(profile)),
        Err(IdentityError::Missing { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The profiles beside the current one, by name; of one that cannot be read, why not.
#[must_use]
pub fn other_profiles(home: &Path) -> Vec<Result<Profile, IdentityError>> {
    let current = current_name(&mut Files::default(), home).ok().flatten();
    let current = current.unwrap_or_else(|| linked_name(&home.join("profile")));
    let others = names(home).into_iter().filter(|name| *name != current);
    others.map(|name| read(&mut Files::default(), home, Some(&name))).collect()
}

/// The names of all profiles. As in tsh, files ending in `.yaml` count, and links do not.
#[must_use]
pub fn names(home: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(home).into_iter().flatten().flatten();
    let files = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
    files.filter_map(|file| Some(file.file_name().to_str()?.strip_suffix(".yaml")?.to_owned())).collect()
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

/// The named profile, else the current one.
pub(super) fn read(files: &mut Files, home: &Path, proxy: Option<&str>) -> Result<Profile, IdentityError> {
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
