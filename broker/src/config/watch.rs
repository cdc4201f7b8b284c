//! Whether `tsh login` or `tsh logout` has changed what the configuration stands on.
//!
//! A change of natssh.toml waits for a reload, because people write files in
//! several steps. A login is one step, and whoever typed it expects the next
//! ssh to go through it.

use super::Environment;
use crate::identity::tsh;
use std::collections::BTreeMap;
use std::path::Path;

/// What tsh's profiles said, and which was the current one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Login {
    name: Option<Vec<u8>>,
    profile: Option<Vec<u8>>,
    others: BTreeMap<String, Vec<u8>>,
}

impl Environment {
    /// Reads the profiles: a few small files, by their content, because each
    /// renewal writes them again. None while the current one makes no sense: tsh
    /// writes in place, and half a profile is no logout. Another one may be
    /// broken for good; once it is not, it is news.
    #[must_use]
    pub fn login(&self) -> Option<Login> {
        let home = self.tsh_home();
        let login = Login::read(&home);
        let emptied = |text: &Option<Vec<u8>>| text.as_ref().is_some_and(|text| text.trim_ascii().is_empty());
        let half_written = emptied(&login.name) || emptied(&login.profile);
        let settled = !half_written && tsh::current_profile(&home).is_ok() && Login::read(&home) == login;
        settled.then_some(login)
    }

    /// Whether the profiles say, to the letter, what they said then: the quick way to see that there is no news.
    #[must_use]
    pub fn is_still(&self, login: &Login) -> bool {
        Login::read(&self.tsh_home()) == *login
    }
}

impl Login {
    fn read(home: &Path) -> Self {
        let name = std::fs::read(home.join("current-profile")).ok();
        let file = name.as_deref().map(|name| String::from_utf8_lossy(name).trim().to_owned() + ".yaml");
        let profile = file.and_then(|file| std::fs::read(home.join(file)).ok());
        let others = tsh::profile_names(home).into_iter();
        let others = others.filter_map(|name| {
            let text = std::fs::read(home.join(format!("{name}.yaml"))).ok()?;
            Some((name, text))
        });
        Self { name, profile, others: others.collect() }
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
        write("c.example.yaml", "user: [");
        seen.push(env.login());
        write("c.example.yaml", "user: alice\n");
        seen.push(env.login());
        assert_eq!(env.login(), seen[5]);
        assert!(seen.iter().all(Option::is_some), "{seen:?}");
        for (i, one) in seen.iter().enumerate() {
            assert!(seen[i + 1..].iter().all(|other| other != one), "{i}");
        }
    }

    #[test]
    fn a_profile_that_is_being_written_is_no_news() {
        let folder = tempfile::tempdir().unwrap();
        let env = Environment { teleport_home: Some(folder.path().into()), ..Environment::default() };
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let profile = "user: alice\ncluster: lab\n";
        write("a.example.yaml", profile);
        write("current-profile", "a.example\n");
        let before = env.login();
        assert!(before.is_some());
        for half in ["", "user: [", "cluster: lab\n"] {
            write("a.example.yaml", half);
            assert_eq!(env.login(), None, "{half:?}");
            assert!(!env.is_still(before.as_ref().unwrap()), "{half:?}");
        }
        write("a.example.yaml", profile);
        write("current-profile", "");
        assert_eq!(env.login(), None);
        write("current-profile", "a.example\n");
        assert_eq!(env.login(), before, "the same words again");
        assert!(env.is_still(&before.unwrap()));
    }
}
