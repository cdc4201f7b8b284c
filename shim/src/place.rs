//! Reads this process's surroundings for [`natssh_wire::paths`].

use natssh_wire::Failure;
use natssh_wire::paths::{Environment, Paths};
use std::path::{Path, PathBuf};

/// Where the user's broker is, or would be.
pub(crate) fn paths() -> Result<Paths, Failure> {
    let uid = uid();
    let system = rustix::system::uname();
    let path = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let environment = Environment {
        natssh_socket: path("NATSSH_SOCKET"),
        xdg_state_home: path("XDG_STATE_HOME"),
        home: path("HOME"),
        uid,
        hostname: system.nodename().to_string_lossy().into_owned(),
        has_run_user: Path::new(&format!("/run/user/{uid}")).is_dir(),
    };
    environment.paths()
}

/// The user on whose behalf this runs.
pub(crate) fn uid() -> u32 {
    rustix::process::geteuid().as_raw()
}
