//! Which program is the real ssh, where natssh itself may be installed as `ssh`.
//!
//! Pure: the caller says what can be run and what is natssh. The shim becomes that
//! program; the broker asks it for settings.

use crate::{Failure, FailureKind};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// The variable that names it.
pub const VARIABLE: &str = "NATSSH_REAL_SSH";
/// Where programs are, to those who have no PATH.
const USUAL_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// `NATSSH_REAL_SSH`, else the first `ssh` in PATH that is a program and not natssh. Folders of PATH that are not
/// absolute are passed over: they are others for everyone.
///
/// # Errors
/// There is none, or what is named is none.
pub fn choose(
    named: Option<&OsStr>,
    search: &OsStr,
    is_program: impl Fn(&Path) -> bool,
    is_natssh: impl Fn(&Path) -> bool,
) -> Result<PathBuf, Failure> {
    let missing = |what: String| {
        Failure::new(FailureKind::Config, what).hint(format!("export {VARIABLE}=/path/of/ssh"))
    };
    if let Some(named) = named.filter(|named| !named.is_empty()).map(Path::new) {
        return match () {
            () if !named.is_absolute() || !is_program(named) => {
                Err(missing(format!("{VARIABLE} is {}, which is not the path of a program", named.display())))
            }
            () if is_natssh(named) => {
                Err(missing(format!("{VARIABLE} is {}, which is natssh itself", named.display())))
            }
            () => Ok(named.to_owned()),
        };
    }
    let search = if search.is_empty() { OsStr::new(USUAL_PATH) } else { search };
    std::env::split_paths(search)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join("ssh"))
        .find(|path| is_program(path) && !is_natssh(path))
        .ok_or_else(|| missing("no ssh but natssh is in PATH".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(named: &str, search: &str) -> Result<PathBuf, String> {
        let is_program = |path: &Path| path.starts_with("/bin") || path.starts_with("/natssh");
        let is_natssh = |path: &Path| path.starts_with("/natssh");
        choose(Some(OsStr::new(named)), OsStr::new(search), is_program, is_natssh)
            .map_err(|failure| failure.message)
    }

    #[test]
    fn natssh_is_passed_over_wherever_it_stands() {
        assert_eq!(find("", "/natssh:/none:bin:/bin").unwrap(), Path::new("/bin/ssh"));
        assert_eq!(find("/bin/real", "/natssh").unwrap(), Path::new("/bin/real"));
        assert_eq!(find("", "").unwrap(), Path::new("/bin/ssh"));
    }

    #[test]
    fn what_is_no_ssh_is_said() {
        for (named, search, part) in [
            ("", "/natssh:/none", "in PATH"),
            ("", ":", "in PATH"),
            ("ssh", "/bin", "not the path"),
            ("/none/ssh", "/bin", "not the path"),
            ("/natssh/ssh", "/bin", "natssh itself"),
        ] {
            let message = find(named, search).unwrap_err();
            assert!(message.contains(part), "{named} {search}: {message}");
        }
    }
}
