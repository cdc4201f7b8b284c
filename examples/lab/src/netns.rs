//! Namespaces, links and NAT rules made and unmade with `ip` and `nft`.

use std::fs::File;
use std::io::Write;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};

use crate::topology::{SILENT_NAT, SPEAKING_NAT, Topology, free_slot};

/// Held while a lab chooses its nets and until they are routed, so that two
/// labs coming up together do not choose the same. The lock is on the network
/// namespace itself: it leaves no file behind.
pub struct Choosing(#[expect(dead_code, reason = "held for its lock")] File);

impl Choosing {
    /// Waits for its turn.
    pub fn start() -> Result<Self> {
        let namespace = File::open("/proc/self/ns/net").context("open /proc/self/ns/net")?;
        flock(&namespace, FlockOperation::LockExclusive).context("lock the network namespace")?;
        Ok(Self(namespace))
    }

    /// A slot for [`Topology`] that no route of this machine touches.
    pub fn slot(&self) -> Result<u16> {
        let routes = run(Command::new("ip").args(["-4", "route", "show", "table", "all"]), "")?;
        free_slot(&String::from_utf8_lossy(&routes.stdout))
            .context("no free nets are left in 198.18.0.0/15; take an old lab down: natssh-lab down")
    }
}

/// Whether this process may make namespaces: root may, but not in every container.
pub fn available() -> bool {
    let mut unshare = Command::new("unshare");
    unshare.args(["--net", "--mount", "--pid", "--fork", "true"]);
    rustix::process::geteuid().is_root() && run(&mut unshare, "").is_ok()
}

/// Builds the whole network of a lab.
pub fn create(topology: &Topology) -> Result<()> {
    for batch in topology.batches() {
        let mut ip = Command::new("ip");
        if let Some(namespace) = &batch.namespace {
            ip.args(["-n", namespace]);
        }
        ip.args(["-batch", "-"]);
        run(&mut ip, &batch.lines.join("\n"))
            .context("build the lab's network (a container without the right to do so needs --rootless)")?;
    }
    let nat = topology.nat_namespace();
    let forward = "echo 1 > /proc/sys/net/ipv4/ip_forward";
    run(inside(&nat).args(["sh", "-c", forward]), "")?;
    rules(topology, &topology.nat_rules())
}

/// Makes the NAT drop every packet without a word.
pub fn silence_nat(topology: &Topology) -> Result<()> {
    rules(topology, SPEAKING_NAT)?;
    rules(topology, SILENT_NAT)
}

/// Ends what [`silence_nat`] did.
pub fn restore_nat(topology: &Topology) -> Result<()> {
    rules(topology, SPEAKING_NAT)
}

/// Removes every namespace of this lab that still exists, and with them their
/// links and routes. Returns the names.
pub fn remove(topology: &Topology) -> Result<Vec<String>> {
    let listed = run(Command::new("ip").args(["netns", "list"]), "")?;
    let listed = String::from_utf8_lossy(&listed.stdout);
    let prefix = topology.prefix();
    let ours = listed
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| name.starts_with(&prefix));
    let mut removed = Vec::new();
    for name in ours {
        run(Command::new("ip").args(["netns", "delete", name]), "")?;
        removed.push(name.to_owned());
    }
    // A namespace dies when its last process has; its link is told to go now.
    let link = topology.outer_link();
    if std::path::Path::new("/sys/class/net").join(&link).exists() {
        let _ = run(Command::new("ip").args(["link", "delete", &link]), "");
    }
    Ok(removed)
}

/// A command that runs in a named network namespace; add the program.
pub fn inside(namespace: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{namespace}")).arg("--");
    command
}

fn rules(topology: &Topology, rules: &str) -> Result<()> {
    let nat = topology.nat_namespace();
    run(inside(&nat).args(["nft", "-f", "-"]), rules).map(|_| ())
}

/// Runs a command with this text on its stdin; its stderr becomes the error.
fn run(command: &mut Command, input: &str) -> Result<Output> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {name}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A command that fails early does not read its input; it tells why below.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().with_context(|| format!("wait for {name}"))?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr);
        bail!("{name} failed: {}", reason.trim().replace('\n', "; "));
    }
    Ok(output)
}
