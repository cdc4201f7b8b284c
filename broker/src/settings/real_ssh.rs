//! The real ssh of a caller: the one that its `NATSSH_REAL_SSH` and its `PATH` lead to.

use super::call::Around;
use natssh_wire::Failure;
use natssh_wire::real_ssh::{VARIABLE, choose};
use std::ffi::OsString;
use std::fs::Metadata;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Finds it.
///
/// # Errors
/// There is none.
pub(super) async fn find(around: &Around<'_>) -> Result<PathBuf, Failure> {
    let variable = |name| around.variable(name).map(|value| value.as_os_str().to_owned()).unwrap_or_default();
    let (named, search) = (variable(VARIABLE), variable("PATH"));
    let found = tokio::task::spawn_blocking(move || look(&named, &search)).await;
    found.unwrap_or_else(|_| {
        Err(Failure::new(natssh_wire::FailureKind::Internal, "looking for ssh failed inside natssh"))
    })
}

fn look(named: &OsString, search: &OsString) -> Result<PathBuf, Failure> {
    // The shim stands beside the broker, perhaps as `ssh` in another folder: by a link, or by a second name.
    let own = std::env::current_exe().and_then(|path| path.canonicalize()).ok();
    let shim = own.and_then(|own| own.parent()?.join("natssh").metadata().ok());
    let is_program = |path: &Path| {
        path.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
    };
    let same = |a: &Metadata, b: &Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    let is_natssh = |path: &Path| {
        let data = path.metadata().ok();
        shim.as_ref().zip(data.as_ref()).is_some_and(|(shim, data)| same(shim, data))
    };
    choose(Some(named), search, is_program, is_natssh)
}
