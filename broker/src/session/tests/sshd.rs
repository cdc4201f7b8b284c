//! An sshd of the test's own, and targets on it.

use crate::identity::testing::{ed25519, pem, public_line, write};
use crate::session::{Alive, NotOpened, Session, Stores};
use crate::target::{Algorithms, Proof, Strict, Target, Trust, Way};
use ssh_key::PrivateKey;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;

/// How long anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A listening sshd. It ends with this.
pub(crate) struct Sshd {
    program: &'static str,
    _process: Process,
    address: SocketAddr,
    folder: tempfile::TempDir,
    stores: Arc<Stores>,
}

impl Sshd {
    /// By these lines, in which `AUTHORITY` is a file of the test's folder. Nothing where OpenSSH's server is not
    /// installed, or cannot run for want of its own folder.
    pub(crate) async fn start(lines: &str) -> Option<Self> {
        let program = ["/usr/sbin/sshd", "/usr/local/sbin/sshd", "/usr/bin/sshd"]
            .into_iter()
            .find(|path| Path::new(path).exists())?;
        if rustix::process::getuid().is_root() && !Path::new("/run/sshd").exists() {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        write(&path("host"), pem(&host_key()));
        write(&path("authorized"), public_line(&user_key()));
        write(&path("id"), pem(&user_key()));
        write(&path("id.pub"), public_line(&user_key()));
        fs::create_dir(path("stores")).unwrap();
        let lines = lines.replace("AUTHORITY", path("authority.pub").to_str().unwrap());
        let config = format!(
            "{lines}\nHostKey {}\nAuthorizedKeysFile {}\nUsePAM no\nPidFile none\nStrictModes no\nPasswordAuthentication no\n\
             KbdInteractiveAuthentication no\nLogLevel VERBOSE\nAcceptEnv LC_*\nMaxStartups 100\nPrintMotd no\n\
             SetEnv HOME={}\n",
            path("host").display(),
            path("authorized").display(),
            // What the user's own shell reads at its start takes its time.
            folder.path().display(),
        );
        write(&path("sshd_config"), config);
        let stores = Stores::new(path("stores"));
        // Somebody else may take the port before sshd does.
        for _ in 0..5 {
            let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
            let mut child = Command::new(program)
                .args(["-D", "-E"])
                .arg(path("log"))
                .args(["-o", &format!("ListenAddress={address}"), "-f"])
                .arg(path("sshd_config"))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            if listens(&mut child, address).await {
                return Some(Self { program, _process: Process(child), address, folder, stores });
            }
        }
        panic!("sshd does not listen: {:?}", fs::read_to_string(path("log")));
    }

    /// A file in the test's folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// With so little room for unread output.
    pub(super) fn with_small_stores(mut self, memory: usize, file: u64, overdraft: u64) -> Self {
        self.stores = Stores::small(self.path("stores"), memory, file, overdraft);
        self
    }

    /// A target that it lets in.
    pub(crate) fn target(&self) -> Target {
        let user = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
        write(
            &self.path("known_hosts"),
            format!("[127.0.0.1]:{} {}\n", self.address.port(), public_line(&host_key())),
        );
        Target {
            host: "127.0.0.1".into(),
            typed: "node".into(),
            port: self.address.port(),
            user: user.trim().to_owned(),
            bind_address: None,
            way: Way::Route,
            proof: Proof {
                keys: vec![self.path("id")],
                other_ways: vec!["keyboard-interactive", "password"],
                ..Proof::default()
            },
            trust: Trust {
                alias: None,
                user_files: vec![self.path("known_hosts")],
                global_files: Vec::new(),
                command: None,
                strict: Strict::Yes,
                hash: false,
            },
            algorithms: Algorithms::default(),
        }
    }

    /// A session on it.
    pub(crate) async fn open(&self, target: &Target) -> Result<Arc<Session>, NotOpened> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        self.open_over(stream, target, Alive::default()).await
    }

    /// One more of it, that serves the other end of a socket pair: that takes far less than a TCP connection, and is
    /// writable again only when three quarters of that have been taken (unix(7) says nothing; Linux's `unix_writable`).
    pub(super) fn on_a_socket_pair(&self) -> (UnixStream, Process) {
        let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        let far = std::os::fd::OwnedFd::from(far);
        let child = Command::new(self.program)
            .args(["-i", "-E"])
            .arg(self.path("log"))
            .arg("-f")
            .arg(self.path("sshd_config"))
            .stdin(far.try_clone().unwrap())
            .stdout(far)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        (UnixStream::from_std(near).unwrap(), Process(child))
    }

    /// The same over a stream of the test's.
    pub(super) async fn open_over<S>(
        &self,
        stream: S,
        target: &Target,
        alive: Alive,
    ) -> Result<Arc<Session>, NotOpened>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let deadline = Instant::now() + PATIENCE;
        Session::open(stream, target, &self.stores, alive, deadline).await.map(Arc::new)
    }

    /// A session of somebody whom it lets in.
    pub(crate) async fn session(&self) -> Arc<Session> {
        self.open(&self.target()).await.unwrap()
    }
}

async fn listens(child: &mut Child, address: SocketAddr) -> bool {
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() && begun.elapsed() < PATIENCE {
        if TcpStream::connect(address).await.is_ok() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let _ = child.kill();
    let _ = child.wait();
    false
}

/// It ends with this.
pub(super) struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The server's key.
pub(crate) fn host_key() -> PrivateKey {
    ed25519(101)
}

/// The key that it lets in.
pub(crate) fn user_key() -> PrivateKey {
    ed25519(102)
}
