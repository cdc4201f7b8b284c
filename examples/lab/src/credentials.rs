//! The lab's keys and certificates on disk: what the user logs in with, in
//! every form that natssh reads, and what the nodes prove themselves with.

use std::fs;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use ssh_key::PrivateKey;

use crate::ca::tsh::{Layout, Profile};
use crate::ca::{Authority, Credential, HostRequest, KeyKind, UserRequest, Validity, bare};
use crate::ca::{identity_file, openssh, tbot, tsh};
use crate::faults::CertFault;
use crate::proxy::TlsRouting;
use crate::state::{Folder, create_private, write_private};

/// The cluster's name.
pub const CLUSTER: &str = "lab";
/// The Teleport user, who is not the login at the nodes.
const USER: &str = "alice";
/// A login that no node has.
const FOREIGN_LOGIN: &str = "somebody-else";
/// The port of a web listener, which the lab has with TLS routing alone.
const WEB_PORT: u16 = 3080;

/// Where everything lies.
#[derive(Clone, Debug)]
pub struct Credentials {
    folder: PathBuf,
}

/// For whom, and where to.
#[derive(Clone, Debug)]
pub struct Account {
    /// The login at the nodes.
    pub login: String,
    /// Where clients reach the proxy.
    pub proxy: SocketAddr,
    /// Whether SSH is inside TLS there.
    pub tls_routing: TlsRouting,
}

impl Credentials {
    /// Of the lab in this folder.
    pub fn at(folder: &Folder) -> Self {
        Self { folder: folder.credentials() }
    }

    /// The folder that `tsh login` would have written: `TELEPORT_HOME`.
    pub fn tsh(&self) -> PathBuf {
        self.folder.join("tsh")
    }

    /// The file that `tctl auth sign` would have written.
    pub fn identity_file(&self) -> PathBuf {
        self.folder.join("identity")
    }

    /// The folder that `tbot` would have written.
    pub fn tbot(&self) -> PathBuf {
        self.folder.join("tbot")
    }

    /// A plain key; its certificate lies beside it.
    pub fn openssh_key(&self) -> PathBuf {
        self.folder.join("openssh/id_lab")
    }

    /// What the proxy's web pages, or a load balancer before it, show: it has signed itself.
    pub fn web_certificate(&self) -> PathBuf {
        self.folder.join("web.pem")
    }

    /// Names the host authority for every host.
    pub fn known_hosts(&self) -> PathBuf {
        self.folder.join("openssh/known_hosts")
    }

    /// Issues the user's certificate as the fault wants it and writes it
    /// everywhere; [`CertFault::Replace`] is also how it is issued first.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn apply(&self, fault: CertFault, authority: &Authority, account: &Account) -> Result<()> {
        let request = UserRequest::new(USER, &[&account.login]);
        let key = match fault {
            CertFault::Replace => None,
            _ => self.current_key()?,
        };
        let request = match fault {
            CertFault::Expire => request.valid(Validity::expired()),
            CertFault::Brief { seconds } => request.valid(Validity::ttl(Duration::from_secs(seconds.into()))),
            CertFault::ForeignLogin => UserRequest::new(USER, &[FOREIGN_LOGIN]),
            CertFault::Rotate | CertFault::Replace => request,
            CertFault::Remove => return self.remove(),
        };
        let credential = match key {
            Some(key) => authority.sign_user(&request, key)?,
            None => authority.issue_user(&request)?,
        };
        self.write(authority, account, &credential)
    }

    /// Writes a node's host key, certificate and the user authority into `keys`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write_host(&self, keys: &Path, authority: &Authority, node: &HostRequest) -> Result<()> {
        create_private(keys)?;
        // Sshd's own choice of key; one of RSA would take fifty nodes half a minute.
        let host = authority.sign_host(node, KeyKind::Ed25519.generate()?)?;
        openssh::write(&keys.join("host_key"), &host)?;
        write_private(&keys.join("user_ca.pub"), &format!("{}\n", bare(authority.user_ca())))
    }

    fn write(&self, authority: &Authority, account: &Account, credential: &Credential) -> Result<()> {
        let host = account.proxy.ip().to_string();
        let profile = Profile {
            proxy_host: host.clone(),
            web_port: if account.tls_routing == TlsRouting::Off { WEB_PORT } else { account.proxy.port() },
            tls_routing: account.tls_routing,
            ssh_proxy_addr: account.proxy.to_string(),
            layout: Layout::V7,
        };
        create_private(&self.folder.join("openssh"))?;
        write_private(&self.web_certificate(), authority.web_certificate())?;
        tsh::write(&self.tsh(), &profile, authority, credential)?;
        identity_file::write(&self.identity_file(), authority, credential)?;
        tbot::write(&self.tbot(), &host, authority, credential)?;
        openssh::write(&self.openssh_key(), credential)?;
        // Node names carry no suffix that would tell them from other hosts.
        let everywhere = format!("@cert-authority * {}\n", bare(authority.host_ca()));
        write_private(&self.known_hosts(), &everywhere)
    }

    fn current_key(&self) -> Result<Option<PrivateKey>> {
        let path = self.openssh_key();
        if !path.exists() {
            return Ok(None);
        }
        PrivateKey::read_openssh_file(&path).map(Some).with_context(|| format!("read {}", path.display()))
    }

    /// The plain key goes last and with it the memory of which it was.
    fn remove(&self) -> Result<()> {
        tsh::logout(&self.tsh())?;
        let key = self.openssh_key();
        for file in [self.identity_file(), key.with_file_name("id_lab-cert.pub"), key] {
            absent(fs::remove_file(&file), &file)?;
        }
        let tbot = self.tbot();
        absent(fs::remove_dir_all(&tbot), &tbot)
    }
}

fn absent(removed: std::io::Result<()>, path: &Path) -> Result<()> {
    match removed {
        Err(e) if e.kind() != ErrorKind::NotFound => {
            Err(e).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ssh_key::Certificate;

    #[test]
    fn a_rotation_keeps_the_key_and_a_replacement_does_not() {
        let parent = tempfile::tempdir().expect("a folder");
        let folder = Folder::at(parent.path()).expect("a plain path");
        let credentials = Credentials::at(&folder);
        let authority = Authority::new(CLUSTER, KeyKind::Ed25519).expect("keys");
        let proxy = SocketAddr::from(([127, 0, 0, 1], 3023));
        let account = Account { login: "root".to_owned(), proxy, tls_routing: TlsRouting::Off };
        let issue = |fault| credentials.apply(fault, &authority, &account).expect("writable");
        let key = || fs::read(credentials.openssh_key()).expect("a key");
        let certificate = || {
            let path = credentials.openssh_key().with_file_name("id_lab-cert.pub");
            Certificate::read_file(&path).expect("a certificate")
        };

        issue(CertFault::Replace);
        let first = (key(), certificate());
        issue(CertFault::Rotate);
        assert_eq!(key(), first.0);
        assert_ne!(certificate(), first.1);
        issue(CertFault::Expire);
        assert_eq!(key(), first.0);
        let now = std::time::UNIX_EPOCH.elapsed().expect("a clock after 1970").as_secs();
        assert!(certificate().valid_before() < now);
        issue(CertFault::ForeignLogin);
        assert!(certificate().valid_principals().iter().all(|login| login != "root"));
        issue(CertFault::Remove);
        assert!(!credentials.openssh_key().exists() && !credentials.tbot().exists());
        assert!(!credentials.tsh().join("keys").exists());
        issue(CertFault::Replace);
        assert_ne!(key(), first.0);
    }
}
