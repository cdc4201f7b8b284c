//! `natssh identities`: who one is towards which upstream, and for how long.
//!
//! The files and agents are read here and now, by the caller: no broker is
//! needed, and the caller's agent is the one that is shown.

use crate::config::{self, Environment, Settings};
use crate::failures::unix_now;
use crate::identity::lifetime::span;
use crate::identity::{Source, Watched};
use crate::text::one_line;
use natssh_wire::status::{Identity, IdentityState};
use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

/// An agent may wait for a person, and is not waited for.
const LIMIT: Duration = Duration::from_secs(3);

/// Prints every identity of the configuration. Exit status 1 when one that an upstream uses is of no use.
#[must_use]
pub fn run(json: bool) -> ExitCode {
    let settings = match config::load(&Environment::of_process()) {
        Ok(settings) => settings,
        Err(complaints) => return fail(&format!("natssh: {}", complaints.to_failure())),
    };
    let found = look(&settings);
    let text = if json {
        serde_json::to_string_pretty(&found).map(|text| text + "\n").unwrap_or_default()
    } else {
        page(&found, unix_now())
    };
    if std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes()).is_err() {
        return ExitCode::FAILURE;
    }
    let ill = |identity: &Identity| !identity.upstreams.is_empty() && !identity.state.is_good();
    if found.iter().any(ill) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn fail(line: &str) -> ExitCode {
    // eprintln! would panic where stderr is closed.
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("{line}\n").as_bytes());
    ExitCode::FAILURE
}

/// All of them, each read on a thread of its own: one slow agent costs [`LIMIT`] once.
fn look(settings: &Settings) -> Vec<Identity> {
    let reading: Vec<_> = settings
        .identities
        .iter()
        .map(|(name, source)| {
            let read = source.for_this_process();
            let (told, answer) = mpsc::sync_channel(1);
            let named = name.clone();
            std::thread::spawn(move || {
                // Nobody listens any more when it took too long.
                let _ = told.send(Watched::open(&named, read).status(unix_now()));
            });
            (name, source, answer)
        })
        .collect();
    let deadline = std::time::Instant::now() + LIMIT;
    let entry = |(name, source, answer): (&String, &Source, mpsc::Receiver<Identity>)| {
        let left = deadline.saturating_duration_since(std::time::Instant::now());
        let mut identity = answer.recv_timeout(left).unwrap_or_else(|_| silent(name, source));
        identity.upstreams = settings.upstreams_of(name);
        identity
    };
    reading.into_iter().map(entry).collect()
}

fn silent(name: &str, source: &Source) -> Identity {
    Identity {
        name: name.into(),
        source: source.to_string(),
        kind: source.kind().into(),
        state: IdentityState::Unusable,
        user: None,
        cluster: None,
        upstreams: Vec::new(),
        principals: Vec::new(),
        valid_from: None,
        valid_until: None,
        generation: 0,
        message: Some(format!("{source} did not answer within {} s", LIMIT.as_secs())),
        hint: Some("ssh-add -l".into()),
    }
}

fn page(identities: &[Identity], now: u64) -> String {
    if identities.is_empty() {
        return "no identities: log in with tsh, or write an [identity.NAME]\n".into();
    }
    let blocks: Vec<String> = identities.iter().map(|identity| block(identity, now)).collect();
    blocks.join("\n")
}

/// One identity. What is unknown has no line.
fn block(identity: &Identity, now: u64) -> String {
    let mut text = format!("{}: {}\n", one_line(&identity.name), identity.state.in_words());
    let mut line = |label: &str, value: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {label:<9}{}", one_line(&value));
    };
    line("source", identity.source.clone());
    if let Some(user) = &identity.user {
        line("user", user.clone());
    }
    if let Some(cluster) = &identity.cluster {
        line("cluster", cluster.clone());
    }
    if !identity.principals.is_empty() {
        line("logins", identity.principals.join(", "));
    }
    if let Some(from) = identity.valid_from.filter(|from| *from > 0) {
        line("from", moment(from, now));
    }
    if let Some(until) = identity.valid_until {
        line("until", moment(until, now));
    }
    let used =
        if identity.upstreams.is_empty() { "no upstream".into() } else { identity.upstreams.join(", ") };
    line("used by", used);
    if let Some(message) = &identity.message {
        line("problem", message.clone());
    }
    if let Some(hint) = &identity.hint {
        line("try", hint.clone());
    }
    text
}

/// `2026-11-23T08:00:00Z (2 hours ago)`.
fn moment(unix: u64, now: u64) -> String {
    let distance =
        if unix > now { format!("in {}", span(unix - now)) } else { format!("{} ago", span(now - unix)) };
    match SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(unix)) {
        // humantime writes four digits of a year.
        Some(time) if unix < 253_402_300_800 => {
            format!("{} ({distance})", humantime::format_rfc3339_seconds(time))
        }
        _ => "never".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_says_what_is_known_and_nothing_else() {
        let mut identity = silent("me", &Source::Agent(None));
        assert_eq!(
            block(&identity, 0),
            format!(
                "me: unusable\n  source   {0}\n  used by  no upstream\n  problem  {0} did not answer within 3 s\n  try      ssh-add -l\n",
                Source::Agent(None)
            )
        );
        identity = Identity {
            state: IdentityState::Valid,
            user: Some("alice\nbob".into()),
            principals: vec!["root".into(), "ops".into()],
            valid_from: Some(1_000_000_000),
            valid_until: Some(1_000_043_200),
            upstreams: vec!["office".into()],
            message: None,
            hint: None,
            ..identity
        };
        let text = block(&identity, 1_000_036_000);
        assert!(text.starts_with("me: valid\n"), "{text}");
        assert!(!text.contains("alice\nbob"), "{text}");
        assert!(text.contains("\n  logins   root, ops\n"), "{text}");
        assert!(text.contains("\n  from     2001-09-09T01:46:40Z (10 hours ago)\n"), "{text}");
        assert!(text.contains("\n  until    2001-09-09T13:46:40Z (in 2 hours)\n"), "{text}");
        assert!(text.ends_with("\n  used by  office\n"), "{text}");
    }

    #[test]
    fn a_certificate_without_an_end_has_none() {
        assert_eq!(moment(u64::MAX, 5), "never");
    }
}
