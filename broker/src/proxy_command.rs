//! A ProxyCommand: text with OpenSSH's `%` tokens that becomes a shell command.
//!
//! Pure: no I/O, knows nobody. The tokens are those that ssh itself expands there
//! (`expand_proxy_command` in sshconnect.c): `%%`, `%h`, `%n`, `%p`, `%r`, and `%k`,
//! which the manual page leaves out.
//!
//! What a token stands for goes into a shell's command line as it is, because a
//! person may have put it inside quotes of their own. So a value that a shell would
//! read as anything but a plain word is refused, as ssh refuses it on its command line.

use std::fmt;
use thiserror::Error;

/// A ProxyCommand that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyCommand {
    /// As it was written.
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Token(Token),
}

/// What stands for something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    /// `%h`: the host to reach.
    Host,
    /// `%k`: the name to look for in known_hosts. ssh's HostKeyAlias is not known here, so it is `%n`.
    HostKeyAlias,
    /// `%n`: the host as it was asked for.
    Name,
    /// `%p`: the port.
    Port,
    /// `%r`: the login at the host.
    Login,
}

/// What the tokens stand for.
#[derive(Debug, Clone, Copy)]
pub struct Values<'v> {
    /// The host to reach.
    pub host: &'v str,
    /// The host as it was asked for.
    pub name: &'v str,
    /// The port.
    pub port: u16,
    /// The login at the host, if the caller said which.
    pub login: Option<&'v str>,
}

/// Why text is no ProxyCommand.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Malformed {
    /// There is nothing to run.
    #[error("is empty")]
    Empty,
    /// A line break or another control character: `exec` takes one line.
    #[error("holds {0:?}")]
    Control(char),
    /// A token that ssh does not expand in a ProxyCommand.
    #[error("holds %{0}, which is none of %h, %n, %p, %r and %k; write %% for a percent sign")]
    Unknown(char),
    /// A percent sign at the end.
    #[error("ends in a single %; write %% for a percent sign")]
    Open,
}

/// Why the tokens cannot be replaced.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Unfit {
    /// `%r` without a login.
    #[error("its %r needs the login, which the caller did not tell")]
    NoLogin,
    /// A value with something in it that a shell would not take as a plain word.
    #[error("{what} {value:?} holds {bad:?}, which a shell may take for a command")]
    NotPlain {
        /// What the value is, in words.
        what: &'static str,
        /// The value.
        value: String,
        /// What is wrong with it.
        bad: char,
    },
}

impl ProxyCommand {
    /// Reads a ProxyCommand.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        if text.trim().is_empty() {
            return Err(Malformed::Empty);
        }
        if let Some(bad) = text.chars().find(|c| c.is_control() && *c != '\t') {
            return Err(Malformed::Control(bad));
        }
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text.chars();
        while let Some(next) = rest.next() {
            if next != '%' {
                plain.push(next);
                continue;
            }
            let token = match rest.next() {
                Some('%') => {
                    plain.push('%');
                    continue;
                }
                Some('h') => Token::Host,
                Some('k') => Token::HostKeyAlias,
                Some('n') => Token::Name,
                Some('p') => Token::Port,
                Some('r') => Token::Login,
                Some(other) => return Err(Malformed::Unknown(other)),
                None => return Err(Malformed::Open),
            };
            parts.push(Part::Text(std::mem::take(&mut plain)));
            parts.push(Part::Token(token));
        }
        parts.push(Part::Text(plain));
        Ok(Self { text: text.to_owned(), parts })
    }

    /// The command for one host, for a shell to run.
    ///
    /// # Errors
    /// A value that is missing, or that must not reach a shell.
    pub fn expand(&self, values: &Values<'_>) -> Result<String, Unfit> {
        let mut command = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => command.push_str(text),
                Part::Token(Token::Host) => command.push_str(plain("the host name", values.host)?),
                Part::Token(Token::Name | Token::HostKeyAlias) => {
                    command.push_str(plain("the host name", values.name)?);
                }
                Part::Token(Token::Port) => command.push_str(&values.port.to_string()),
                Part::Token(Token::Login) => {
                    command.push_str(plain("the login", values.login.ok_or(Unfit::NoLogin)?)?);
                }
            }
        }
        Ok(command)
    }

    /// Whether it says where the login belongs.
    #[must_use]
    pub fn needs_login(&self) -> bool {
        self.parts.contains(&Part::Token(Token::Login))
    }

    /// Whether it runs `natssh proxy`, which asks this broker for the way that this command should be:
    /// also behind `exec`, `env` and variables, and by a path.
    #[must_use]
    pub fn is_natssh_itself(&self) -> bool {
        let words = words(&self.text);
        let mut words = words.iter().map(String::as_str).skip_while(|word| is_prefix(word));
        let program = words.next().and_then(|path| path.rsplit('/').next());
        program == Some("natssh") && words.find(|word| !word.starts_with('-')) == Some("proxy")
    }
}

/// As it was written.
impl fmt::Display for ProxyCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What may stand before the program: words that run what follows, their options, and variables.
fn is_prefix(word: &str) -> bool {
    let variable = word.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    });
    let runner = matches!(word.rsplit('/').next(), Some("exec" | "env" | "nice" | "nohup" | "command"));
    variable || runner || word.starts_with('-')
}

/// The words of a command as a shell would part them, quotes removed; what it would expand stays as it is.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut rest = text.chars();
    while let Some(next) = rest.next() {
        match (quote, next) {
            (Some(open), _) if open == next => quote = None,
            (None, '\'' | '"') => {
                quote = Some(next);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => word.get_or_insert_default().extend(rest.next()),
            (None, blank) if blank.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(next),
        }
    }
    words.extend(word);
    words
}

/// The value, if a shell takes it as one plain word wherever it stands.
fn plain<'v>(what: &'static str, value: &'v str) -> Result<&'v str, Unfit> {
    let harmless = |c: char| c.is_alphanumeric() || "._-:@+,/=%".contains(c);
    // At its beginning a dash would make it an option.
    let bad = value.chars().find(|c| !harmless(*c)).or_else(|| value.chars().next().filter(|c| *c == '-'));
    match bad {
        Some(bad) => Err(Unfit::NotPlain { what, value: value.into(), bad }),
        None => Ok(value),
    }
}

#[cfg(test)]
mod tests;
