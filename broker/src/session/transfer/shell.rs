//! The commands that carry a file to and from a node without SFTP.
//!
//! Pure. They are read by the login's shell first, whichever that is, and then by sh: so all of them are one word in
//! single quotes for sh, in which paths are octal digits for printf. Nothing in a path means anything to either.

use super::Order;

/// Writes standard input to the temporary file, or to the file itself where that has to be. The status is 0 once all of
/// it is there; whether it is all of it, standard input does not tell: a connection that breaks ends it too.
///
/// Links are written through. A file of somebody else's is written in place, but by root, whom `cp -p` obeys.
#[must_use]
pub fn write(order: &Order) -> Vec<u8> {
    let mode = order.mode;
    let script = format!(
        "if [ -d \"$p\" ]; then echo \"Is a directory\" >&2; exit 1; fi; \
         if [ -f \"$p\" ] && [ ! -L \"$p\" ] && [ -w \"$p\" ] && [ -w \"$d.\" ] && {{ [ -O \"$p\" ] || [ \"$(id -u)\" = 0 ]; }}; then \
         {{ cp -p \"$p\" \"$t\" && cat >\"$t\"; }} || {{ rm -f \"$t\"; exit 1; }}; exit 0; fi; \
         if [ -e \"$p\" ] || [ -L \"$p\" ]; then cat >\"$p\"; exit; fi; \
         u=$(umask); umask 077; set -C; : >\"$t\" || exit; set +C; \
         {{ cat >\"$t\" && chmod \"$(printf %o \"$((0{mode} & ~0$u))\")\" \"$t\"; }} || {{ rm -f \"$t\"; exit 1; }}"
    );
    command(order, &script)
}

/// Gives the temporary file, if one was made, the name that was meant.
#[must_use]
pub fn rename(order: &Order) -> Vec<u8> {
    command(order, "if [ -f \"$t\" ]; then mv -f \"$t\" \"$p\"; fi")
}

/// Removes a temporary file.
#[must_use]
pub fn remove(temporary: &[u8]) -> Vec<u8> {
    quoted(&format!("{}rm -f \"$t\"", assignment('t', temporary)))
}

/// Prints a file.
#[must_use]
pub fn read(path: &[u8]) -> Vec<u8> {
    quoted(&format!("{}exec cat \"$p\"", assignment('p', path)))
}

/// A script that knows the path, the temporary one and the folder of both (with its slash, or nothing).
fn command(order: &Order, script: &str) -> Vec<u8> {
    let temporary = order.temporary();
    let folder = super::place::folder_of(&order.path);
    quoted(&format!(
        "{}{}{}{script}",
        assignment('p', &order.path),
        assignment('t', &temporary),
        assignment('d', folder)
    ))
}

fn quoted(script: &str) -> Vec<u8> {
    format!("sh -c '{script}'").into_bytes()
}

