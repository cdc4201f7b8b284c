//! The system's programs that the lab stands on, and what to type when one of
//! them is not there.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::state::Mode;

/// A program and the Debian package that brings it.
struct Tool {
    program: &'static str,
    package: &'static str,
}

const fn tool(program: &'static str, package: &'static str) -> Tool {
    Tool { program, package }
}

/// What every node needs.
const ALWAYS: &[Tool] = &[tool("sshd", "openssh-server"), tool("ssh", "openssh-client")];

/// What namespaces and a NAT need besides.
const ROOTED: &[Tool] = &[
    tool("ip", "iproute2"),
    tool("nft", "nftables"),
    tool("unshare", "util-linux"),
    tool("nsenter", "util-linux"),
];

/// Where sftp-server lives: Debian, Fedora, Arch, Alpine and BSDs. It is in no
/// PATH.
const SFTP_SERVERS: &[&str] = &[
    "/usr/lib/openssh/sftp-server",
    "/usr/libexec/openssh/sftp-server",
    "/usr/lib/ssh/sftp-server",
    "/usr/libexec/sftp-server",
];

/// Refuses to start with one sentence that names everything missing.
pub fn require(mode: Mode) -> Result<()> {
    let needed = match mode {
        Mode::Rootless => ALWAYS.iter().chain(&[]),
        Mode::Rooted => ALWAYS.iter().chain(ROOTED),
    };
    let missing: Vec<_> = needed.filter(|t| find(t.program).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let programs: Vec<_> = missing.iter().map(|tool| tool.program).collect();
    let mut packages: Vec<_> = missing.iter().map(|tool| tool.package).collect();
    packages.dedup();
    bail!(
        "the lab needs {}, not found on this machine; type: {}apt-get install {}",
        programs.join(", "),
        if rustix::process::geteuid().is_root() { "" } else { "sudo " },
        packages.join(" ")
    );
}

/// The program by this name in PATH or in the folders of system programs,
/// which an ordinary user's PATH leaves out. Always absolute: sshd insists.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin", "/bin"];
    env::split_paths(&path)
        .chain(system.iter().map(PathBuf::from))
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(program))
        .find(|file| is_executable(file))
}

/// Makes the empty folder that an sshd started by root insists on, where it is
/// not there yet: the system's own service makes it at every start, and a
/// container has none. It stays, being nobody's in particular.
///
/// # Errors
/// When it cannot be made.
pub fn make_privilege_separation_folder() -> Result<()> {
    if rustix::process::geteuid().is_root() {
        std::fs::create_dir_all("/run/sshd").context("make /run/sshd")?;
    }
    Ok(())
}

/// OpenSSH's sftp-server.
pub fn sftp_server() -> Result<PathBuf> {
    let found = SFTP_SERVERS.iter().map(Path::new).find(|f| is_executable(f));
    match found {
        Some(file) => Ok(file.to_owned()),
        None => bail!("sftp-server is not installed; type: apt-get install openssh-sftp-server"),
    }
}

fn is_executable(file: &Path) -> bool {
    file.is_file() && rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_by_absolute_path() {
        let shell = find("sh").expect("every machine has sh");
        assert!(shell.is_absolute());
        assert_eq!(find("natssh-lab-no-such-program"), None);
    }
}
