//! `natssh-lab exec`: a command on a node without ssh, to look at it from inside.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::control::{NodeStatus, Status};
use crate::state::{Folder, MARK, Mode};

/// What nodes search for programs.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Becomes the command. Returns only if that fails.
///
/// # Errors
/// When the node or the command is not there.
pub fn exec(folder: &Folder, status: &Status, name: &str, words: &[String]) -> Result<()> {
    let Some(node) = status.nodes.iter().find(|node| node.name == name) else {
        let names: Vec<_> = status.nodes.iter().map(|node| node.name.as_str()).collect();
        bail!("the lab has no node {name}; it has {}", names.join(", "));
    };
    let (program, arguments) = match words.split_first() {
        Some((program, arguments)) => (program.as_str(), arguments),
        None => ("/bin/sh", words),
    };
    let mut command = match status.mode {
        Mode::Rooted => into_namespaces(node, program)?,
        Mode::Rootless => into_home(folder, name, program),
    };
    let terminal = std::env::var_os("TERM").unwrap_or_else(|| "dumb".into());
    let error = command.args(arguments).env("PATH", PATH).env("TERM", terminal).exec();
    Err(error).with_context(|| format!("start {program} on {name}"))
}

fn into_namespaces(node: &NodeStatus, program: &str) -> Result<Command> {
    let pid = node.pid.with_context(|| format!("{} has ended; the lab's log says why", node.name))?;
    let mut command = Command::new("nsenter");
    command.env_clear().env("HOME", "/root").env("USER", "root");
    command.arg(format!("--target={pid}"));
    command.args(["--mount", "--uts", "--ipc", "--net", "--pid", "--root", "--wd", "--"]);
    // `--wd=/root` would be opened before the node is entered: the machine's own.
    command.args(["/bin/sh", "-c", "cd && exec \"$@\"", "sh", program]);
    Ok(command)
}

fn into_home(folder: &Folder, name: &str, program: &str) -> Command {
    let own = folder.node(name);
    let mut command = Command::new(program);
    command.env_clear().env(MARK, folder.path());
    command.env("HOME", own.join("home")).env("TMPDIR", own.join("tmp"));
    command.current_dir(own.join("home"));
    command
}
