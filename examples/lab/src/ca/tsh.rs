//! The folder that `tsh login` leaves: `~/.tsh` as Teleport 7 to 16 lay it out.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result};

use super::{Authority, Credential, bare, write_key, write_public, write_secret};

/// How `known_hosts` names the cluster's authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KnownHosts {
    /// `@cert-authority` lines, since 7.0.
    Marked,
    /// A bare key after the cluster's name, before 7.0.
    Bare,
}

/// Where a profile points.
#[derive(Clone, Debug)]
pub struct Profile {
    /// The proxy's host name, which names the profile.
    pub proxy_host: String,
    /// Port of the web listener; nothing in the lab answers there.
    pub web_port: u16,
    /// `host:port` of the SSH listener.
    pub ssh_proxy_addr: String,
    /// The form of `known_hosts`.
    pub known_hosts: KnownHosts,
}

/// Writes or refreshes the folder `home`: files are rewritten in place, as tsh does.
///
/// The key's TLS certificate is a placeholder: nothing in the lab speaks TLS.
///
/// # Errors
/// When a file cannot be written.
pub fn write(home: &Path, profile: &Profile, authority: &Authority, credential: &Credential) -> Result<()> {
    let user = credential.certificate.key_id();
    let cluster = authority.cluster();
    let host = &profile.proxy_host;
    let keys = home.join("keys").join(host);
    let certificates = keys.join(format!("{user}-ssh"));
    create_private(&certificates)?;
    for folder in [home, &home.join("keys"), &keys] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
            .with_context(|| format!("close {}", folder.display()))?;
    }

    write_public(&home.join("current-profile"), &format!("{host}\n"))?;
    write_public(&home.join(format!("{host}.yaml")), &yaml(profile, user, cluster))?;
    let known = match profile.known_hosts {
        KnownHosts::Marked => authority.known_hosts(host),
        KnownHosts::Bare => authority.known_hosts_before_7(),
    };
    write_public(&home.join("known_hosts"), &known)?;

    write_key(&keys.join(user), &credential.key)?;
    let public = format!("{}\n", bare(credential.key.public_key()));
    write_secret(&keys.join(format!("{user}.pub")), &public)?;
    let certificate = format!("{}\n", credential.certificate.to_openssh()?);
    write_secret(&certificates.join(format!("{cluster}-cert.pub")), &certificate)?;
    write_secret(&keys.join(format!("{user}-x509.pem")), PLACEHOLDER)?;
    write_public(&keys.join("certs.pem"), PLACEHOLDER)
}

/// Removes what `tsh logout` removes: the keys, not the profile.
///
/// # Errors
/// When the keys are there and cannot be removed.
pub fn logout(home: &Path) -> Result<()> {
    let keys = home.join("keys");
    match fs::remove_dir_all(&keys) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("remove {}", keys.display()))
        }
        _ => Ok(()),
    }
}

/// Stands where a certificate for TLS would be.
pub(super) const PLACEHOLDER: &str =
    "# placeholder: the lab's proxy speaks SSH alone, and issues nothing for TLS\n";

fn yaml(profile: &Profile, user: &str, cluster: &str) -> String {
    let Profile { proxy_host, web_port, ssh_proxy_addr, .. } = profile;
    format!(
        "web_proxy_addr: {proxy_host}:{web_port}\n\
         ssh_proxy_addr: {ssh_proxy_addr}\n\
         user: {user}\n\
         cluster: {cluster}\n\
         dir: \"\"\n"
    )
}

fn create_private(folder: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("create {}", folder.display()))
}
