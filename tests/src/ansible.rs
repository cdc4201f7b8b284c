//! A real Ansible that knows the nodes by nothing but the fragment that `natssh ssh-config` prints.

use crate::run::{Said, run};
use crate::tools;
use crate::world::World;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Ansible itself takes its time with fifty nodes on a small machine.
pub const PATIENCE: Duration = Duration::from_secs(240);

/// A program of Ansible with the fragment for all nodes.
///
/// # Panics
/// When the fragment cannot be had.
#[track_caller]
pub fn command(world: &World, program: &Path, words: &[&str]) -> Command {
    let nodes = world.lab.status().expect("the lab answers").nodes;
    let names: Vec<_> = nodes.iter().map(|node| node.name.as_str()).collect();
    let fragment = world.path().join("natssh.conf");
    let printed = run(world.natssh(&[&["ssh-config"], names.as_slice()].concat())).ok();
    fs::write(&fragment, printed).expect("ours");
    let mut command = world.command(program);
    let lab: Vec<_> = world.lab.env().filter(|(name, _)| name.starts_with("LAB_")).collect();
    let python = lab.iter().find(|(name, _)| *name == "LAB_PYTHON").map_or("", |(_, python)| python);
    command
        .envs(lab.iter().copied())
        .env("ANSIBLE_HOME", world.path().join("ansible"))
        .env("ANSIBLE_CONFIG", demo("ansible.cfg"))
        .env("ANSIBLE_SSH_CONTROL_PATH_DIR", world.path().join("cp"))
        // Half of the processes on both sides, so that this is no test of patience.
        .env("ANSIBLE_PIPELINING", "1")
        .env("ANSIBLE_SSH_COMMON_ARGS", format!("-F {}", fragment.display()))
        .args(words)
        .args(["-e", &format!("ansible_python_interpreter={python}"), "-u", world.login()]);
    command
}

/// How many hosts a playbook has passed on.
///
/// # Panics
/// When it did not end well.
#[track_caller]
pub fn passed(said: &Said) -> usize {
    let recap = said.ok();
    let good = |line: &&str| line.contains("unreachable=0") && line.contains("failed=0");
    recap.lines().filter(good).count()
}

/// A file of the demo.
#[must_use]
pub fn demo(name: &str) -> String {
    tools::workspace().join("examples/demo").join(name).display().to_string()
}
