//! The other program, `natssh-broker`: where it is, and how to become it.

use crate::{call::Call, place, start};
use natssh_wire::{Failure, FailureKind};
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const NAME: &str = "natssh-broker";

/// Finds it: `NATSSH_BROKER`, else beside this program's own file, else in PATH.
pub(crate) fn find() -> Result<PathBuf, Failure> {
    let own = std::env::current_exe().and_then(|path| path.canonicalize()).unwrap_or_default();
    let search = std::env::var_os("PATH").unwrap_or_default();
    choose(std::env::var_os("NATSSH_BROKER"), &own, &search)
}

/// Becomes `natssh-broker WORD WORDS…`; returns only if that cannot be.
pub(crate) fn become_broker(word: &str, words: &[OsString]) -> Failure {
    match find() {
        Ok(path) => {
            let error = Command::new(&path).arg(word).args(words).exec();
            Failure::new(FailureKind::Config, format!("run {}: {error}", path.display()))
        }
        Err(failure) => failure,
    }
}

/// The same, with a broker running if one can be started: it knows more, but the answer does not depend on it.
pub(crate) fn become_with_broker(word: &str, words: &[OsString]) -> Failure {
    if let Ok(paths) = place::paths() {
        let now = Instant::now();
        if Call::open(&paths.socket, now + Duration::from_secs(1)).is_err() {
            // natssh-broker itself says what is wrong with the configuration.
            let _ = start::start(&paths, now + start::PATIENCE);
        }
    }
    become_broker(word, words)
}

fn choose(named: Option<OsString>, own: &Path, search: &OsStr) -> Result<PathBuf, Failure> {
    let missing = |what: String| {
        Failure::new(FailureKind::Config, what).hint(format!("export NATSSH_BROKER=/path/of/{NAME}"))
    };
    if let Some(named) = named.filter(|n| !n.is_empty()).map(PathBuf::from) {
        // Started with `/` as its folder: a relative path would mean something else there.
        return match named.is_absolute() && is_program(&named) {
            true => Ok(named),
            false => Err(missing(format!(
                "NATSSH_BROKER is {}, which is not the path of a program",
                named.display()
            ))),
        };
    }
    let folder = own.parent().unwrap_or(Path::new("/"));
    let mut candidates = std::iter::once(folder.join(NAME)).chain(
        std::env::split_paths(search).filter(|folder| folder.is_absolute()).map(|folder| folder.join(NAME)),
    );
    candidates
        .find(|path| is_program(path))
        .ok_or_else(|| missing(format!("{NAME} is neither in {} nor in PATH", folder.display())))
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_named_one_wins_then_the_neighbour_then_path() {
        let (beside, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let own = beside.path().join("natssh");
        let search = std::env::join_paths([Path::new("relative"), elsewhere.path()]).unwrap();
        let failure = choose(None, &own, &search).unwrap_err();
        assert!(failure.message.contains("neither"), "{failure}");

        let in_path = program(elsewhere.path());
        assert_eq!(choose(None, &own, &search).unwrap(), in_path);
        let neighbour = program(beside.path());
        assert_eq!(choose(None, &own, &search).unwrap(), neighbour);
        assert_eq!(choose(Some(in_path.clone().into()), &own, &search).unwrap(), in_path);
        for wrong in ["natssh-broker", "/", "/nowhere/natssh-broker"] {
            assert!(choose(Some(wrong.into()), &own, &search).is_err(), "{wrong}");
        }
    }

    fn program(folder: &Path) -> PathBuf {
        let path = folder.join(NAME);
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }
}
