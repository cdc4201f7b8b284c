//! The `%` tokens, `~` and `${NAME}` that `ssh -G` leaves as they were written.
//!
//! Pure. Which keyword takes which is in ssh_config(5), TOKENS and ENVIRONMENT VARIABLES; what each stands for,
//! in `main` of ssh.c. `-G` has already expanded HostName, RemoteCommand and, from 8.4 on, IdentityAgent
//! and UserKnownHostsFile: those must not be expanded again.

use sha1::{Digest as _, Sha1};
use thiserror::Error;

/// What the tokens stand for in one call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tokens {
    /// `%h`: HostName, in lower case.
    pub(super) host: String,
    /// `%n`: the host as it was typed.
    pub(super) typed: String,
    /// `%p`.
    pub(super) port: u16,
    /// `%r`: the login at the host.
    pub(super) user: String,
    /// HostKeyAlias, for `%k`, which is `%n` without one.
    pub(super) alias: Option<String>,
    /// `%d` and `~`: the home folder by the system's accounts, whatever `HOME` says.
    pub(super) home: String,
    /// `%u`: this user's name by the system's accounts.
    pub(super) account: String,
    /// `%i`: this user's number.
    pub(super) uid: u32,
    /// `%l`: this machine's name; `%L` is its first part.
    pub(super) machine: String,
    /// `%j`: the last host of ProxyJump.
    pub(super) jump: Option<String>,
}

/// Why a value cannot be expanded. ssh itself would stop, or natssh cannot know.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum Inexpandable {
    /// A token that the keyword does not take.
    #[error("holds %{0}, which nothing stands for there")]
    Token(char),
    /// A percent sign at the end.
    #[error("ends in a single %")]
    Open,
    /// `${` without `}`, or with nothing between.
    #[error("holds a ${{ without a name and a }}")]
    Variable,
    /// A variable that the caller has not.
    #[error("needs the environment variable {0}, which is not set")]
    Unset(String),
    /// `~somebody`.
    #[error("begins with the home folder of another user")]
    OthersHome,
}

/// The tokens of a ProxyCommand (`expand_proxy_command` in sshconnect.c).
const PROXY_COMMAND: &str = "hknpr";

