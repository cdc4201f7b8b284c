//! `natssh doctor`: everything that connections depend on, looked at once.
//!
//! Each part gathers facts, thinly and within a limit of its own, and judges
//! them, purely: facts in, findings out. Nothing is changed, and no server is
//! touched but through the broker, which dials real trunks: an sshd counts
//! connections that only look.

mod ansible;
mod bounded;
mod broker;
mod clock;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod identity;
mod place;
mod report;
mod ssh;
mod upstream;

use crate::config::{self, Environment};
use serde::Serialize;
use std::process::ExitCode;
use std::thread;

/// What a check came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    /// As it should be.
    Ok,
    /// It works, and could be better or safer.
    Warning,
    /// Connections fail because of it, or should.
    Failure,
}

/// One line of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    verdict: Verdict,
    /// The part that was looked at: `config`, `socket`, `upstream` …
    check: &'static str,
    /// One sentence.
    message: String,
    /// What to type or to write, where something is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, message: impl Into<String>) -> Self {
        Self { verdict: Verdict::Ok, check, message: message.into(), fix: None }
    }

    fn warning(check: &'static str, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { verdict: Verdict::Warning, fix: Some(fix.into()), ..Self::ok(check, message) }
    }

    fn failure(check: &'static str, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { verdict: Verdict::Failure, ..Self::warning(check, message, fix) }
    }
}

/// Looks at everything, and prints what was found. `hosts` are asked of ssh, which
/// says whether it goes through natssh for them; without any, a host of each route is made up.
#[must_use]
pub fn run(hosts: &[String], json: bool) -> ExitCode {
    let findings = examine(hosts);
    let text = if json { report::json(&findings) } else { report::text(&findings) };
    let failed = findings.iter().any(|finding| finding.verdict == Verdict::Failure);
    match std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes()) {
        Ok(()) if !failed => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn examine(hosts: &[String]) -> Vec<Finding> {
    let env = Environment::of_process();
    let loaded = config::load(&env);
    let settings = loaded.as_ref().ok();
    let paths = crate::place::paths();
    // What takes time takes it at the same time.
    let (broker, (identities, ssh, clock)) = thread::scope(|scope| {
        let broker = scope.spawn(|| paths.as_ref().ok().map(|paths| broker::gather(&paths.socket)));
        let rest = scope.spawn(|| {
            (identity::gather(settings), ssh::gather(&ssh::hosts(settings, hosts)), clock::gather())
        });
        (broker.join().unwrap_or_default(), rest.join().unwrap_or_default())
    });
    let names = upstream::gather(settings);
    let now = crate::failures::unix_now();
    let mut findings = place::config(&env, &loaded);
    findings.extend(place::socket(&paths, place::gather(&paths)));
    findings.extend(broker.as_ref().map(|broker| broker::judge(broker, settings)).unwrap_or_default());
    findings.extend(identity::judge(&identities, now));
    findings.extend(clock::judge(&clock, &identities, now));
    let answer = broker.as_ref().and_then(|answer| answer.as_ref().ok());
    findings.extend(upstream::judge(settings, &names, answer));
    findings.extend(ssh::judge(&ssh));
    findings.extend(ansible::judge(&ansible::gather(&env.home)));
    findings
}
