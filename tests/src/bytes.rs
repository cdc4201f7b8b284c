//! Many bytes both ways at once, and whether all of them arrived.

use crate::run::{Running, run};
use crate::world::World;
use std::time::Duration;

/// A hundred megabytes that are no repetition, from a program that makes them faster than ssh takes them.
pub const MANY: &str = "seq 20000000 | head -c 100000000";
/// Twenty megabytes of the same.
pub const FEW: &str = "seq 20000000 | head -c 20000000";

/// Sends what `make` prints through `ssh WORDS` while the node prints the same:
/// the checksum of what the node got, and of what came back.
///
/// # Panics
/// When ssh fails or takes more than two minutes.
#[track_caller]
pub fn both_ways(world: &World, words: &str, make: &str) -> (String, String) {
    let there = format!("exec 3<&0; sha256sum <&3 >sum & {make}; wait; cat sum >&2");
    let here = format!("{make} | ssh -F {} {words} '{there}' | sha256sum", world.ssh_config_path().display());
    let mut shell = world.command("sh");
    shell.args(["-c", &here]);
    let said = Running::start(shell).end_within(Duration::from_secs(120));
    (said.stderr.trim().to_owned(), said.ok().trim().to_owned())
}

/// The checksum of what `make` prints.
///
/// # Panics
/// When it cannot be run.
#[track_caller]
pub fn checksum(world: &World, make: &str) -> String {
    let mut shell = world.command("sh");
    shell.args(["-c", &format!("{make} | sha256sum")]);
    run(shell).ok().trim().to_owned()
}
