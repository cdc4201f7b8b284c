//! What the lab tells its user: the configuration of stock ssh and of natssh,
//! and the shell lines of `natssh-lab env`. No I/O.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::credentials::Credentials;
use crate::proxy::TlsRouting;
use crate::state::Folder;

/// What these texts are made from.
#[derive(Debug)]
pub struct Environment<'a> {
    /// The lab's folder.
    pub folder: &'a Folder,
    /// Where the certificates lie.
    pub credentials: &'a Credentials,
    /// Where clients reach the proxy.
    pub proxy: SocketAddr,
    /// Whether SSH is inside TLS there.
    pub tls_routing: TlsRouting,
    /// The login at the nodes, and at the proxy.
    pub login: &'a str,
    /// The nodes' names, in order.
    pub nodes: &'a [String],
    /// The nodes' Python.
    pub python: Option<&'a PathBuf>,
}

/// RSA with SHA-1, which stock ssh takes from old clusters only when told to.
const OLD: &str = "+ssh-rsa,ssh-rsa-cert-v01@openssh.com";

impl Environment<'_> {
    /// For stock `ssh -F`: every connection goes through a second ssh, which asks
    /// the proxy for the node. This is what natssh is measured against.
    pub fn ssh_config(&self) -> String {
        let own = self.folder.ssh_config();
        let files = self.credentials;
        let (host, port) = (self.proxy.ip(), self.proxy.port());
        // What `tsh proxy ssh` does; ssh checks the proxy's key inside.
        let tls =
            "\n  ProxyCommand openssl s_client -quiet -alpn teleport-proxy-ssh -connect %h:%p 2>/dev/null";
        let tls = if self.tls_routing == TlsRouting::On { tls } else { "" };
        format!(
            "# Written by natssh-lab: stock ssh through the lab's stand-in proxy.
Host {host}
  Port {port}{tls}
Host {nodes}
  ProxyCommand ssh -F {own} -s {host} proxy:%h:%p
Host *
  User {login}
  IdentityFile {key}
  CertificateFile {key}-cert.pub
  IdentitiesOnly yes
  IdentityAgent none
  BatchMode yes
  UserKnownHostsFile {known_hosts}
  GlobalKnownHostsFile none
  StrictHostKeyChecking yes
  HostKeyAlgorithms {OLD}
  PubkeyAcceptedAlgorithms {OLD}
  CASignatureAlgorithms +ssh-rsa
",
            nodes = self.nodes.join(" "),
            own = own.display(),
            login = self.login,
            key = files.openssh_key().display(),
            known_hosts = files.known_hosts().display(),
        )
    }

    /// For natssh: the tsh profile is its upstream, and short names go there too.
    pub fn natssh_toml(&self) -> String {
        format!(
            "# Written by natssh-lab. The upstream is the current tsh profile in TELEPORT_HOME.\n\
             default = \"{}\"\n",
            self.proxy.ip()
        )
    }

    /// What `natssh-lab env` prints, unquoted.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        let folder = self.folder;
        let text = |path: &Path| path.display().to_string();
        vec![
            ("NATSSH_CONFIG", text(&folder.natssh_toml())),
            ("NATSSH_SOCKET", text(&folder.broker().join("broker.sock"))),
            ("TELEPORT_HOME", text(&self.credentials.tsh())),
            ("LAB_SSH_OPTIONS", format!("-F {}", folder.ssh_config().display())),
            ("LAB_FIRST_NODE", self.nodes.first().cloned().unwrap_or_default()),
            ("LAB_NODES", self.nodes.join(" ")),
            ("LAB_PROXY", self.proxy.to_string()),
            ("LAB_LOGIN", self.login.to_owned()),
            ("LAB_PYTHON", self.python.map_or_else(String::new, |python| text(python))),
            ("LAB_DIR", text(folder.path())),
            // So that the next `natssh-lab` of this shell needs no --state.
            ("NATSSH_LAB", text(folder.path())),
        ]
    }
}

/// Lines for `eval`. No value holds a quote: [`Folder::at`] has seen to that.
pub fn shell(variables: &[(&str, String)]) -> String {
    variables.iter().map(|(name, value)| format!("export {name}='{value}'\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shell_reads_back_what_was_meant() {
        let folder = Folder::at(Path::new("/tmp/lab")).expect("a plain path");
        let credentials = Credentials::at(&folder);
        let nodes = ["control-plane".to_owned(), "worker".to_owned()];
        let environment = Environment {
            folder: &folder,
            credentials: &credentials,
            proxy: SocketAddr::from(([127, 0, 0, 1], 40123)),
            tls_routing: TlsRouting::Off,
            login: "root",
            nodes: &nodes,
            python: None,
        };
        let script = format!(
            "{}echo \"$LAB_SSH_OPTIONS|$LAB_NODES|$LAB_PROXY|$LAB_PYTHON\"",
            shell(&environment.variables())
        );
        let output = std::process::Command::new("sh").args(["-ec", &script]).output().expect("sh runs");
        let said = String::from_utf8(output.stdout).expect("text");
        assert_eq!(said.trim(), "-F /tmp/lab/ssh_config|control-plane worker|127.0.0.1:40123|");
    }
}
