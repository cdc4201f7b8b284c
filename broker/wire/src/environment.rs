//! Which variables of a shell a broker keeps, and so do the programs that it starts.

/// The environment that is kept, besides whole families of names: see [`is_kept`].
const KEPT: [&str; 13] = [
    "HOME",
    "USER",
    "LOGNAME",
    "PATH",
    "SHELL",
    "LANG",
    "TZ",
    "TMPDIR",
    "TELEPORT_HOME",
    "SSH_AUTH_SOCK",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "RUST_LOG",
];

/// True for a variable that finds a program's files, its locale or its log level. Nothing else of the shell that
/// happened to start a broker outlives it: a broker serves other shells too, and secrets travel in variables.
#[must_use]
pub fn is_kept(name: &str) -> bool {
    let family = ["LC_", "XDG_", "NATSSH_"].iter().any(|prefix| name.starts_with(prefix));
    family || KEPT.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_keeps_what_finds_its_files_and_no_secret() {
        for kept in ["HOME", "LC_ALL", "XDG_STATE_HOME", "NATSSH_CONFIG", "TELEPORT_HOME", "SSH_AUTH_SOCK"] {
            assert!(is_kept(kept), "{kept}");
        }
        for cut in
            ["ANSIBLE_BECOME_PASS", "AWS_SECRET_ACCESS_KEY", "LD_PRELOAD", "LANGUAGE", "HOMEX", "SSH_ASKPASS"]
        {
            assert!(!is_kept(cut), "{cut}");
        }
    }
}
