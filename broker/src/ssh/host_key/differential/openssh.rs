//! OpenSSH: keys and certificates by ssh-keygen, shown by sshd, judged by ssh.

use super::cases::{Case, Shown};
use crate::identity::testing::{ecdsa, ed25519, pem, public_line, ssh_keygen, write};
use ssh_key::{Certificate, PublicKey};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The keys there are, by name: three servers' and three authorities', and one of each that is nobody's.
pub(super) const KEYS: [&str; 8] =
    ["ed25519", "ecdsa", "rsa", "ca-ed25519", "ca-ecdsa", "ca-rsa", "other-ed25519", "other-ecdsa"];

/// The programs, and a folder with the keys.
pub(super) struct OpenSsh {
    folder: tempfile::TempDir,
    sshd: &'static str,
}

impl OpenSsh {
    /// Nothing where OpenSSH's server is not installed, or cannot run for want of its own folder.
    pub(super) fn find() -> Option<Self> {
        let sshd = ["/usr/sbin/sshd", "/usr/local/sbin/sshd", "/usr/bin/sshd"]
            .into_iter()
            .find(|path| Path::new(path).exists())?;
        let usable = !rustix::process::getuid().is_root() || Path::new("/run/sshd").exists();
        if !usable {
            return None;
        }
        let openssh = Self { folder: tempfile::tempdir().unwrap(), sshd };
        for (n, name) in KEYS.into_iter().enumerate() {
            let path = openssh.path(name);
            let seed = 10 + u8::try_from(n).unwrap();
            let key = match name {
                name if name.ends_with("rsa") => {
                    ssh_keygen(["-q", "-t", "rsa", "-b", "2048", "-N", "", "-C", "", "-f", text(&path)]);
                    continue;
                }
                name if name.ends_with("ecdsa") => ecdsa(seed),
                _ => ed25519(seed),
            };
            write(&path, pem(&key));
            write(&path.with_extension("pub"), public_line(&key));
        }
        Some(openssh)
    }

    /// A key as it stands in known_hosts.
    pub(super) fn public_line(&self, name: &str) -> String {
        let line = fs::read_to_string(self.path(name).with_extension("pub")).unwrap();
        line.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
    }

    /// What the server shows; writes the files of its worker.
    pub(super) fn shown(&self, case: &Case, worker: usize) -> (PublicKey, Option<Certificate>) {
        let own = self.path(&format!("worker-{worker}"));
        fs::create_dir_all(&own).unwrap();
        fs::copy(self.path(case.key), own.join("key")).unwrap();
        fs::copy(self.path(case.key).with_extension("pub"), own.join("key.pub")).unwrap();
        let key = PublicKey::read_openssh_file(own.join("key.pub")).unwrap();
        let Shown::Certificate(spec) = &case.shown else { return (key, None) };
        let (authority, public) = (self.path(spec.authority), own.join("key.pub"));
        let mut words = vec!["-q", "-s", text(&authority), "-I", "id", "-V", spec.validity];
        let principals = spec.principals.join(",");
        if !spec.principals.is_empty() {
            words.extend(["-n", &principals]);
        }
        if !spec.for_user {
            words.push("-h");
        }
        if spec.critical {
            words.extend(["-O", "critical:x@example.com=y"]);
        }
        if spec.authority == "ca-rsa" {
            words.extend(["-t", if spec.sha1 { "ssh-rsa" } else { "rsa-sha2-512" }]);
        }
        words.push(text(&public));
        let said = ssh_keygen(words);
        let certificate = Certificate::read_file(&own.join("key-cert.pub"));
        (key, Some(certificate.unwrap_or_else(|error| panic!("{error}: {said}"))))
    }

    /// Whether ssh believes the server: it then fails to log in, which it would not try otherwise.
    pub(super) fn believes(&self, case: &Case, worker: usize) -> bool {
        let own = self.path(&format!("worker-{worker}"));
        let path = |name: &str| text(&own.join(name)).to_owned();
        write(&own.join("known_hosts"), &case.known_hosts);
        let mut config = format!("HostKey {}\nUsePAM no\nPidFile none\nStrictModes no\n", path("key"));
        let mut kind = match case.key {
            "ed25519" => "ssh-ed25519",
            "ecdsa" => "ecdsa-sha2-nistp256",
            _ => "rsa-sha2-512",
        }
        .to_owned();
        if matches!(case.shown, Shown::Certificate(_)) {
            config += &format!("HostCertificate {}\n", path("key-cert.pub"));
            kind += "-cert-v01@openssh.com";
        }
        write(&own.join("sshd_config"), config);
        let mut ssh = Command::new("ssh");
        let dialled = if case.alias {
            ssh.arg("-o").arg(format!("HostKeyAlias={}", case.host));
            "dialled-by-another-name"
        } else {
            &case.host
        };
        for option in [
            "BatchMode=yes",
            "StrictHostKeyChecking=yes",
            "PreferredAuthentications=none",
            "GlobalKnownHostsFile=none",
            "UpdateHostKeys=no",
            "KexAlgorithms=curve25519-sha256",
        ] {
            ssh.args(["-o", option]);
        }
        let output = ssh
            .args(["-F", "none", "-p", &case.port.to_string()])
            .args(["-o", &format!("UserKnownHostsFile={}", path("known_hosts"))])
            .args(["-o", &format!("HostKeyAlgorithms={kind}")])
            .args(["-o", &format!("ProxyCommand={} -i -f {}", self.sshd, path("sshd_config"))])
            .args([dialled, "true"])
            .output()
            .expect("ssh, of OpenSSH's client, is installed");
        let said = String::from_utf8_lossy(&output.stderr);
        let (believed, refused) =
            (said.contains("Permission denied"), said.contains("Host key verification failed"));
        assert!(believed != refused, "ssh says neither yes nor no: {said}\n{case}");
        believed
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