/// Sets a variable to those bytes. The full stop keeps a line break at the end, which `$()` would take away, and the
/// slash keeps a leading `-` from being an option's.
fn assignment(name: char, path: &[u8]) -> String {
    let here = if path.first() == Some(&b'-') { "./" } else { "" };
    let mut digits = String::from(here);
    for byte in path {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'_' | b'-' => {
                digits.push(char::from(*byte));
            }
            other => digits.push_str(&format!("\\{other:03o}")),
        }
    }
    format!("{name}=$(printf \"{digits}.\"); {name}=${{{name}%.}}; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use natssh_wire::file::Mode;
    use proptest::prelude::*;
    use std::fs;
    use std::io::Write;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::path::Path;
    use std::process::{Command, Output, Stdio};

    fn order(path: &Path, mode: u32) -> Order {
        let path = path.as_os_str().as_bytes().to_vec();
        Order { path, mode: Mode::new(mode).unwrap(), number: 7 }
    }

    /// As a login shell runs it.
    fn run(shell: &str, command: &[u8], stdin: &[u8]) -> Output {
        let command = std::ffi::OsStr::from_bytes(command);
        let mut child = Command::new(shell)
            .arg("-c")
            .arg(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It may end without having read anything.
        let _ = child.stdin.take().unwrap().write_all(stdin);
        child.wait_with_output().unwrap()
    }

    fn put(order: &Order, bytes: &[u8]) -> Output {
        let written = run("sh", &write(order), bytes);
        if !written.status.success() {
            return written;
        }
        run("sh", &rename(order), b"")
    }

    fn names(folder: &Path) -> Vec<std::ffi::OsString> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn every_name_is_the_name_that_is_meant(
            name in prop::collection::vec(prop_oneof![1u8.., Just(b'\''), Just(b'"'), Just(b'\n'), Just(b'\\'), Just(b'%'), Just(b'-'), Just(b'!')], 1..30),
        ) {
            let name: Vec<u8> = name.into_iter().filter(|byte| *byte != b'/').collect();
            prop_assume!(!name.is_empty() && name != b"." && name != b"..");
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join(std::ffi::OsStr::from_bytes(&name));
            let put = put(&order(&path, 0o644), b"bytes\0");
            prop_assert!(put.status.success(), "{put:?}");
            prop_assert_eq!(names(folder.path()), [path.file_name().unwrap()]);
            prop_assert_eq!(run("sh", &read(path.as_os_str().as_bytes()), b"").stdout, b"bytes\0");
        }
    }

    #[test]
    fn every_login_shell_reads_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("it's \"$x\"\\ !1\n");
        for shell in ["sh", "bash", "dash", "zsh", "ksh", "mksh", "fish", "tcsh", "csh", "yash"] {
            if Command::new(shell).arg("-c").arg("true").output().is_err() {
                continue;
            }
            assert!(run(shell, &write(&order(&path, 0o600)), shell.as_bytes()).status.success(), "{shell}");
            assert!(run(shell, &rename(&order(&path, 0o600)), b"").status.success(), "{shell}");
            assert_eq!(run(shell, &read(path.as_os_str().as_bytes()), b"").stdout, shell.as_bytes());
            assert_eq!(names(folder.path()), [path.file_name().unwrap()], "{shell}");
        }
    }

    #[test]
    fn modes_are_kept_and_new_ones_heed_the_umask() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
        let umask = u32::from_str_radix(String::from_utf8_lossy(&run("sh", b"umask", b"").stdout).trim(), 8);
        assert!(put(&order(&path, 0o755), b"one").status.success());
        assert_eq!(mode(), 0o755 & !umask.unwrap());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let before = fs::metadata(&path).unwrap().ino();
        assert!(put(&order(&path, 0o755), b"two").status.success());
        assert_eq!((mode(), fs::read(&path).unwrap()), (0o640, b"two".to_vec()));
        assert_ne!(fs::metadata(&path).unwrap().ino(), before, "another file took its place");
    }

    #[test]
    fn links_and_devices_are_written_to_and_folders_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("x"), folder.path().join("link"));
        std::os::unix::fs::symlink("x", &link).unwrap();
        assert!(put(&order(&link, 0o644), b"one").status.success());
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(put(&order(Path::new("/dev/null"), 0o644), b"one").status.success());
        let refused = put(&order(folder.path(), 0o644), b"one");
        assert_eq!((refused.status.code(), refused.stderr), (Some(1), b"Is a directory\n".to_vec()));
        let missing = put(&order(&folder.path().join("no/x"), 0o644), b"one");
        assert!(!missing.status.success() && !missing.stderr.is_empty(), "{missing:?}");
        assert_eq!(names(folder.path()).len(), 2);
    }

    #[test]
    fn what_was_begun_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let order = order(&folder.path().join("x"), 0o644);
        assert!(run("sh", &write(&order), b"half").status.success());
        assert_eq!(names(folder.path()).len(), 1);
        assert!(run("sh", &remove(&order.temporary()), b"").status.success());
        assert_eq!(names(folder.path()).len(), 0);
    }
}
