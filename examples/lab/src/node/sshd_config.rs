//! What the nodes' sshd is told. No I/O.

use std::path::Path;

/// Old clusters sign with RSA and SHA-1, which today's sshd takes only when
/// told to. Harmless here: these nodes trust nobody but the lab's authority.
const OLD_ALGORITHMS: &str = "\
CASignatureAlgorithms +ssh-rsa
HostKeyAlgorithms +ssh-rsa,ssh-rsa-cert-v01@openssh.com
PubkeyAcceptedAlgorithms +ssh-rsa,ssh-rsa-cert-v01@openssh.com
";

/// A node lets in whoever the user authority vouches for, and no one else.
/// `UsePAM no` because a node has no session of a system to set up.
fn common(keys: &Path) -> String {
    let keys = keys.display();
    format!(
        "HostKey {keys}/host_key
HostCertificate {keys}/host_key-cert.pub
TrustedUserCAKeys {keys}/user_ca.pub
AuthorizedKeysFile none
AuthenticationMethods publickey
PermitRootLogin prohibit-password
UsePAM no
StrictModes no
UseDNS no
PrintMotd no
PrintLastLog no
AcceptEnv LANG LC_*
{OLD_ALGORITHMS}"
    )
}

/// For the sshd that listens in a rooted node. Everything that is about load,
/// MaxStartups and MaxSessions, is left as it comes.
pub fn listening(keys: &Path) -> String {
    format!("{}Port 22\nSubsystem sftp internal-sftp\n", common(keys))
}

/// For `sshd -i` in a rootless node, which runs as the user and on the user's
/// own files. It is kept out of the user's home: `HOME` is replaced, and since
/// sshd has by then gone to the home that the system knows, the forced command
/// goes to the new one. That command gets what was asked for, sftp included,
/// which is why that one is the program and not `internal-sftp`.
pub fn on_demand(keys: &Path, home: &Path, tmp: &Path, sftp_server: &Path, mark: &str) -> String {
    format!(
        "{}PidFile none
SetEnv HOME={} TMPDIR={} {mark}
Subsystem sftp {}
ForceCommand {SESSION}
",
        common(keys),
        home.display(),
        tmp.display(),
        sftp_server.display(),
    )
}

/// Understood by every shell of the Bourne family. A login shell is asked for
/// when no command is.
const SESSION: &str = "cd; test -n \"$SSH_ORIGINAL_COMMAND\" || exec \"$SHELL\" -l; \
                       exec \"$SHELL\" -c \"$SSH_ORIGINAL_COMMAND\"";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rootless_node_keeps_sessions_in_its_own_home() {
        let path = Path::new;
        let text = on_demand(path("/n"), path("/n/home"), path("/n/tmp"), path("/s"), "M=/lab");
        assert!(text.contains("\nSetEnv HOME=/n/home TMPDIR=/n/tmp M=/lab\n"));
        assert!(text.contains("\nSubsystem sftp /s\n"));
        assert!(text.lines().all(|line| line.len() < 200), "{text}");
    }

    #[test]
    fn a_listening_node_keeps_opensshs_own_limits() {
        let text = listening(Path::new("/run/natssh-lab"));
        assert!(!text.contains("MaxStartups") && !text.contains("MaxSessions"));
    }
}
