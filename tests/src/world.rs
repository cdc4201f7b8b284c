//! A lab, a broker, and what a user has in their shell.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use natssh_lab::agent::Target;
use natssh_lab::ca::{HostRequest, openssh};
use natssh_lab::credentials::{Account, Credentials};
use natssh_lab::faults::CertFault;
use natssh_lab::node::AgentFile;
use natssh_lab::processes::{Process, trees};
use natssh_lab::proxy::TlsRouting;
use natssh_lab::relay::Relay;
use natssh_lab::state::write_private;
use natssh_lab::{Fault, Lab};
use natssh_wire::status::{FailureRecord, Failures, Status, Upstream};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tempfile::TempDir;
use tokio::runtime::{Handle, Runtime};

use crate::node::{Joined, Listening};
use crate::run::{Said, run};
use crate::wait::{until, within};
use crate::{door, programs};

/// How long a killed broker may take to be gone.
const END: Duration = Duration::from_secs(5);

/// What a [`crate::Plan`] has made.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) dir: TempDir,
    pub(crate) path: PathBuf,
    pub(crate) lab: Lab,
    pub(crate) runtime: Runtime,
    pub(crate) relay: Option<Relay>,
    pub(crate) credentials: Credentials,
    pub(crate) login: String,
    pub(crate) tls_routing: TlsRouting,
}

/// The ground of one story. Dropping it ends all that it started.
#[derive(Debug)]
pub struct World {
    broker: Mutex<Option<Child>>,
    joined: Joined,
    path: PathBuf,
    login: String,
    /// What the user logs in with, in every form.
    pub credentials: Credentials,
    relay: Option<Relay>,
    tls_routing: TlsRouting,
    /// The nodes, the proxy, the authority.
    pub lab: Lab,
    runtime: Option<Runtime>,
    _dir: TempDir,
}

