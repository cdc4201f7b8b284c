//! A real sshd that listens on a port of this machine, with its MaxStartups and all.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use natssh_lab::ca::{HostRequest, openssh};
use natssh_lab::processes::{Process, signal_all, trees};
use rustix::process::Signal;

use crate::wait::within;
use crate::world::World;

/// How often another free port is tried: somebody else may take it before sshd does.
const PORTS: u32 = 5;
/// How long sshd may take to listen.
const START: Duration = Duration::from_secs(10);

/// A listening sshd and its log. It ends with this.
#[derive(Debug)]
pub struct Sshd {
    child: Child,
    address: SocketAddr,
    config: PathBuf,
    log: PathBuf,
}

impl Sshd {
    /// Starts one by these lines, its files in `folder`. Unless they set a home, whoever logs in has an empty one there:
    /// what a shell reads at its start is the user's own, takes its time, and may wait for others.
    ///
    /// # Panics
    /// When it does not listen; with its log.
    #[track_caller]
    pub fn start(folder: &Path, lines: &str) -> Self {
        let config = folder.join("sshd_config");
        let home = folder.join("home-of-logins");
        fs::create_dir_all(&home).expect("our own folder");
        // Of several SetEnv, sshd heeds the first.
        let lines = format!("{lines}\nSetEnv HOME={}\n", home.display());
        natssh_lab::state::write_private(&config, &lines).expect("our own folder");
        let log = folder.join("sshd.log");
        for _ in 0..PORTS {
            let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|free| free.local_addr());
            let address = free.expect("a free port");
            let child = spawn(&config, &log, address);
            let mut sshd = Self { child, address, config: config.clone(), log: log.clone() };
            if sshd.listens() {
                return sshd;
            }
        }
        panic!("sshd does not listen: {}", fs::read_to_string(&log).unwrap_or_default());
    }

    /// Waits until it listens, or has ended.
    fn listens(&mut self) -> bool {
        let listens = within(START, || {
            let ended = self.child.try_wait().expect("a child can be waited for").is_some();
            let listens = TcpStream::connect(self.address).is_ok();
            (ended || listens).then_some(listens && !ended)
        });
        listens == Some(true)
    }

    /// Kills it with all its connections, as a machine that loses its power.
    ///
    /// # Panics
    /// When it cannot be waited for.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.child.wait().expect("a child can be waited for");
    }

    /// Starts it again after [`Sshd::kill`], at the same address.
    ///
    /// # Panics
    /// When it does not listen; with its log.
    #[track_caller]
    pub fn start_again(&mut self) {
        // A connection of anybody's may have the port for a moment.
        let back = within(START, || {
            self.child = spawn(&self.config, &self.log, self.address);
            self.listens().then_some(())
        });
        assert!(back.is_some(), "sshd is not back: {}", fs::read_to_string(&self.log).unwrap_or_default());
    }

    /// Stops it with all its connections: the system still accepts new ones for it.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Ends a freeze.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        signal_all(signal, || Process::find(self.child.id()).map(|own| trees(&[own])).unwrap_or_default());
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its log.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// How many lines of its log hold `words`.
    pub fn log_lines(&self, words: &str) -> usize {
        self.log().lines().filter(|line| line.contains(words)).count()
    }
}

impl World {
    /// A listening sshd with a host certificate of the lab, and these lines besides. Whom it lets in,
    /// the file `users` says: a public key of an authority that signs users.
    ///
    /// # Panics
    /// When it does not listen.
    pub fn listening_sshd(&self, users: &Path, lines: &str) -> Sshd {
        let keys = self.path().join("listening");
        let request = HostRequest::proxy("listening", "proxy", &[]);
        let host = self.lab.authority().issue_host(&request).expect("a certificate for it");
        openssh::write(&keys, &host).expect("our own folder");
        let config = format!(
            "HostKey {keys}\nHostCertificate {keys}-cert.pub\nTrustedUserCAKeys {}\nAuthorizedKeysFile none\n\
             PermitRootLogin prohibit-password\nUsePAM no\nStrictModes no\nPidFile none\nLogLevel VERBOSE\n{lines}\n",
            users.display(),
            keys = keys.display(),
        );
        Sshd::start(self.path(), &config)
    }

    /// The file that lets in the lab's users.
    pub fn user_ca(&self) -> PathBuf {
        self.lab.folder().node("worker").join("ssh/user_ca.pub")
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        let _ = self.child.wait();
    }
}

fn spawn(config: &Path, log: &Path, address: SocketAddr) -> Child {
    let program = natssh_lab::tools::find("sshd").expect("sshd is installed");
    let child = Command::new(program)
        .args(["-D", "-E"])
        .arg(log)
        .args(["-o", &format!("ListenAddress={address}"), "-f"])
        .arg(config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    child.expect("sshd starts")
}
