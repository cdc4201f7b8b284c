//! The account that nodes let in, as the system knows it.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::state::Mode;

/// Shells of accounts that nobody can log in to.
const NO_SHELLS: &[&str] = &["nologin", "false"];

/// The login at the nodes: root where the lab makes whole machines, else the
/// caller, because `sshd -i` without root can let in nobody else.
///
/// # Errors
/// When the caller has no account, or one that sshd would refuse.
pub fn login(mode: Mode) -> Result<String> {
    if mode == Mode::Rooted {
        return Ok("root".to_owned());
    }
    let uid = rustix::process::getuid().as_raw().to_string();
    let output = Command::new("getent").args(["passwd", &uid]).output().context("start getent")?;
    let line = String::from_utf8_lossy(&output.stdout);
    let (name, shell) = name_and_shell(&line).with_context(|| format!("user {uid} has no account"))?;
    if NO_SHELLS.iter().any(|none| shell.ends_with(none)) {
        bail!(
            "the account {name} has the shell {shell}, so sshd lets nobody in as {name}; run the lab as another user"
        );
    }
    Ok(name.to_owned())
}

/// The first and the last field of a passwd line. No shell means `/bin/sh`.
fn name_and_shell(line: &str) -> Option<(&str, &str)> {
    let mut fields = line.trim_end().split(':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    let shell = fields.nth(5)?;
    Some((name, shell))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passwd_line_gives_name_and_shell() {
        let line = "ann:x:1000:1000:Ann,,,:/home/ann:/bin/zsh\n";
        assert_eq!(name_and_shell(line), Some(("ann", "/bin/zsh")));
        assert_eq!(name_and_shell("ann:x:1000:1000:Ann:/home/ann:"), Some(("ann", "")));
        assert_eq!(name_and_shell(""), None);
    }
}
