//! The Ansible collection of this checkout, where an Ansible finds it.

use crate::world::World;
use crate::{ansible, tools};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The name of its connection plugin.
pub const PLUGIN: &str = "natssh.broker.ssh";

/// Its folder in the project.
#[must_use]
pub fn folder() -> PathBuf {
    tools::workspace().join("ansible")
}

/// A program of Ansible that reaches the nodes by the plugin, and otherwise as [`ansible::command`] says.
///
/// # Panics
/// When the collection cannot be laid out.
#[track_caller]
pub fn command(world: &World, program: &Path, words: &[&str]) -> Command {
    let mut command = ansible::command(world, program, &[words, &["-c", PLUGIN]].concat());
    command
        .env("ANSIBLE_COLLECTIONS_PATH", laid_out(world))
        // The plugin's own default is what the stories are about.
        .env_remove("ANSIBLE_PIPELINING")
        .env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// A playbook of the world's own.
///
/// # Panics
/// When it cannot be written.
#[must_use]
pub fn playbook(world: &World, text: &str) -> String {
    let path = world.path().join("play.yml");
    fs::write(&path, text).expect("our own folder");
    path.display().to_string()
}

/// Ansible finds collections by the names of folders.
fn laid_out(world: &World) -> PathBuf {
    let place = world.path().join("collections");
    let namespace = place.join("ansible_collections/natssh");
    fs::create_dir_all(&namespace).expect("our own folder");
    // A world's second command finds it there.
    let _ = symlink(folder(), namespace.join("broker"));
    place
}
