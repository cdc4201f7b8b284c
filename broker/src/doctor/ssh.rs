//! Stock ssh: its version, and whether its configuration leads through natssh.
//!
//! `ssh -G` is OpenSSH's own reader of its configuration, and opens no connection.

use super::Finding;
use super::bounded::program;
use crate::config::{Kind, Settings};
use crate::routes::{Origin, Rule};
use natssh_wire::NodeAddr;
use std::process::Command;
use std::time::Duration;

/// `Match exec` in a configuration may take its time.
const LIMIT: Duration = Duration::from_secs(3);
/// So many hosts are asked for.
const HOSTS: usize = 5;
/// The oldest that reads what `natssh ssh-config` prints.
const OLDEST: (u32, u32) = (8, 4);
/// How ssh is led through natssh.
const INCLUDE: &str =
    "natssh ssh-config > ~/.ssh/natssh.conf\nand on the first line of ~/.ssh/config: Include natssh.conf";

/// What ssh said.
#[derive(Debug, Default)]
pub(super) struct Ssh {
    /// `ssh -V`; none when there is no ssh.
    version: Option<String>,
    /// For each host, what `ssh -G` said of the way to it; none when it said nothing.
    ways: Vec<(Host, Option<Way>)>,
}

/// A host to ask ssh for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Host {
    name: String,
    /// Whether a route leads through an upstream, or it is reached directly.
    routed: bool,
}

/// The way to a host by ssh's configuration.
#[derive(Debug, Default, PartialEq, Eq)]
struct Way {
    proxy_command: Option<String>,
    passes_descriptors: bool,
}

impl Way {
    /// Reads the answer of `ssh -G`: a keyword in lower case and its value on each line.
    fn read(text: &str) -> Self {
        let value = |wanted: &str| {
            let mut pairs = text.lines().filter_map(|line| line.split_once(' '));
            pairs.find(|(key, _)| *key == wanted).map(|(_, value)| value.trim().to_owned())
        };
        Self {
            proxy_command: value("proxycommand").filter(|command| command != "none"),
            passes_descriptors: value("proxyusefdpass").is_some_and(|value| value == "yes"),
        }
    }

    fn is_ours(&self) -> bool {
        let words = self.proxy_command.as_deref().unwrap_or_default();
        words
            .split_whitespace()
            .any(|word| word.trim_matches(['"', '\'']).rsplit('/').next() == Some("natssh"))
    }
}

/// Hosts to ask ssh for: those that are named, else one for each route that leads through an upstream.
pub(super) fn hosts(settings: Option<&Settings>, named: &[String]) -> Vec<Host> {
    let Some(settings) = settings else { return Vec::new() };
    if !named.is_empty() {
        let host = |name: &String| Host { name: name.clone(), routed: is_routed(settings, name) };
        return named.iter().map(host).collect();
    }
    let mut hosts: Vec<Host> = Vec::new();
    for name in settings.routes.rules.iter().filter_map(|rule| host_of(settings, rule)) {
        let host = Host { name, routed: true };
        if !hosts.contains(&host) && hosts.len() < HOSTS {
            hosts.push(host);
        }
    }
    hosts
}

fn is_routed(settings: &Settings, host: &str) -> bool {
    let Ok(node) = NodeAddr::new(host, "22") else { return false };
    let upstream = settings.upstreams.get(&settings.routes.pick(&node).upstream);
    upstream.is_some_and(|upstream| !matches!(upstream.kind, Kind::Direct))
}

/// A host that a rule takes, and that `natssh ssh-config` prints a block for.
fn host_of(settings: &Settings, rule: &Rule) -> Option<String> {
    let upstream =
        settings.upstreams.get(&rule.upstream).filter(|found| !matches!(found.kind, Kind::Direct))?;
    let of_cluster = |pattern: &str| {
        upstream
            .cluster
            .as_ref()
            .is_some_and(|cluster| pattern.ends_with(&format!(".{}", cluster.to_lowercase())))
    };
    let patterns = rule.hosts.iter().filter(|pattern| !pattern.is_negated()).map(ToString::to_string);
    let fits = |pattern: &String| !matches!(rule.origin, Origin::Names { .. }) || of_cluster(pattern);
    let host = patterns.filter(fits).map(|pattern| pattern.replace('*', "natssh-doctor").replace('?', "x"));
    let goes_there = |host: &String| {
        NodeAddr::new(host, "22").is_ok_and(|node| settings.routes.pick(&node).upstream == rule.upstream)
    };
    host.into_iter().find(goes_there)
}

pub(super) fn gather(hosts: &[Host]) -> Ssh {
    let ask = |words: &[&str]| {
        let mut command = Command::new("ssh");
        command.args(words);
        program(command, LIMIT).filter(|said| said.well).map(|said| said.text)
    };
    let version = ask(&["-V"]);
    let way = |host: &Host| (host.clone(), ask(&["-G", "--", &host.name]).map(|text| Way::read(&text)));
    let ways = if version.is_some() { hosts.iter().map(way).collect() } else { Vec::new() };
    Ssh { version, ways }
}

