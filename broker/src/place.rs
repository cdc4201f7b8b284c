//! Reads this process's surroundings for [`natssh_wire::paths`].

use natssh_wire::Failure;
use natssh_wire::paths::{Environment, Paths};
use std::path::{Path, PathBuf};

/// Where this user's broker is, or would be.
///
/// # Errors
/// No folder is known, or the socket's path is too long.
pub fn paths() -> Result<Paths, Failure> {
    let uid = rustix::process::geteuid().as_raw();
    let path = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let environment = Environment {
        natssh_socket: path("NATSSH_SOCKET"),
        xdg_state_home: path("XDG_STATE_HOME"),
        home: path("HOME"),
        uid,
        hostname: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        has_run_user: Path::new(&format!("/run/user/{uid}")).is_dir(),
    };
    environment.paths()
}
