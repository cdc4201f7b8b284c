//! The broker: does it answer, is it of this version, does it run by this configuration.

use super::Finding;
use crate::config::Settings;
use crate::probe::{self, NoAnswer};
use crate::text::in_words;
use natssh_wire::status::Status;
use natssh_wire::{Failure, PROTOCOL, VERSION};
use std::path::Path;

/// The broker's answer to a probe, within 5.5 s.
pub(super) fn gather(socket: &Path) -> Result<Status, NoAnswer> {
    probe::question(socket)
}

pub(super) fn judge(answer: &Result<Status, NoAnswer>, settings: Option<&Settings>) -> Vec<Finding> {
    let status = match answer {
        Ok(status) => status,
        Err(NoAnswer::Absent) => {
            return vec![Finding::failure("broker", "no broker is running", "natssh broker start")];
        }
        Err(NoAnswer::Refused(Failure { message, hint, .. })) => {
            let fix = hint.clone().unwrap_or_else(|| "natssh broker restart".into());
            return vec![Finding::failure("broker", message, fix)];
        }
        Err(NoAnswer::Silent) => {
            return vec![Finding::failure("broker", "the broker does not answer", "natssh broker logs")];
        }
    };
    let mut findings = Vec::new();
    if status.version != VERSION || status.protocol != PROTOCOL {
        let text = format!("the broker is version {}, natssh is {VERSION}", status.version);
        findings.push(Finding::warning("broker", text, "natssh broker restart"));
    }
    if status.draining {
        findings.push(Finding::warning("broker", "the broker is leaving", "natssh broker start"));
    }
    let ours = settings.map(|settings| settings.path.as_ref().map(|path| path.display().to_string()));
    if let Some(ours) = ours.filter(|ours| *ours != status.config) {
        let word = |path: &Option<String>| path.clone().unwrap_or_else(|| "no file".into());
        let text = format!("the broker runs by {}, and here {} counts", word(&status.config), word(&ours));
        findings.push(Finding::warning("broker", text, "natssh broker restart"));
    }
    let told = settings.map(|settings| settings.warnings.as_slice()).unwrap_or_default();
    for warning in status.warnings.iter().filter(|warning| !told.contains(warning)) {
        findings.push(Finding::warning("broker", warning, "natssh broker logs"));
    }
    if findings.is_empty() {
        let up = in_words(status.uptime_seconds);
        findings.push(Finding::ok("broker", format!("version {VERSION}, pid {}, up {up}", status.pid)));
    }
    findings
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::Verdict;
    use super::*;
    use natssh_wire::FailureKind;

    /// A broker without upstreams.
    pub(in super::super) fn status() -> Status {
        let text = r#"{"version": "", "protocol": 1, "pid": 7, "started_at": 1, "uptime_seconds": 5,
            "memory_bytes": 1, "socket": "/s", "healthy": true, "draining": false, "upstreams": [],
            "identities": [], "failures": [],
            "requests": {"accepted": 1, "strangers": 0, "malformed": 0, "timed_out": 0, "busy": 0}}"#;
        Status { version: VERSION.into(), ..serde_json::from_str(text).unwrap() }
    }

    fn judged(answer: &Result<Status, NoAnswer>) -> (Verdict, Option<String>) {
        let findings = judge(answer, None);
        assert_eq!(findings.len(), 1, "{findings:?}");
        (findings[0].verdict, findings[0].fix.clone())
    }

    #[test]
    fn whatever_keeps_the_broker_from_serving_has_its_own_fix() {
        let fix = |text: &str| Some(text.to_owned());
        assert_eq!(judged(&Ok(status())), (Verdict::Ok, None));
        assert_eq!(judged(&Err(NoAnswer::Absent)), (Verdict::Failure, fix("natssh broker start")));
        assert_eq!(judged(&Err(NoAnswer::Silent)), (Verdict::Failure, fix("natssh broker logs")));
        let refused = Failure::new(FailureKind::Version, "another version").hint("natssh broker restart");
        assert_eq!(
            judged(&Err(NoAnswer::Refused(refused))),
            (Verdict::Failure, fix("natssh broker restart"))
        );
        let old = Status { version: "0.0.9".into(), ..status() };
        assert_eq!(judged(&Ok(old)), (Verdict::Warning, fix("natssh broker restart")));
        let warned = Status { warnings: vec!["the port is taken".into()], ..status() };
        assert_eq!(judged(&Ok(warned)), (Verdict::Warning, fix("natssh broker logs")));
    }
}
