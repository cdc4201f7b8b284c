//! The folder of `tsh login`, in the layouts of Teleport 4 to 18.
//!
//! For SSH they differ little. Below `keys/<proxy>/` (api/utils/keypaths):
//!
//! | what | Teleport 4 to 6 | 7 to 16 | 17 and later |
//! |---|---|---|---|
//! | SSH key | `<user>` | `<user>` | `<user>` |
//! | SSH certificate | `<user>-cert.pub` | `<user>-ssh/<cluster>-cert.pub` | as before |
//! | TLS key | the SSH key | the SSH key | `<user>.key` |
//! | TLS certificate | `<user>-x509.pem` | `<user>-x509.pem` | `<user>.crt` |
//! | authorities for TLS | `certs.pem` | the same, and `cas/<cluster>.pem` since 9 or 10 | as before |
//!
//! `known_hosts`, beside `keys`, holds the authorities of every cluster that was
//! logged in to: bare keys up to 6, `@cert-authority` lines since 7.

mod profile;

pub use profile::{Profile, current_profile, names as profile_names, other_profiles};

use super::error::IdentityError;
use super::files::Files;
use super::keys::{belonging_to, read_certificate, read_key, read_known_hosts, read_tls_authorities};
use super::{Credential, Found, SshFiles};
use crate::known_hosts::Dialect;
use ssh_key::{Certificate, PrivateKey};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::rustls::pki_types::CertificateDer;

/// tsh's folder, from the environment's `TELEPORT_HOME` and the user's home.
#[must_use]
pub fn home(teleport_home: Option<&OsStr>, home: Option<&Path>) -> Option<PathBuf> {
    match teleport_home {
        Some(set) if !set.is_empty() => Some(set.into()),
        _ => Some(home?.join(".tsh")),
    }
}

/// The key, the certificate and the authorities of a profile.
pub(super) fn find(
    files: &mut Files,
    home: &Path,
    proxy: Option<&str>,
    cluster: Option<&str>,
) -> Result<Found, IdentityError> {
    let profile = profile::read(files, home, proxy)?;
    let renew = login_command(&profile.web_proxy_addr, cluster.filter(|cluster| *cluster != profile.cluster));
    let folder = home.join("keys").join(&profile.proxy_host);
    let key_path = folder.join(&profile.user);
    let key = read_key(files, &key_path, &renew)?;
    let places = certificate_places(&folder, &profile, cluster);
    let (certificate, certificate_path) = certificate_for(files, &key, &key_path, places, &renew)?;
    let known_hosts = home.join("known_hosts");
    let authorities = read_known_hosts(files, &known_hosts, Dialect::Tsh)?;
    let tls_authorities = tls_authorities(files, &folder)?;
    let ssh_files = SshFiles {
        key: Some(key_path),
        certificate: Some(certificate_path),
        known_hosts: authorities.is_some().then_some(known_hosts),
        agent: None,
    };
    Ok(Found {
        credential: Credential::Key { key: Arc::new(key), certificate: Some(certificate) },
        authorities: authorities.unwrap_or_default(),
        tls_authorities,
        ssh_files,
        renew,
    })
}

/// The authorities for TLS of every cluster that the proxy told of: the one that signed its own certificate is among
/// them, and a profile does not say which cluster that is after `tsh login <leaf>`.
fn tls_authorities(files: &mut Files, folder: &Path) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let mut found = read_tls_authorities(files, &folder.join("certs.pem"))?;
    let mut by_cluster: Vec<_> =
        std::fs::read_dir(folder.join("cas")).into_iter().flatten().flatten().collect();
    by_cluster.sort_by_key(std::fs::DirEntry::file_name);
    for file in
        by_cluster.iter().map(std::fs::DirEntry::path).filter(|path| path.extension() == Some("pem".as_ref()))
    {
        let more = read_tls_authorities(files, &file)?;
        found.extend(more.into_iter().filter(|one| !found.contains(one)).collect::<Vec<_>>());
    }
    Ok(found)
}

/// Where the certificate may be, the best place first: the cluster that is wanted, the
/// profile's own, which the leaves of a trusting cluster accept too, and where tsh kept it up to v6.
fn certificate_places(folder: &Path, profile: &Profile, cluster: Option<&str>) -> Vec<PathBuf> {
    let by_cluster = folder.join(format!("{}-ssh", profile.user));
    let clusters = [cluster, Some(&profile.cluster), Some(&profile.proxy_host)];
    let mut places: Vec<_> = clusters
        .into_iter()
        .flatten()
        .map(|cluster| by_cluster.join(format!("{cluster}-cert.pub")))
        .collect();
    places.push(folder.join(format!("{}-cert.pub", profile.user)));
    places
}

/// The first certificate that is for this key. One for another key is what an
/// older login left behind, or another age of tsh: a later place may hold the right one.
fn certificate_for(
    files: &mut Files,
    key: &PrivateKey,
    key_path: &Path,
    mut places: Vec<PathBuf>,
    renew: &str,
) -> Result<(Box<Certificate>, PathBuf), IdentityError> {
    let mut unfit = None;
    for path in &places {
        let Some(certificate) = read_certificate(files, path, renew)? else { continue };
        match belonging_to(key, key_path, certificate, path, renew) {
            Ok(certificate) => return Ok((certificate, path.clone())),
            Err(error) => unfit = unfit.or(Some(error)),
        }
    }
    Err(unfit.unwrap_or_else(|| IdentityError::Missing {
        what: "certificate",
        path: places.swap_remove(0),
        renew: renew.into(),
    }))
}

fn login_command(proxy: &str, cluster: Option<&str>) -> String {
    match cluster {
        Some(cluster) => format!("tsh login --proxy={proxy} {cluster}"),
        None => format!("tsh login --proxy={proxy}"),
    }
}
