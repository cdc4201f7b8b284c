//! The real ssh of a caller: the one that its `NATSSH_REAL_SSH` and its `PATH` lead to.

use super::call::Around;
use natssh_wire::Failure;
use natssh_wire::real_ssh::{VARIABLE, choose};
use std::fs::Metadata;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// Where the shim is, beside the broker. Asked once: after an update the system names the file that is gone.
static SHIM: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
    let own = std::env::current_exe().and_then(|path| path.canonicalize()).ok()?;
    Some(own.parent()?.join("natssh"))
});

/// Finds it (blocking).
///
/// # Errors
/// There is none.
pub(super) fn find(around: &Around<'_>) -> Result<PathBuf, Failure> {
    let variable = |name| around.variable(name).map(|value| value.as_os_str().to_owned()).unwrap_or_default();
    // The shim may stand as `ssh` in another folder: by a link, or by a second name.
    let shim = SHIM.as_ref().and_then(|shim| shim.metadata().ok());
    let is_program = |path: &Path| {
        path.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
    };
    let same = |a: &Metadata, b: &Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    let is_natssh = |path: &Path| {
        let data = path.metadata().ok();
        shim.as_ref().zip(data.as_ref()).is_some_and(|(shim, data)| same(shim, data))
    };
    choose(Some(&variable(VARIABLE)), &variable("PATH"), is_program, is_natssh)
}
