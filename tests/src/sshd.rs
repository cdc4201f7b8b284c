//! A real sshd that listens on a port of this machine, with its MaxStartups and all.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::wait::within;

/// How often another free port is tried: somebody else may take it before sshd does.
const PORTS: u32 = 5;
/// How long sshd may take to listen.
const START: Duration = Duration::from_secs(10);

/// A listening sshd and its log. It ends with this.
#[derive(Debug)]
pub struct Sshd {
    child: Child,
    address: SocketAddr,
    log: PathBuf,
}

impl Sshd {
    /// Starts one by these lines, its files in `folder`.
    ///
    /// # Panics
    /// When it does not listen; with its log.
    #[track_caller]
    pub fn start(folder: &Path, lines: &str) -> Self {
        let config = folder.join("sshd_config");
        natssh_lab::state::write_private(&config, lines).expect("our own folder");
        let program = natssh_lab::tools::find("sshd").expect("sshd is installed");
        let log = folder.join("sshd.log");
        for _ in 0..PORTS {
            let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|free| free.local_addr());
            let address = free.expect("a free port");
            let child = Command::new(&program)
                .args(["-D", "-E"])
                .arg(&log)
                .args(["-o", &format!("ListenAddress={address}"), "-f"])
                .arg(&config)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn();
            let mut sshd = Self { child: child.expect("sshd starts"), address, log: log.clone() };
            let listens = within(START, || {
                let ended = sshd.child.try_wait().expect("a child can be waited for").is_some();
                let listens = TcpStream::connect(address).is_ok();
                (ended || listens).then_some(listens && !ended)
            });
            if listens == Some(true) {
                return sshd;
            }
        }
        panic!("sshd does not listen: {}", fs::read_to_string(&log).unwrap_or_default());
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many lines of its log hold `words`.
    pub fn log_lines(&self, words: &str) -> usize {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        log.lines().filter(|line| line.contains(words)).count()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
