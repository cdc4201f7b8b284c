//! Whether `tsh login` or `tsh logout` has changed what the configuration stands on.
//!
//! A change of natssh.toml waits for a reload, because people write files in
//! several steps. A login is one step, and whoever typed it expects the next
//! ssh to go through it.

use super::Environment;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;

/// What tsh's current profile looked like.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Login {
    name: Option<Vec<u8>>,
    file: Option<Stamp>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Environment {
    /// Looks at the current profile: one small file read, one looked at.
    #[must_use]
    pub fn login(&self) -> Login {
        let home = self.tsh_home();
        let name = std::fs::read(home.join("current-profile")).ok();
        let profile = name.as_deref().map(|name| String::from_utf8_lossy(name).trim().to_owned());
        let file = profile.and_then(|profile| home.join(profile + ".yaml").metadata().ok());
        Login { name, file: file.as_ref().map(Stamp::of) }
    }
}

impl Stamp {
    fn of(file: &Metadata) -> Self {
        Self { inode: file.ino(), size: file.size(), modified: (file.mtime(), file.mtime_nsec()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_another_one_and_a_logout_are_seen() {
        let folder = tempfile::tempdir().unwrap();
        let env = Environment { teleport_home: Some(folder.path().into()), ..Environment::default() };
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let mut seen = vec![env.login()];
        write("a.example.yaml", "user: alice\n");
        write("current-profile", "a.example\n");
        seen.push(env.login());
        write("a.example.yaml", "user: alice\ncluster: leaf\n");
        seen.push(env.login());
        write("current-profile", "b.example\n");
        seen.push(env.login());
        assert_eq!(env.login(), seen[3]);
        for (i, one) in seen.iter().enumerate() {
            assert!(seen[i + 1..].iter().all(|other| other != one), "{i}");
        }
    }
}
