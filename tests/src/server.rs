//! A listening sshd of which the broker knows no more than ssh does: the host `server`, reached directly.

use std::fs;
use std::process::Command;

use crate::{Plan, Sshd, World};

/// What sshd writes, at the level VERBOSE, for each authentication that succeeded.
pub const ACCEPTED: &str = "Accepted publickey";

/// The user's side, and the server.
#[derive(Debug)]
pub struct Server {
    /// The broker and the user's shell.
    pub world: World,
    /// The server itself.
    pub sshd: Sshd,
}

impl Server {
    /// Starts both. These lines are for sshd's configuration.
    ///
    /// # Panics
    /// When something does not come up.
    #[track_caller]
    pub fn start(lines: &str) -> Self {
        Self::start_by(|_| lines.to_owned())
    }

    /// The same, where the lines name files of the world's.
    ///
    /// # Panics
    /// When something does not come up.
    #[track_caller]
    pub fn start_by(lines: impl FnOnce(&World) -> String) -> Self {
        let world = Plan::new().without_broker().start();
        let sshd = world.listening_sshd(&world.user_ca(), &lines(&world));
        world.write_config("[[route]]\nhosts = [\"127.0.0.1\"]\nupstream = \"direct\"\n");
        let config = format!(
            "Host server\n  HostName 127.0.0.1\n  Port {}\n  User {}\n  IdentityFile {key}\n  CertificateFile {key}-cert.pub\n  \
             IdentitiesOnly yes\n  IdentityAgent none\n  BatchMode yes\n  UserKnownHostsFile {}\n  GlobalKnownHostsFile none\n  \
             StrictHostKeyChecking accept-new\n  UpdateHostKeys no\n",
            sshd.address().port(),
            world.login(),
            world.path().join("known").display(),
            key = world.credentials.openssh_key().display(),
        );
        fs::write(world.path().join("config"), config).expect("our own folder");
        world.start_broker();
        Self { world, sshd }
    }

    /// The file that tells of `server`.
    #[must_use]
    pub fn config(&self) -> String {
        self.world.path().join("config").display().to_string()
    }

    /// `natssh`, as ssh, with these words behind the file.
    #[must_use]
    pub fn natssh(&self, words: &[&str]) -> Command {
        self.world.natssh(&[&["ssh", "-F", &self.config()], words].concat())
    }

    /// How often somebody was let in.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.sshd.log_lines(ACCEPTED)
    }
}
