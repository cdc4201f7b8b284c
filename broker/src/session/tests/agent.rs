//! An ssh-agent of the test's own.

use super::sshd::PATIENCE;
use crate::identity::testing::{pem, write};
use ssh_key::PrivateKey;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// An agent. It ends with this.
pub(super) struct Agent {
    child: Child,
    /// Where it listens.
    pub(super) socket: PathBuf,
}

impl Agent {
    /// One that holds nothing, in a folder of the test's.
    pub(super) fn start(folder: &Path) -> Self {
        let socket = folder.join("agent");
        let child =
            Command::new("ssh-agent").args(["-D", "-a"]).arg(&socket).stdout(Stdio::null()).spawn().unwrap();
        let begun = Instant::now();
        while !socket.exists() {
            assert!(begun.elapsed() < PATIENCE, "the agent does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        Self { child, socket }
    }

    /// Gives it a key, and the certificate beside the file where there is one.
    pub(super) fn add(&self, key: &PrivateKey, file: &Path) {
        write(file, pem(key));
        let added = Command::new("ssh-add").arg("-q").arg(file).env("SSH_AUTH_SOCK", &self.socket).status();
        assert!(added.unwrap().success());
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
