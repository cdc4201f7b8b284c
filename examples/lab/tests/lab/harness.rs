//! A lab in a folder of its own, and stock ssh pointed at it.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use natssh_lab::proxy::TlsRouting;
use natssh_lab::state::Mode;
use natssh_lab::{Lab, Options};
use tempfile::TempDir;

/// The program, for the nodes' processes and as a command.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_natssh-lab");

/// A lab and the folder it must leave as it was: not there.
pub(crate) struct Ground {
    pub(crate) lab: Lab,
    pub(crate) folder: TempDir,
}

impl Ground {
    /// Two nodes, made this way.
    pub(crate) fn up(mode: Mode) -> Self {
        let folder = TempDir::new().expect("a folder");
        let options = match mode {
            Mode::Rootless => Options::rootless(&folder.path().join("lab")),
            Mode::Rooted => Options::rooted(&folder.path().join("lab")),
        };
        Self::of(options.expect("a short path"), folder)
    }

    /// Two rootless nodes behind a proxy whose SSH is inside TLS.
    pub(crate) fn with_tls_routing() -> Self {
        let folder = TempDir::new().expect("a folder");
        let options = Options::rootless(&folder.path().join("lab")).expect("a short path");
        Self::of(Options { tls_routing: TlsRouting::On, ..options }, folder)
    }

    fn of(options: Options, folder: TempDir) -> Self {
        Self { lab: Lab::up(options).expect("the lab comes up"), folder }
    }

    /// A program with the lab's options for stock ssh.
    pub(crate) fn stock(&self, program: &str, arguments: &[&str]) -> Output {
        let config = self.lab.folder().ssh_config();
        let mut command = Command::new(program);
        command.arg("-F").arg(config).args(arguments);
        output(command)
    }

    /// What a command on a node prints; it must succeed.
    pub(crate) fn says(&self, node: &str, command: &str) -> String {
        let output = self.stock("ssh", &[node, command]);
        assert!(output.status.success(), "{command} on {node}: {}", stderr(&output));
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    }

    /// Whether ssh gets through to a node, and what it says if not.
    pub(crate) fn refused(&self, node: &str) -> Option<String> {
        let output = self.stock("ssh", &["-o", "ConnectTimeout=3", node, "true"]);
        (!output.status.success()).then(|| stderr(&output))
    }
}

/// The ways to make nodes that this process may use.
pub(crate) fn modes() -> Vec<Mode> {
    let mut modes = vec![Mode::Rootless];
    if has_namespaces() {
        modes.push(Mode::Rooted);
    } else {
        eprintln!("SKIPPED: nodes in namespaces, which take root and a kernel that lets it");
    }
    modes
}

/// Whether namespaces can be made.
pub(crate) fn has_namespaces() -> bool {
    natssh_lab::netns::available()
}

/// `natssh-lab --state FOLDER …`.
pub(crate) fn natssh_lab(state: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(PROGRAM);
    command.arg("--state").arg(state).args(arguments);
    output(command)
}

/// Runs it to its end, with nothing on stdin.
pub(crate) fn output(mut command: Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// Its stderr as text.
pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim().to_owned()
}

/// Waits for something that must come true within ten seconds.
pub(crate) fn eventually(what: &str, mut true_now: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !true_now() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Everything that names this lab's folder or carries its mark: mounts,
/// processes, namespaces.
pub(crate) fn traces(state: &Path, namespaces: &str) -> Vec<String> {
    let folder = state.display().to_string();
    let mut found = Vec::new();
    for pid in std::fs::read_dir("/proc").expect("/proc").flatten().map(|entry| entry.path()) {
        let read = |name| std::fs::read(pid.join(name)).unwrap_or_default();
        let text = [read("cmdline"), read("environ")].concat();
        let text = String::from_utf8_lossy(&text).replace('\0', " ");
        let me = pid == Path::new(&format!("/proc/{}", std::process::id()));
        if !me && text.contains(&folder) {
            found.push(format!("process {}: {text}", pid.display()));
        }
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("the mount table");
    found.extend(mounts.lines().filter(|line| line.contains(&folder)).map(str::to_owned));
    if has_namespaces() && !namespaces.is_empty() {
        let mut list = Command::new("sh");
        list.args(["-c", "ip netns list; ip -o link"]);
        let listed = output(list);
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        found.extend(listed.lines().filter(|line| line.contains(namespaces)).map(str::to_owned));
    }
    found
}
