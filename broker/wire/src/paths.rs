//! Where the broker and its clients meet: the socket, its lock, the log.
//!
//! Pure: the environment is passed in as values, so that the shim, the broker
//! and a test come to the same answer. Never a shared folder such as `/tmp`,
//! where another user could be first.

use crate::{Failure, FailureKind};
use std::path::{Path, PathBuf};

/// The longest path that fits a `sockaddr_un` with its final NUL.
pub const SOCKET_PATH_MAX: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// What the paths depend on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// `NATSSH_SOCKET`: a broker of its own, with lock and log beside the socket.
    pub natssh_socket: Option<PathBuf>,
    /// `XDG_STATE_HOME`; one that is not absolute is ignored, as its specification says.
    pub xdg_state_home: Option<PathBuf>,
    /// `HOME`.
    pub home: Option<PathBuf>,
    /// The user's number.
    pub uid: u32,
    /// The machine's name: a home folder may be shared by several machines.
    pub hostname: String,
    /// True when `/run/user/UID` exists. `XDG_RUNTIME_DIR` is not asked: cron
    /// does not set it, and cron and login must meet at one broker.
    pub has_run_user: bool,
}

/// Where things are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// The socket; its folder is 0700 and made by the broker.
    pub socket: PathBuf,
    /// Held locked by the one broker of this socket.
    pub lock: PathBuf,
    /// The broker's log.
    pub log: PathBuf,
    /// The folder for what outlives a broker.
    pub state_dir: PathBuf,
}

impl Environment {
    /// The paths that follow from this environment.
    ///
    /// # Errors
    /// A [`FailureKind::Config`] when no folder is known, or when the socket's path is too long for the system.
    pub fn paths(&self) -> Result<Paths, Failure> {
        let state = self.state_dir();
        let (socket, log) = match (&self.natssh_socket, &state) {
            (Some(socket), _) => {
                check_chosen(socket)?;
                (socket.clone(), socket.with_extension("log"))
            }
            (None, Some(state)) => {
                let socket = match self.has_run_user {
                    true => PathBuf::from(format!("/run/user/{}/natssh/broker.sock", self.uid)),
                    false => state.join(folder_name(&self.hostname)).join("broker.sock"),
                };
                (socket, state.join("broker.log"))
            }
            (None, None) => {
                return Err(wrong("neither HOME nor XDG_STATE_HOME is an absolute path".into())
                    .hint("export HOME=/path/of/your/home"));
            }
        };
        check_length(&socket)?;
        let beside = socket.parent().unwrap_or(Path::new("/")).to_owned();
        Ok(Paths { lock: socket.with_extension("lock"), log, state_dir: state.unwrap_or(beside), socket })
    }

    fn state_dir(&self) -> Option<PathBuf> {
        let absolute = |path: &Option<PathBuf>| path.clone().filter(|p| p.is_absolute());
        let base =
            absolute(&self.xdg_state_home).or_else(|| Some(absolute(&self.home)?.join(".local/state")))?;
        Some(base.join("natssh"))
    }
}

/// A socket chosen by the user: absolute, and not the name of its own lock or log.
fn check_chosen(socket: &Path) -> Result<(), Failure> {
    let taken = socket.extension().is_some_and(|e| e == "lock" || e == "log");
    if socket.is_absolute() && socket.file_name().is_some() && !taken {
        return Ok(());
    }
    let problem = if taken { "the name of a lock or log" } else { "not an absolute path" };
    Err(wrong(format!("NATSSH_SOCKET is {}, which is {problem}", socket.display()))
        .hint("export NATSSH_SOCKET=/path/to/broker.sock"))
}

fn check_length(socket: &Path) -> Result<(), Failure> {
    let length = socket.as_os_str().len();
    if length <= SOCKET_PATH_MAX {
        return Ok(());
    }
    let text = format!(
        "the socket's path {} has {length} bytes; the system takes {SOCKET_PATH_MAX}",
        socket.display()
    );
    Err(wrong(text).hint("export NATSSH_SOCKET=/a/shorter/path/broker.sock, in a folder of mode 0700"))
}

/// A machine's name as one folder: nothing that could lead out of it.
fn folder_name(hostname: &str) -> String {
    let name: String = hostname
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' })
        .collect();
    match name.trim_matches('.') {
        "" => "localhost".into(),
        name => name.into(),
    }
}

fn wrong(message: String) -> Failure {
    Failure::new(FailureKind::Config, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn home() -> Environment {
        Environment {
            home: Some("/home/u".into()),
            uid: 1000,
            hostname: "laptop".into(),
            ..Environment::default()
        }
    }

    #[test]
    fn the_run_folder_holds_the_socket_where_there_is_one() {
        let paths = Environment { has_run_user: true, ..home() }.paths().unwrap();
        assert_eq!(paths.socket, Path::new("/run/user/1000/natssh/broker.sock"));
        assert_eq!(paths.lock, Path::new("/run/user/1000/natssh/broker.lock"));
        assert_eq!(paths.log, Path::new("/home/u/.local/state/natssh/broker.log"));
    }

    #[test]
    fn elsewhere_each_machine_has_its_own_folder_in_the_state_folder() {
        let paths = home().paths().unwrap();
        assert_eq!(paths.socket, Path::new("/home/u/.local/state/natssh/laptop/broker.sock"));
        let xdg = Environment { xdg_state_home: Some("/state".into()), ..home() };
        assert_eq!(xdg.paths().unwrap().socket, Path::new("/state/natssh/laptop/broker.sock"));
        let relative = Environment { xdg_state_home: Some("state".into()), ..home() };
        assert_eq!(relative.paths().unwrap(), paths);
    }

    #[test]
    fn a_chosen_socket_has_lock_and_log_beside_it() {
        let chosen = Environment { natssh_socket: Some("/lab/b.sock".into()), home: None, ..home() };
        let paths = chosen.paths().unwrap();
        assert_eq!((paths.lock, paths.log), ("/lab/b.lock".into(), "/lab/b.log".into()));
        assert_eq!(paths.state_dir, Path::new("/lab"));
        for refused in ["b.sock", "/", "/lab/b.lock", "/lab/b.log"] {
            let failure = Environment { natssh_socket: Some(refused.into()), ..home() }.paths().unwrap_err();
            assert_eq!(failure.kind, FailureKind::Config, "{refused}");
        }
    }

    #[test]
    fn a_path_that_the_system_cannot_take_is_refused_with_its_length() {
        let longest = format!("/{}", "s".repeat(SOCKET_PATH_MAX - 1));
        assert!(Environment { natssh_socket: Some(longest.clone().into()), ..home() }.paths().is_ok());
        let failure =
            Environment { natssh_socket: Some((longest + "s").into()), ..home() }.paths().unwrap_err();
        assert!(failure.message.contains(&format!("{} bytes", SOCKET_PATH_MAX + 1)), "{failure}");
    }

    #[test]
    fn no_home_is_said() {
        assert!(Environment { home: None, ..home() }.paths().unwrap_err().message.contains("HOME"));
    }

    proptest! {
        #[test]
        fn no_machine_name_leads_out_of_the_folder(hostname in "\\PC{0,40}") {
            let paths = Environment { hostname, ..home() }.paths().unwrap();
            let below = paths.socket.strip_prefix("/home/u/.local/state/natssh").unwrap();
            prop_assert_eq!(below.components().count(), 2);
            prop_assert!(below.components().all(|c| matches!(c, std::path::Component::Normal(_))));
        }
    }
}
