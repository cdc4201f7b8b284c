//! Gathers what the fragment is made of, writes the derived files, prints.

use super::block::{self, Block};
use super::derived;
use super::plan::Plan;
use super::view::View;
use crate::config::{self, Environment, Kind, Settings, Upstream};
use crate::identity::Identity;
use crate::{place, probe};
use natssh_wire::{Failure, FailureKind, NodeAddr, VERSION, status};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Variables by which another broker or another login would be found: the fragment keeps them.
const KEPT: [&str; 4] = ["NATSSH_BROKER", "NATSSH_CONFIG", "NATSSH_SOCKET", "TELEPORT_HOME"];

/// The fragment, for the hosts named or for whatever the routes take.
///
/// # Errors
/// A wrong configuration, a host that is none, a file that cannot be written.
pub fn fragment(hosts: &[String]) -> Result<String, Failure> {
    for host in hosts {
        check_host(host)?;
    }
    let settings = config::load(&Environment::of_process()).map_err(|complaints| complaints.to_failure())?;
    let paths = place::paths()?;
    let views = views(&settings, &paths.state_dir);
    for view in views.values().filter_map(|view| view.as_ref().ok()) {
        derived::write(&view.files).map_err(|error| Failure::new(FailureKind::Config, error.to_string()))?;
    }
    let answer = probe::ask(&paths.socket);
    let of_answer = |wanted: fn(&status::Upstream) -> bool| -> BTreeSet<String> {
        let upstreams = answer.iter().flat_map(|status| &status.upstreams);
        upstreams.filter(|upstream| wanted(upstream)).map(|upstream| upstream.name.clone()).collect()
    };
    let sha1 = of_answer(|upstream| upstream.sha1);
    let known = of_answer(|upstream| !upstream.trunks.is_empty());
    // Only what ssh should offer a cluster's nodes depends on what the broker finds there.
    let of_cluster = |upstream: &&Upstream| matches!(upstream.kind, Kind::Teleport { .. });
    let unknown = settings.upstreams.values().filter(of_cluster).filter(|u| !known.contains(&u.name));
    let unknown: Vec<&str> = unknown.map(|upstream| upstream.name.as_str()).collect();
    let plan = Plan { settings: &settings, views: &views, sha1: &sha1, proxy_command: &proxy_command() };
    let blocks = if hosts.is_empty() { plan.everything() } else { plan.hosts(hosts) };
    let derived = views.values().flatten().any(|view| !view.files.is_empty());
    let mut text = head(&settings, &unknown, derived);
    for block in blocks {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n{block}");
    }
    Ok(text)
}

fn check_host(host: &str) -> Result<(), Failure> {
    let wrong = |why: String| Failure::new(FailureKind::BadRequest, format!("{host:?} is no host: {why}"));
    if host.contains(['*', '!', ',']) || host.starts_with('-') {
        return Err(wrong("patterns belong into [[route]]".into()).hint("natssh ssh-config"));
    }
    NodeAddr::new(host, "22").map(drop).map_err(|why| wrong(why.to_string()))
}

fn views(settings: &Settings, state_dir: &Path) -> BTreeMap<String, Result<View, String>> {
    let load = |name: &String, source| match Identity::load(name, source, 0) {
        Ok(identity) => Ok(derived::view(state_dir, &identity)),
        Err(error) => Err(error.to_failure().to_string()),
    };
    settings.identities.iter().map(|(name, source)| (name.clone(), load(name, source))).collect()
}

fn head(settings: &Settings, unknown: &[&str], derived: bool) -> String {
    let source = match &settings.path {
        Some(path) => path.display().to_string(),
        None => "the current tsh profile".into(),
    };
    let mut comments = vec![
        format!("How stock ssh reaches nodes through natssh {VERSION}; made from {source}."),
        "Keep it in a file of its own, and include that at the top of ~/.ssh/config:".into(),
        "    natssh ssh-config > ~/.ssh/natssh.conf".into(),
        "    Include natssh.conf".into(),
        "Make it again after a change of the configuration, or a login to another cluster or as another user.".into(),
    ];
    if derived {
        comments.push("The files under natssh's own folder are kept up to date by the broker.".into());
    }
    if !unknown.is_empty() {
        comments.push(format!(
            "Not connected, so it is unknown whether it needs SHA-1 algorithms: {}. Make it again once `natssh status` shows a trunk.",
            unknown.join(", ")
        ));
    }
    Block::remark(comments).to_string()
}

/// `natssh proxy`, by its full path, with the environment in which this fragment was asked for.
fn proxy_command() -> String {
    let own = std::env::current_exe().ok();
    let beside = own.and_then(|exe| exe.canonicalize().ok()).map(|exe| exe.with_file_name("natssh"));
    let natssh = beside.filter(|path| path.is_file()).unwrap_or_else(|| PathBuf::from("natssh"));
    command_words(&natssh, |name| std::env::var_os(name))
}

pub(super) fn command_words<V: AsRef<OsStr>>(natssh: &Path, variable: impl Fn(&str) -> Option<V>) -> String {
    let kept = KEPT.into_iter().filter_map(|name| Some((name, variable(name)?)));
    let mut words: Vec<String> = kept
        .filter(|(_, value)| !value.as_ref().is_empty())
        .map(|(name, value)| format!("{name}={}", value.as_ref().to_string_lossy()))
        .collect();
    if !words.is_empty() {
        words.insert(0, "env".into());
    }
    words.push(natssh.to_string_lossy().into_owned());
    words.push("proxy".into());
    words.iter().map(|word| block::shell_word(word)).collect::<Vec<_>>().join(" ")
}
