//! The configuration and the socket: are they there, and are they the user's alone.

use super::Finding;
use crate::config::{Complaints, Environment, Kind, Settings};
use natssh_wire::Failure;
use natssh_wire::paths::Paths;
use std::fs::Metadata;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// Who owns something, and who may write in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owned {
    path: PathBuf,
    owner: u32,
    mode: u32,
    is_socket: bool,
    own: u32,
}

/// What is where the socket should be.
#[derive(Debug, Default)]
pub(super) struct Seen {
    folder: Option<Owned>,
    socket: Option<Owned>,
}

impl Owned {
    fn look(path: &Path) -> Option<Self> {
        let found: Metadata = std::fs::symlink_metadata(path).ok()?;
        let own = rustix::process::geteuid().as_raw();
        let is_socket = found.file_type().is_socket();
        Some(Self { path: path.to_owned(), owner: found.uid(), mode: found.mode(), is_socket, own })
    }
}

pub(super) fn gather(paths: &Result<Paths, Failure>) -> Seen {
    let Ok(paths) = paths else { return Seen::default() };
    Seen { folder: paths.socket.parent().and_then(Owned::look), socket: Owned::look(&paths.socket) }
}

/// The file, and what it says.
pub(super) fn config(env: &Environment, loaded: &Result<Settings, Complaints>) -> Vec<Finding> {
    let path = env.config_path();
    let mut findings = match loaded {
        Err(complaints) => {
            vec![Finding::failure("config", complaints.to_string(), fix_config(path.as_deref()))]
        }
        Ok(settings) => {
            let place = match &settings.path {
                Some(path) => path.display().to_string(),
                None => "no file, and none is needed".into(),
            };
            let upstreams = settings.upstreams.keys().cloned().collect::<Vec<_>>().join(", ");
            let warnings =
                settings.warnings.iter().map(|said| Finding::warning("config", said, "natssh config show"));
            let alone = settings.upstreams.values().all(|upstream| matches!(upstream.kind, Kind::Direct));
            let alone = alone.then(|| {
                let text = "no upstream but plain TCP: nothing leads through a proxy or a bastion";
                Finding::warning(
                    "config",
                    text,
                    "tsh login --proxy=HOST, or an [upstream.NAME] in natssh.toml",
                )
            });
            std::iter::once(Finding::ok("config", format!("{place}; upstreams: {upstreams}")))
                .chain(alone)
                .chain(warnings)
                .collect()
        }
    };
    findings.extend(path.as_deref().and_then(Owned::look).and_then(|file| config_is_own(&file)));
    findings
}

fn fix_config(path: Option<&Path>) -> String {
    path.map_or_else(|| "natssh config check".into(), |path| format!("edit {}", path.display()))
}

/// Who may write in the configuration may have any program run.
fn config_is_own(file: &Owned) -> Option<Finding> {
    let path = file.path.display();
    if file.owner != file.own && file.owner != 0 {
        let text = format!("{path} belongs to user {}, who may have any program run as you", file.owner);
        return Some(Finding::failure("config", text, format!("sudo chown {} {path}", file.own)));
    }
    // A symbolic link has no permissions of its own.
    let is_link = file.mode & 0o170_000 == 0o120_000;
    (!is_link && file.mode & 0o022 != 0).then(|| {
        let text = format!("others may write in {path}, and have any program run as you");
        Finding::failure("config", text, format!("chmod go-w {path}"))
    })
}

/// The socket and the folder it lies in.
pub(super) fn socket(paths: &Result<Paths, Failure>, seen: Seen) -> Vec<Finding> {
    let paths = match paths {
        Ok(paths) => paths,
        Err(failure) => {
            let fix = failure.hint.clone().unwrap_or_else(|| "natssh broker start".into());
            return vec![Finding::failure("socket", &failure.message, fix)];
        }
    };
    let Seen { folder, socket } = seen;
    let mut findings = Vec::new();
    if let Some(folder) = folder {
        let path = folder.path.display();
        if folder.owner != folder.own {
            let text =
                format!("{path} belongs to user {}, not to you: no broker can serve there", folder.owner);
            findings.push(Finding::failure("socket", text, format!("ls -ld {path}")));
        } else if folder.mode & 0o022 != 0 {
            let text = format!("others may write in {path}: the broker refuses to serve there");
            findings.push(Finding::failure("socket", text, format!("chmod 700 {path}")));
        }
    }
    if let Some(socket) = socket {
        let path = socket.path.display();
        if !socket.is_socket {
            let text = format!("{path} is no socket");
            findings.push(Finding::failure("socket", text, format!("rm {path}")));
        } else if socket.owner != socket.own {
            let text = format!("{path} belongs to user {}; nothing is sent there", socket.owner);
            findings.push(Finding::failure("socket", text, format!("ls -l {path}")));
        } else if socket.mode & 0o077 != 0 {
            let text = format!(
                "others may connect to {path}; the broker refuses them, but they should not get so far"
            );
            findings.push(Finding::warning("socket", text, format!("chmod 600 {path}")));
        }
    }
    if findings.is_empty() {
        findings.push(Finding::ok("socket", format!("{}, yours alone", paths.socket.display())));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn owned(path: &str, owner: u32, mode: u32, is_socket: bool) -> Option<Owned> {
        Some(Owned { path: path.into(), owner, mode, is_socket, own: 1000 })
    }

    fn judged(folder: Option<Owned>, socket: Option<Owned>) -> Vec<(Verdict, Option<String>)> {
        let paths = natssh_wire::paths::Environment {
            natssh_socket: Some("/run/n/b.sock".into()),
            ..natssh_wire::paths::Environment::default()
        };
        let findings = super::socket(&paths.paths(), Seen { folder, socket });
        findings.into_iter().map(|finding| (finding.verdict, finding.fix)).collect()
    }

    #[test]
    fn only_a_socket_of_ones_own_is_well() {
        let folder = || owned("/run/n", 1000, 0o40700, false);
        let fix = |text: &str| Some(text.to_owned());
        assert_eq!(judged(None, None), [(Verdict::Ok, None)], "the broker makes them");
        assert_eq!(judged(folder(), owned("/run/n/b.sock", 1000, 0o140_600, true)), [(Verdict::Ok, None)]);
        assert_eq!(
            judged(owned("/run/n", 0, 0o40700, false), None),
            [(Verdict::Failure, fix("ls -ld /run/n"))]
        );
        assert_eq!(
            judged(owned("/run/n", 1000, 0o40777, false), None),
            [(Verdict::Failure, fix("chmod 700 /run/n"))]
        );
        assert_eq!(
            judged(folder(), owned("/run/n/b.sock", 1000, 0o100_600, false)),
            [(Verdict::Failure, fix("rm /run/n/b.sock"))]
        );
        assert_eq!(
            judged(folder(), owned("/run/n/b.sock", 1000, 0o140_666, true)),
            [(Verdict::Warning, fix("chmod 600 /run/n/b.sock"))]
        );
    }

    #[test]
    fn who_may_write_in_the_configuration_is_told() {
        let judged =
            |owner, mode| config_is_own(&owned("/c", owner, mode, false).unwrap()).and_then(|f| f.fix);
        assert_eq!(judged(1000, 0o100_644), None);
        assert_eq!(judged(0, 0o100_644), None, "root may anyway");
        assert_eq!(judged(1000, 0o120_777), None, "a link");
        assert_eq!(judged(1000, 0o100_664).as_deref(), Some("chmod go-w /c"));
        assert_eq!(judged(1001, 0o100_644).as_deref(), Some("sudo chown 1000 /c"));
    }
}