impl World {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { dir, path, lab, runtime, relay, credentials, login, tls_routing } = parts;
        for folder in ["home", "state", "run"] {
            natssh_lab::state::create_private(&path.join(folder)).expect("a folder of our own");
        }
        let (broker, joined) = (Mutex::default(), Joined::default());
        let runtime = Some(runtime);
        Self { broker, joined, path, login, credentials, relay, tls_routing, lab, runtime, _dir: dir }
    }

    /// A folder that goes away with the world.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The broker's socket.
    pub fn socket(&self) -> PathBuf {
        self.path.join("run/broker.sock")
    }

    /// The login at the nodes.
    pub fn login(&self) -> &str {
        &self.login
    }

    /// Threads for what a story does at the same time.
    pub fn runtime(&self) -> &Handle {
        self.runtime.as_ref().expect("it is there until the end").handle()
    }

    /// The relay that [`crate::Plan::relay`] asked for.
    ///
    /// # Panics
    /// When it did not.
    pub fn relay(&self) -> &Relay {
        self.relay.as_ref().expect("a plan with a relay")
    }

    /// Gives the user a certificate for this login at the nodes and for no other. A broker that runs reads it in its own time.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn certify(&self, login: &str) {
        let proxy = self.lab.status().expect("the lab answers").proxy;
        let account = Account { login: login.to_owned(), proxy, tls_routing: self.tls_routing };
        let issued = self.credentials.apply(CertFault::Replace, self.lab.authority(), &account);
        issued.unwrap_or_else(|error| panic!("{error:#}"));
    }

    // What the user types.

    /// A program in the user's shell: natssh first in PATH, the broker's
    /// addresses set, and nothing of the real user's.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        let system = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        command
            .env_clear()
            .env("PATH", format!("{}:{system}", programs::folder().display()))
            .env("LANG", "C.UTF-8")
            .env("USER", &self.login)
            .env("HOME", self.path.join("home"))
            .env("XDG_STATE_HOME", self.path.join("state"))
            .env("NATSSH_SOCKET", self.socket())
            .env("NATSSH_CONFIG", self.config_path())
            .env("NATSSH_BROKER", programs::path("natssh-broker"))
            .env("TELEPORT_HOME", self.credentials.tsh())
            .current_dir(self.path.join("home"));
        command
    }

    /// `natssh WORDS`.
    pub fn natssh(&self, words: &[&str]) -> Command {
        let mut command = self.command(programs::path("natssh"));
        command.args(words);
        command
    }

    /// Stock `ssh` through natssh, with these words after the options.
    pub fn ssh(&self, words: &[&str]) -> Command {
        self.openssh("ssh", words)
    }

    /// `ssh`, `scp` or `sftp`, which take the same options.
    pub fn openssh(&self, program: &str, words: &[&str]) -> Command {
        let mut command = self.command(program);
        command.arg("-F").arg(self.ssh_config_path()).args(words);
        command
    }

    /// The configuration that makes stock ssh go through natssh.
    pub fn ssh_config_path(&self) -> PathBuf {
        self.path.join("ssh_config")
    }

    /// Writes it, with `first` before everything else: ssh takes the first value it finds.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write_ssh_config(&self, first: &str) {
        let natssh = programs::path("natssh");
        let config = format!(
            "{first}
Host *
  ProxyCommand {} proxy %h %p --login %r
  ProxyUseFdpass yes
  User {}
  IdentityFile {key}
  CertificateFile {key}-cert.pub
  IdentitiesOnly yes
  IdentityAgent none
  BatchMode yes
  UserKnownHostsFile {}
  GlobalKnownHostsFile none
  StrictHostKeyChecking yes
  UpdateHostKeys no
  KexAlgorithms curve25519-sha256
  CASignatureAlgorithms +ssh-rsa
",
            natssh.display(),
            self.login,
            self.credentials.known_hosts().display(),
            key = self.credentials.openssh_key().display(),
        );
        fs::write(self.ssh_config_path(), config).expect("our own folder");
    }

    // The broker.

    /// natssh.toml.
    pub fn config_path(&self) -> PathBuf {
        self.path.join("natssh.toml")
    }

    /// Writes natssh.toml.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write_config(&self, text: &str) {
        fs::write(self.config_path(), text).expect("our own folder");
    }

    /// Has the broker read natssh.toml again, with `old` replaced by `new`.
    ///
    /// # Panics
    /// When `old` is not there, or the broker refuses.
    #[track_caller]
    pub fn reconfigure(&self, old: &str, new: &str) {
        let text = fs::read_to_string(self.config_path()).expect("our own file");
        assert!(text.contains(old), "{text}");
        self.write_config(&text.replace(old, new));
        run(self.natssh(&["broker", "reload"])).ok();
    }

    /// Starts `natssh-broker run`; returns when it answers.
    ///
    /// # Panics
    /// When it does not; with its log.
    #[track_caller]
    pub fn start_broker(&self) {
        let mut command = self.command(programs::path("natssh-broker"));
        command.arg("run");
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log_path());
        self.start_broker_by(command, log.expect("our own folder"));
    }

    /// Starts a broker by a command that becomes one and logs to `log`; returns when it answers.
    ///
    /// # Panics
    /// When it does not; with its log.
    #[track_caller]
    pub fn start_broker_by(&self, mut command: Command, log: fs::File) {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the broker starts");
        until("the broker answers", || {
            let ended = child.try_wait().expect("a child can be waited for");
            assert!(ended.is_none(), "the broker ended: {}", self.log());
            door::ask(&self.socket(), "GET", "/v1/status")
        });
        *self.broker.lock().unwrap_or_else(PoisonError::into_inner) = Some(child);
    }

    /// The broker's process.
    pub fn broker_pid(&self) -> Option<Pid> {
        let answer = door::ask(&self.socket(), "GET", "/v1/status")?;
        let status: Status = serde_json::from_str(&answer.body).ok()?;
        Pid::from_raw(i32::try_from(status.pid).ok()?)
    }

    /// The programs that the broker has started and that are still there, with all of theirs.
    ///
    /// # Panics
    /// When no broker answers.
    pub fn started_by_broker(&self) -> Vec<Process> {
        let pid = self.broker_pid().expect("the broker answers").as_raw_nonzero().get().unsigned_abs();
        let broker = Process::find(pid).expect("it has just answered");
        trees(&[broker]).into_iter().filter(|process| *process != broker).collect()
    }

    /// Where the broker logs, whether it was started here or by the shim.
    pub fn log_path(&self) -> PathBuf {
        self.socket().with_extension("log")
    }

    /// The broker's log, up to what the broker has just done: a thread of its own writes it.
    pub fn log(&self) -> String {
        std::thread::sleep(Duration::from_millis(50));
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// How many lines of the log hold `words`.
    pub fn log_lines(&self, words: &str) -> usize {
        self.log().lines().filter(|line| line.contains(words)).count()
    }

    /// The broker at this moment.
    ///
    /// # Panics
    /// When it does not answer.
    #[track_caller]
    pub fn status(&self) -> Status {
        let answer = door::ask(&self.socket(), "GET", "/v1/status").expect("the broker answers");
        serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{error}: {}", answer.body))
    }

    /// The upstream that all nodes are behind.
    ///
    /// # Panics
    /// When the broker does not answer or has no such upstream.
    #[track_caller]
    pub fn upstream(&self) -> Upstream {
        let status = self.status();
        status.upstreams.into_iter().find(|upstream| upstream.name == "lab").expect("the plan's upstream")
    }

    /// Waits until the broker is as `wanted` says.
    ///
    /// # Panics
    /// When it does not become so, with its last status.
    #[track_caller]
    pub fn until_status(&self, what: &str, wanted: impl Fn(&Status) -> bool) -> Status {
        let found = within(crate::wait::PATIENCE, || Some(self.status()).filter(&wanted));
        found.unwrap_or_else(|| panic!("waited for this: {what}; {:#?}", self.status()))
    }

    /// Waits until the upstream is as `wanted` says.
    ///
    /// # Panics
    /// As [`World::until_status`].
    #[track_caller]
    pub fn until_upstream(&self, what: &str, wanted: impl Fn(&Upstream) -> bool) -> Upstream {
        let found = within(crate::wait::PATIENCE, || Some(self.upstream()).filter(&wanted));
        found.unwrap_or_else(|| panic!("waited for this: {what}; {:#?}", self.upstream()))
    }

    /// The failures of a node, newest first.
    ///
    /// # Panics
    /// When the broker does not answer.
    #[track_caller]
    pub fn failures(&self, node: &str) -> Vec<FailureRecord> {
        let path = format!("/v1/failures?node={node}");
        let answer = door::ask(&self.socket(), "GET", &path).expect("the broker answers");
        let failures: Failures = serde_json::from_str(&answer.body).expect("failures as JSON");
        failures.failures
    }

    /// What `natssh why NODE` prints.
    #[track_caller]
    pub fn why(&self, node: &str) -> Said {
        run(self.natssh(&["why", node]))
    }

    // The other side.

    /// Breaks or mends something of the lab.
    ///
    /// # Panics
    /// When it cannot be done.
    #[track_caller]
    pub fn fault(&self, fault: Fault) {
        self.lab.fault(fault).unwrap_or_else(|error| panic!("{error:#}"));
    }

    /// Registers a further node, whose streams go to `server`; done when it has joined.
    ///
    /// # Panics
    /// When it does not join.
    pub fn join(&self, name: &str, server: &Listening) {
        let orders = self.lab.folder().node("control-plane").join("agent.json");
        self.joined.join(self.runtime(), &orders, name, server.address());
        // Its first stream may come before its registration; the lab knows only its own nodes.
        until("the node has joined", || {
            let said = run(self.natssh(&["proxy", name, "22", "--fdpass", "no"]));
            (said.code == Some(0) || !said.stdout.is_empty()).then_some(())
        });
    }

    /// The lab's node of this name as one that listens on a port of this machine.
    ///
    /// # Panics
    /// When the lab has no such node.
    pub fn listening(&self, node: &str) -> Listening {
        let orders = self.lab.folder().node(node).join("agent.json");
        let told = AgentFile::read(&orders).expect("a node of the lab");
        let Target::Spawn(words) = told.target else { panic!("a rootless node") };
        Listening::sshd(self.runtime(), Path::new(words.last().expect("the configuration comes last")))
    }

    /// A real sshd in the place of the proxy, for a broker that is still to be
    /// started: it serves these subsystems, each a name with its command, and
    /// nothing else that a proxy does.
    ///
    /// # Panics
    /// When the lab has no authority for it.
    pub fn sshd_as_proxy(&self, subsystems: &[(&str, &str)]) -> Listening {
        let keys = self.path.join("proxy");
        let request = HostRequest::proxy("sshd-as-proxy", "proxy", &[]);
        let host = self.lab.authority().issue_host(&request).expect("a certificate for it");
        openssh::write(&keys, &host).expect("our own folder");
        let user_ca = self.lab.folder().node("worker").join("ssh/user_ca.pub");
        let mut config = format!(
            "HostKey {keys}\nHostCertificate {keys}-cert.pub\nTrustedUserCAKeys {}\nAuthorizedKeysFile none\n\
             PermitRootLogin prohibit-password\nUsePAM no\nStrictModes no\nPidFile none\nMaxSessions 100\n",
            user_ca.display(),
            keys = keys.display(),
        );
        for (name, command) in subsystems {
            config += &format!("Subsystem {name} {command}\n");
        }
        let path = self.path.join("proxy_config");
        write_private(&path, &config).expect("our own folder");
        let proxy = Listening::sshd(self.runtime(), &path);
        let natssh = fs::read_to_string(self.config_path()).expect("our own file");
        let stand_in = self.lab.status().expect("the lab answers").proxy.to_string();
        self.write_config(&natssh.replace(&stand_in, &proxy.address().to_string()));
        proxy
    }

    fn end_broker(&mut self) {
        let other = self.broker_pid();
        if let Some(mut child) = self.broker.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        // One that the shim has started is nobody's child here.
        if let Some(pid) = other.filter(|pid| kill_process(*pid, Signal::KILL).is_ok()) {
            let _ = within(END, || test_kill_process(pid).is_err().then_some(()));
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the broker's log ---\n{}", self.log());
        }
        self.end_broker();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
