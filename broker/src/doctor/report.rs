//! Findings as lines for a person, and as JSON for a program. Pure.

use super::{Finding, Verdict};
use serde::Serialize;

/// One line each, what to do below it, and the sum at the end.
pub(super) fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let verdict = match finding.verdict {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Failure => "failure",
        };
        let mut lines = finding.message.lines().map(plain);
        let first = lines.next().unwrap_or_default();
        text.push_str(&format!("{verdict:<8} {:<9} {first}\n", finding.check));
        for more in lines {
            text.push_str(&format!("{:<8} {:<9} {more}\n", "", ""));
        }
        for (n, fix) in finding.fix.iter().flat_map(|fix| fix.lines()).enumerate() {
            let begin = if n == 0 { "fix:" } else { "    " };
            text.push_str(&format!("{:<8} {:<9} {begin} {}\n", "", "", plain(fix)));
        }
    }
    let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    let noun = |number: usize, noun: &str| format!("{number} {noun}{}", if number == 1 { "" } else { "s" });
    let (warnings, failures) = (count(Verdict::Warning), count(Verdict::Failure));
    text + &format!(
        "{}: {}, {}\n",
        noun(findings.len(), "finding"),
        noun(failures, "failure"),
        noun(warnings, "warning")
    )
}

/// One object; its fields are described in docs/doctor.md.
pub(super) fn json(findings: &[Finding]) -> String {
    #[derive(Serialize)]
    struct Report<'f> {
        ok: bool,
        findings: &'f [Finding],
    }
    let ok = findings.iter().all(|finding| finding.verdict != Verdict::Failure);
    // Plain data with string keys cannot fail to become JSON.
    serde_json::to_string_pretty(&Report { ok, findings }).unwrap_or_default() + "\n"
}

/// A line of foreign text must not steer a terminal.
fn plain(line: &str) -> String {
    line.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_are_calm_and_the_fix_stands_below() {
        let findings = [
            Finding::ok("socket", "/s, yours alone"),
            Finding::warning("ansible", "pipelining is off", "[connection]\npipelining = True"),
            Finding::failure("upstream", "proxy\x1b[2J is down", "natssh status"),
        ];
        let expected = "\
ok       socket    /s, yours alone
warning  ansible   pipelining is off
                   fix: [connection]
                        pipelining = True
failure  upstream  proxy[2J is down
                   fix: natssh status
3 findings: 1 failure, 1 warning
";
        assert_eq!(text(&findings), expected);
        let json: serde_json::Value = serde_json::from_str(&json(&findings)).unwrap();
        assert_eq!(
            (json["ok"].as_bool(), json["findings"][1]["verdict"].as_str()),
            (Some(false), Some("warning"))
        );
        assert!(json["findings"][0].get("fix").is_none());
    }
}