pub(super) fn judge(ssh: &Ssh) -> Vec<Finding> {
    let Some(text) = &ssh.version else {
        return vec![Finding::failure("ssh", "there is no ssh in PATH", "install OpenSSH's client")];
    };
    let said = text.lines().next().unwrap_or_default();
    let mut findings = vec![match version(said) {
        Some(version) if version < OLDEST => {
            let (major, minor) = OLDEST;
            let text =
                format!("{said} is older than {major}.{minor}, which reads what natssh ssh-config prints");
            Finding::warning("ssh", text, "install a newer OpenSSH")
        }
        Some(_) => Finding::ok("ssh", format!("{said}: takes connections from natssh (ProxyUseFdpass)")),
        None => Finding::warning("ssh", format!("{said:?} is not OpenSSH"), "install OpenSSH's client"),
    }];
    findings.extend(ssh.ways.iter().map(|(host, way)| judge_way(host, way.as_ref())));
    findings
}

fn judge_way(host: &Host, way: Option<&Way>) -> Finding {
    let name = &host.name;
    match way {
        None => Finding::warning("ssh", format!("ssh -G {name} says nothing"), format!("ssh -G {name}")),
        Some(way) if way.is_ours() && way.passes_descriptors => {
            Finding::ok("ssh", format!("reaches {name} through natssh"))
        }
        Some(way) if way.is_ours() => {
            let text = format!("reaches {name} through natssh, which has to copy every byte for it");
            Finding::warning("ssh", text, "add to the block of ssh's configuration: ProxyUseFdpass yes")
        }
        Some(_) if !host.routed => {
            Finding::ok("ssh", format!("reaches {name} without natssh, which has no route for it either"))
        }
        Some(Way { proxy_command: Some(command), .. }) => {
            let text = format!("reaches {name} through another ProxyCommand: {command}");
            Finding::warning("ssh", text, INCLUDE)
        }
        Some(_) => Finding::warning("ssh", format!("does not go through natssh for {name}"), INCLUDE),
    }
}

/// The numbers of `OpenSSH_9.2p1 Debian-2, OpenSSL 3`.
fn version(text: &str) -> Option<(u32, u32)> {
    let numbers = text.split_once("OpenSSH_")?.1;
    let numbers = numbers.split_once("for_Windows_").map_or(numbers, |(_, rest)| rest);
    let (major, rest) = numbers.split_once('.')?;
    let minor: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn the_version_decides_what_ssh_can_do() {
        let judged = |version: Option<&str>| {
            judge(&Ssh { version: version.map(Into::into), ways: Vec::new() })[0].verdict
        };
        assert_eq!(judged(Some("OpenSSH_9.2p1 Debian-2+deb12u3, OpenSSL 3.0.15")), Verdict::Ok);
        assert_eq!(judged(Some("OpenSSH_10.0p2, OpenSSL 3.5\n")), Verdict::Ok);
        assert_eq!(judged(Some("OpenSSH_7.4p1, OpenSSL 1.0.2k-fips")), Verdict::Warning);
        assert_eq!(judged(Some("Dropbear v2022.83")), Verdict::Warning);
        assert_eq!(judged(None), Verdict::Failure);
    }

    proptest::proptest! {
        #[test]
        fn whatever_ssh_says_is_read_to_its_end(text in "OpenSSH_[0-9._a-z]{0,8}|([a-z ]{0,20}\n){0,6}|\\PC{0,60}") {
            let _ = (version(&text), Way::read(&text).is_ours());
        }
    }

    #[test]
    fn only_a_proxy_command_of_natssh_is_the_way_through_it() {
        let host = |routed| Host { name: "web".into(), routed };
        let judged = |text: &str| judge_way(&host(true), Some(&Way::read(text))).verdict;
        let fdpass = "\nproxyusefdpass yes\n";
        for ours in
            ["natssh proxy web 22", "/usr/local/bin/natssh proxy web 22", "env A=b '/a/natssh' proxy web 22"]
        {
            assert_eq!(judged(&format!("user me\nproxycommand {ours}{fdpass}")), Verdict::Ok, "{ours}");
        }
        assert_eq!(judged("proxycommand natssh proxy web 22\nproxyusefdpass no\n"), Verdict::Warning);
        assert_eq!(judged(&format!("proxycommand nc -X natssh.example web 22{fdpass}")), Verdict::Warning);
        assert_eq!(judged("proxycommand none\n"), Verdict::Warning);
        assert_eq!(judge_way(&host(true), None).verdict, Verdict::Warning);
        assert_eq!(
            judge_way(&host(false), Some(&Way::default())).verdict,
            Verdict::Ok,
            "no route, no natssh"
        );
    }
}
