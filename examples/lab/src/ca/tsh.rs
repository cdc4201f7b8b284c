//! The folder that `tsh login` leaves, `~/.tsh`, in the layouts of Teleport 4 to 18.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::Path;

use anyhow::{Context, Result};

use crate::proxy::TlsRouting;

use super::{Authority, Credential, bare, write_key, write_public, write_secret};

/// Which tsh wrote the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Teleport 4: `profile` links to the current profile, and a user has one certificate.
    V4,
    /// Teleport 5 and 6: `current-profile` names it; the rest is as in 4.
    V5,
    /// Teleport 7 to 16: a certificate for each cluster, and authorities marked as such.
    V7,
    /// Teleport 17 and later: the key for TLS stands beside the one for SSH.
    V17,
}

/// Where a profile points.
#[derive(Clone, Debug)]
pub struct Profile {
    /// The proxy's host name, which names the profile.
    pub proxy_host: String,
    /// Port of the web listener, where the lab answers with TLS routing alone.
    pub web_port: u16,
    /// Whether SSH goes through it.
    pub tls_routing: TlsRouting,
    /// `host:port` of the SSH listener.
    pub ssh_proxy_addr: String,
    /// Which tsh writes it.
    pub layout: Layout,
}

/// Writes or refreshes the folder `home`: files are rewritten in place, as tsh does.
///
/// The user's own key and certificate for TLS are placeholders: nothing in the lab asks for them.
///
/// # Errors
/// When a file cannot be written.
pub fn write(home: &Path, profile: &Profile, authority: &Authority, credential: &Credential) -> Result<()> {
    let user = credential.certificate.key_id();
    let host = &profile.proxy_host;
    let keys = home.join("keys").join(host);
    create_private(&keys)?;
    for folder in [home, &home.join("keys"), &keys] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
            .with_context(|| format!("close {}", folder.display()))?;
    }
    let file = format!("{host}.yaml");
    write_public(&home.join(&file), &yaml(profile, user, authority.cluster()))?;
    make_current(home, profile.layout, host, &file)?;
    let known = match profile.layout {
        Layout::V4 | Layout::V5 => authority.known_hosts_before_7(),
        Layout::V7 | Layout::V17 => authority.known_hosts(host),
    };
    // tsh appends what is missing, so that a second login to the same cluster touches nothing (keystore.go).
    let path = home.join("known_hosts");
    if fs::read_to_string(&path).ok().as_ref() != Some(&known) {
        write_public(&path, &known)?;
    }
    write_keys(&keys, profile.layout, authority, credential)
}

/// Says which profile is the current one.
fn make_current(home: &Path, layout: Layout, host: &str, file: &str) -> Result<()> {
    if layout != Layout::V4 {
        return write_public(&home.join("current-profile"), &format!("{host}\n"));
    }
    let link = home.join("profile");
    if link.is_symlink() {
        fs::remove_file(&link).with_context(|| format!("remove {}", link.display()))?;
    }
    symlink(file, &link).with_context(|| format!("link {}", link.display()))
}

/// Writes the user's own files in the order of that tsh's `AddKey`
/// (lib/client/keystore.go): up to 6 the certificates come first, from 7 on the keys.
fn write_keys(keys: &Path, layout: Layout, authority: &Authority, credential: &Credential) -> Result<()> {
    let cluster = authority.cluster();
    let user = credential.certificate.key_id();
    let beside = |ending: &str| keys.join(format!("{user}{ending}"));
    let certificate = format!("{}\n", credential.certificate.to_openssh()?);
    let public = format!("{}\n", bare(credential.key.public_key()));
    match layout {
        Layout::V4 | Layout::V5 => {
            write_secret(&beside("-cert.pub"), &certificate)?;
            write_secret(&beside("-x509.pem"), PLACEHOLDER)?;
            write_secret(&beside(".pub"), &public)?;
            write_key(&keys.join(user), &credential.key)?;
        }
        Layout::V7 | Layout::V17 => {
            write_key(&keys.join(user), &credential.key)?;
            write_secret(&beside(".pub"), &public)?;
            if layout == Layout::V7 {
                write_secret(&beside("-x509.pem"), PLACEHOLDER)?;
            } else {
                write_secret(&beside(".key"), PLACEHOLDER)?;
                write_secret(&beside(".crt"), PLACEHOLDER)?;
                create_private(&keys.join("cas"))?;
                write_secret(&keys.join(format!("cas/{cluster}.pem")), authority.tls().pem())?;
            }
            create_private(&beside("-ssh"))?;
            write_secret(&beside("-ssh").join(format!("{cluster}-cert.pub")), &certificate)?;
        }
    }
    write_public(&keys.join("certs.pem"), authority.tls().pem())
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

/// Stands where a user's certificate for TLS would be.
pub(super) const PLACEHOLDER: &str = "# placeholder: nothing in the lab asks a user for TLS\n";

fn yaml(profile: &Profile, user: &str, cluster: &str) -> String {
    let Profile { proxy_host, web_port, ssh_proxy_addr, tls_routing, .. } = profile;
    format!(
        "web_proxy_addr: {proxy_host}:{web_port}\n\
         ssh_proxy_addr: {ssh_proxy_addr}\n\
         user: {user}\n\
         cluster: {cluster}\n\
         dir: \"\"\n\
         tls_routing_enabled: {}\n\
         tls_routing_conn_upgrade_required: {}\n",
        *tls_routing != TlsRouting::Off,
        tls_routing.is_balanced(),
    )
}

fn create_private(folder: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("create {}", folder.display()))
}
