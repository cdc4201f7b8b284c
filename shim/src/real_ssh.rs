//! The real ssh: where it is, and how to become it.
//!
//! It takes over this very process by exec, so that the terminal, the session,
//! the caller's SSH_ASKPASS and an sshpass around it are as if natssh had never
//! been there.

use crate::personality;
use natssh_wire::exec::Resolution;
use natssh_wire::real_ssh::{VARIABLE, choose};
use natssh_wire::{Failure, FailureKind, Word};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Counts how often a natssh has become what it took for the real ssh, over all that came of it.
const DEPTH: &str = "NATSSH_DEPTH";
/// Chains of jumps nest a few; copies of natssh that take each other for the real one would never end.
const DEPTH_LIMIT: u32 = 8;

/// Becomes the real ssh with these words, and before them what the broker has it told, if that was asked; returns only if
/// that cannot be.
pub(crate) fn become_it(words: &[Word], told: Option<&Resolution>) -> Failure {
    let found = own_file().and_then(|own| Ok((find(&own)?, own)));
    let (program, own) = match found {
        Ok(found) => found,
        Err(failure) => return failure,
    };
    let depth = match next_depth(std::env::var_os(DEPTH).as_deref()) {
        Ok(depth) => depth,
        Err(failure) => return failure,
    };
    let mut command = Command::new(&program);
    if told.is_some_and(|told| told.tunnel) {
        command.arg("-o").arg(proxy_command(&own).as_os_str()).args(["-o", "ProxyUseFdpass=yes"]);
    }
    let options = told.iter().flat_map(|told| &told.options);
    command.args(options.flat_map(|option| ["-o", option]));
    command.args(words.iter().map(Word::as_os_str)).env(DEPTH, depth.to_string());
    let error = command.exec();
    Failure::new(FailureKind::Config, format!("run {}: {error}", program.display()))
        .hint(format!("export {VARIABLE}=/path/of/ssh"))
}

/// This program's own file, past every link.
pub(crate) fn own_file() -> Result<PathBuf, Failure> {
    std::env::current_exe()
        .map_err(|error| Failure::new(FailureKind::Internal, format!("find natssh's own file: {error}")))
}

fn find(own: &Path) -> Result<PathBuf, Failure> {
    let named = std::env::var_os(VARIABLE);
    let search = std::env::var_os("PATH").unwrap_or_default();
    let file = |path: &Path| path.metadata().map(|meta| (meta.dev(), meta.ino())).ok();
    let own = file(own);
    // Followed through symbolic links, whichever name leads here.
    choose(named.as_deref(), &search, is_program, |path| own.is_some() && file(path) == own)
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// One deeper than `depth` says; a failure at the limit.
fn next_depth(depth: Option<&OsStr>) -> Result<u32, Failure> {
    let depth = depth.and_then(OsStr::to_str).and_then(|text| text.parse::<u32>().ok()).unwrap_or(0);
    if depth < DEPTH_LIMIT {
        return Ok(depth + 1);
    }
    Err(Failure::new(FailureKind::Config, format!("every ssh in PATH leads back to natssh ({depth} times)"))
        .hint(format!("export {VARIABLE}=/usr/bin/ssh")))
}

/// `ProxyCommand=… proxy %h %p --login %r`, with this program's own path.
fn proxy_command(own: &Path) -> Word {
    let mut line = b"ProxyCommand=".to_vec();
    line.extend(quoted(own));
    if personality::is_named_ssh(own) {
        line.push(b' ');
        line.extend(personality::NATSSH.as_bytes());
    }
    line.extend(b" proxy %h %p --login %r");
    line.into()
}

/// A path for ssh's `%` tokens, for the quotes of its `-o`, and for the shell behind it.
///
/// Backslashes mean the same to the last two wherever they stand; within quotes they do not.
fn quoted(path: &Path) -> Vec<u8> {
    let quote = |byte: &u8| match byte {
        b'%' => b"%%".to_vec(),
        // To a shell, a backslash before a line's end is nothing.
        b'\n' => b"'\n'".to_vec(),
        plain if plain.is_ascii_alphanumeric() || b"/._-+,:@=".contains(plain) || !plain.is_ascii() => {
            vec![*plain]
        }
        other => vec![b'\\', *other],
    };
    path.as_os_str().as_bytes().iter().flat_map(quote).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    #[test]
    fn natssh_is_passed_over_under_every_name() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| {
            let place = folder.path().join(name);
            std::fs::create_dir(&place).unwrap();
            place.join("ssh")
        };
        let own = folder.path().join("natssh");
        std::fs::write(&own, "").unwrap();
        std::fs::set_permissions(&own, std::fs::Permissions::from_mode(0o755)).unwrap();
        let (soft, hard, chain, copy) = (place("soft"), place("hard"), place("chain"), place("copy"));
        std::os::unix::fs::symlink(&own, &soft).unwrap();
        std::fs::hard_link(&own, &hard).unwrap();
        std::os::unix::fs::symlink(&soft, &chain).unwrap();
        std::fs::copy(&own, &copy).unwrap();

        let folders = [&soft, &hard, &chain, &copy].map(|path| path.parent().unwrap());
        let search = std::env::join_paths(folders).unwrap();
        let file = |path: &Path| path.metadata().map(|meta| (meta.dev(), meta.ino())).ok();
        let is_natssh = |path: &Path| file(path) == file(&own);
        assert_eq!(choose(None, &search, is_program, is_natssh).unwrap(), copy);
    }

    #[test]
    fn what_never_ends_is_ended() {
        assert_eq!(next_depth(None), Ok(1));
        assert_eq!(next_depth(Some(OsStr::new("nonsense"))), Ok(1));
        assert_eq!(next_depth(Some(OsStr::new("7"))), Ok(8));
        let failure = next_depth(Some(OsStr::new("8"))).unwrap_err();
        assert_eq!(failure.hint.as_deref(), Some("export NATSSH_REAL_SSH=/usr/bin/ssh"));
    }

    #[test]
    fn any_path_reaches_the_shell_as_it_is() {
        for path in
            ["/opt/natssh", "/o p/it's", "/a%h\"b\\", "/$(id)/`id`;&|<>*?[]{}~#!", "/a\nb", "/gr\u{fc}n"]
        {
            let line = quoted(Path::new(path));
            let unescaped = String::from_utf8(line).unwrap().replace("%%", "%");
            let said =
                Command::new("sh").arg("-c").arg(format!("exec printf %s {unescaped}")).output().unwrap();
            assert_eq!(OsString::from_vec(said.stdout), path);
        }
    }

    #[test]
    fn a_natssh_that_is_called_ssh_says_that_it_is_not() {
        let line = |path: &str| proxy_command(Path::new(path)).as_str().unwrap().to_owned();
        assert_eq!(line("/bin/natssh"), "ProxyCommand=/bin/natssh proxy %h %p --login %r");
        assert_eq!(line("/bin/ssh"), "ProxyCommand=/bin/ssh --natssh proxy %h %p --login %r");
    }
}