impl Tokens {
    /// A path as IdentityFile and CertificateFile have it: `~`, every token, and variables.
    ///
    /// # Errors
    /// ssh would not know what it means either.
    pub(super) fn path<'v>(
        &self,
        text: &str,
        variable: impl Fn(&str) -> Option<&'v str>,
    ) -> Result<String, Inexpandable> {
        // ssh expands one after the other, so that a token may not make a `~`, and a home folder may hold tokens.
        let text = self.tilde(text)?;
        let mut path = String::new();
        let mut rest = text.as_str();
        while let Some(at) = rest.find(['%', '$']) {
            path.push_str(&rest[..at]);
            rest = &rest[at..];
            if let Some(open) = rest.strip_prefix("${") {
                let (name, behind) = open.split_once('}').ok_or(Inexpandable::Variable)?;
                if name.is_empty() {
                    return Err(Inexpandable::Variable);
                }
                path.push_str(variable(name).ok_or_else(|| Inexpandable::Unset(name.into()))?);
                rest = behind;
            } else if let Some(behind) = rest.strip_prefix('$') {
                path.push('$');
                rest = behind;
            } else {
                let mut behind = rest[1..].chars();
                path.push_str(&self.token(behind.next().ok_or(Inexpandable::Open)?)?);
                rest = behind.as_str();
            }
        }
        path.push_str(rest);
        Ok(path)
    }

    /// A ProxyCommand, ready for the shell.
    ///
    /// # Errors
    /// ssh would not run it either.
    pub(super) fn proxy_command(&self, text: &str) -> Result<String, Inexpandable> {
        let mut command = String::new();
        let mut rest = text.chars();
        while let Some(next) = rest.next() {
            if next != '%' {
                command.push(next);
                continue;
            }
            match rest.next() {
                Some(token) if token == '%' || PROXY_COMMAND.contains(token) => {
                    command.push_str(&self.token(token)?);
                }
                Some(other) => return Err(Inexpandable::Token(other)),
                None => return Err(Inexpandable::Open),
            }
        }
        Ok(command)
    }

    /// `~` and `~/…` (`tilde_expand` in misc.c).
    ///
    /// # Errors
    /// The home of another user, which only the system knows.
    pub(super) fn tilde(&self, text: &str) -> Result<String, Inexpandable> {
        let Some(rest) = text.strip_prefix('~') else { return Ok(text.to_owned()) };
        if !rest.is_empty() && !rest.starts_with('/') {
            return Err(Inexpandable::OthersHome);
        }
        let slash = if self.home.ends_with('/') { "" } else { "/" };
        Ok(format!("{}{slash}{}", self.home, rest.trim_start_matches('/')))
    }

    fn token(&self, token: char) -> Result<String, Inexpandable> {
        Ok(match token {
            '%' => "%".into(),
            // From 9.6 on the jump is part of it, before it is not.
            'C' if self.jump.is_some() => return Err(Inexpandable::Token('C')),
            'C' => self.hash(),
            'd' => self.home.clone(),
            'h' => self.host.clone(),
            'i' => self.uid.to_string(),
            // From 9.6 on; an older ssh stops at it.
            'j' => self.jump.clone().unwrap_or_default(),
            'k' => self.alias.clone().unwrap_or_else(|| self.typed.clone()),
            'L' => self.machine.split('.').next().unwrap_or_default().into(),
            'l' => self.machine.clone(),
            'n' => self.typed.clone(),
            'p' => self.port.to_string(),
            'r' => self.user.clone(),
            'u' => self.account.clone(),
            other => return Err(Inexpandable::Token(other)),
        })
    }

    /// `%C`, the hash of `%l%h%p%r` (`ssh_connection_hash` in readconf.c).
    fn hash(&self) -> String {
        let mut hash = Sha1::new();
        for part in [&self.machine, &self.host, &self.port.to_string(), &self.user] {
            hash.update(part);
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tokens() -> Tokens {
        Tokens {
            host: "web-3.example.com".into(),
            typed: "Web-3".into(),
            port: 2222,
            user: "ops".into(),
            alias: None,
            home: "/home/alice".into(),
            account: "alice".into(),
            uid: 1000,
            machine: "desk.example.org".into(),
            jump: None,
        }
    }

    fn path(text: &str) -> Result<String, Inexpandable> {
        tokens().path(text, |name| (name == "KEYS").then_some("/keys/%h"))
    }

    #[test]
    fn every_token_stands_for_what_ssh_config_says() {
        for (text, expanded) in [
            ("plain", "plain"),
            ("%d/%h/%n/%p", "/home/alice/web-3.example.com/Web-3/2222"),
            ("%r@%k as %u (%i)", "ops@Web-3 as alice (1000)"),
            ("%l %L", "desk.example.org desk"),
            ("100%%", "100%"),
            ("~/.ssh/id", "/home/alice/.ssh/id"),
            ("~//id", "/home/alice/id"),
            ("~", "/home/alice/"),
            ("a~/b", "a~/b"),
            ("${KEYS}/%r", "/keys/%h/ops"),
            ("$KEYS", "$KEYS"),
            ("[%j]", "[]"),
        ] {
            assert_eq!(path(text).as_deref(), Ok(expanded), "{text}");
        }
        let aliased = Tokens { alias: Some("alias".into()), ..tokens() };
        assert_eq!(aliased.path("%k", |_| None).as_deref(), Ok("alias"));
    }

    #[test]
    fn what_ssh_would_stop_at_is_refused() {
        for (text, why) in [
            ("%x", Inexpandable::Token('x')),
            ("%", Inexpandable::Open),
            ("${", Inexpandable::Variable),
            ("${}", Inexpandable::Variable),
            ("${NOT}", Inexpandable::Unset("NOT".into())),
            ("~bob/id", Inexpandable::OthersHome),
        ] {
            assert_eq!(path(text), Err(why), "{text}");
        }
    }

    #[test]
    fn a_proxy_command_has_five_tokens_and_no_variables() {
        let command = tokens().proxy_command("nc ${X} %h %p # %n %k %r 5%%");
        assert_eq!(command.as_deref(), Ok("nc ${X} web-3.example.com 2222 # Web-3 Web-3 ops 5%"));
        assert_eq!(tokens().proxy_command("nc %d"), Err(Inexpandable::Token('d')));
        assert_eq!(tokens().proxy_command("nc %"), Err(Inexpandable::Open));
    }

    proptest! {
        #[test]
        fn text_without_marks_stays_as_it_is(text in "[^%$~]{0,30}") {
            prop_assert_eq!(path(&text), Ok(text.clone()));
            prop_assert_eq!(tokens().proxy_command(&text), Ok(text));
        }

        #[test]
        fn anything_is_expanded_or_refused(text in "\\PC{0,30}") {
            drop(path(&text));
            drop(tokens().proxy_command(&text));
        }
    }
}
