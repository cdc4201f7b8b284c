//! What the tables of a file mean to each other: names that must exist, keys that exclude each other.
//!
//! Pure. It reports everything it finds; what passes here resolves without an error.

use super::complaint::Complaint;
use super::file::{At, File, IdentityTable, KindWord, RouteTable, UpstreamTable};
use super::page::closest;
use crate::routes::DIRECT;

/// Complains about a file that was read, given the names of the tsh profiles,
/// which are upstreams and identities as well.
#[must_use]
pub(super) fn check(file: &File, profiles: &[&str]) -> Vec<Complaint> {
    let mut checker = Checker { file, profiles, complaints: Vec::new() };
    for (name, table) in &file.upstreams {
        checker.upstream(name, table);
    }
    for (name, table) in &file.identities {
        checker.identity(name, table);
    }
    for (n, route) in file.routes.iter().enumerate() {
        checker.route(&format!("[[route]] number {}", n + 1), route);
    }
    if let Some(default) = &file.default {
        checker.upstream_exists("default", default);
    }
    checker.complaints
}

struct Checker<'f> {
    file: &'f File,
    profiles: &'f [&'f str],
    complaints: Vec<Complaint>,
}

impl Checker<'_> {
    fn upstream(&mut self, name: &str, table: &UpstreamTable) {
        let title = format!("[upstream.{name}]");
        self.name_is_plain(&title, name, table.line);
        let Some(kind) = &table.kind else {
            return;
        };
        if name == DIRECT && kind.value != KindWord::Direct {
            self.complain(
                kind.line,
                format!("{title}: \"direct\" is the name of plain TCP; call this upstream otherwise"),
            );
        }
        let routed = table.tls_routing.as_ref().is_some_and(|at| at.value);
        for (key, line) in table.keys() {
            let Some(line) = line else { continue };
            if !kind.value.knows(key) {
                let whom = kind.value.in_words();
                self.complain(line, format!("{title}: {key} means nothing to {whom}"));
            } else if !routed && ["connection_upgrade", "tls_ca"].contains(&key) {
                self.complain(line, format!("{title}: {key} means nothing without tls_routing = true"));
            }
        }
        if kind.value.has_trunks() {
            self.identity_exists(&title, table.identity.as_ref());
            if table.identity.is_none() && self.file.identities.len() > 1 {
                let names: Vec<_> = self.file.identities.keys().map(String::as_str).collect();
                let message = format!(
                    "{title}: there are several identities; choose one with identity = \"…\": {}",
                    names.join(", ")
                );
                self.complain(table.line, message);
            }
        }
        if let Some(via) = &table.via {
            self.upstream_exists(&title, via);
            self.via_ends(&title, name, via);
        }
    }

    /// A chain of bastions must lead somewhere.
    fn via_ends(&mut self, title: &str, name: &str, via: &At<String>) {
        let mut passed = vec![name];
        let mut next = Some(via.value.as_str());
        while let Some(upstream) = next {
            if passed.contains(&upstream) {
                passed.push(upstream);
                self.complain(via.line, format!("{title}: via goes in a circle: {}", passed.join(" via ")));
                return;
            }
            passed.push(upstream);
            let table = self.file.upstreams.get(upstream);
            next = table.and_then(|table| table.via.as_ref()).map(|via| via.value.as_str());
        }
    }

    fn identity(&mut self, name: &str, table: &IdentityTable) {
        let title = format!("[identity.{name}]");
        self.name_is_plain(&title, name, table.line);
        let sources = [
            ("tsh", table.tsh.as_ref().map(|at| at.line)),
            ("file", table.file.as_ref().map(|at| at.line)),
            ("directory", table.directory.as_ref().map(|at| at.line)),
            ("key", table.key.as_ref().map(|at| at.line)),
            ("agent", table.agent.as_ref().map(|at| at.line)),
        ];
        let given: Vec<_> = sources.iter().filter_map(|(key, line)| line.map(|line| (*key, line))).collect();
        match given.as_slice() {
            [_] => {}
            [] => {
                self.complain(
                    table.line,
                    format!("{title}: needs one of tsh, file, directory, key or agent"),
                );
            }
            [first, others @ ..] => {
                for (key, line) in others {
                    self.complain(
                        *line,
                        format!("{title}: {key} beside {}: an identity has one source", first.0),
                    );
                }
            }
        }
        for (key, line, companion, present) in [
            ("home", table.home.as_ref().map(|at| at.line), "tsh", table.tsh.is_some()),
            ("certificate", table.certificate.as_ref().map(|at| at.line), "key", table.key.is_some()),
        ] {
            if let (Some(line), false) = (line, present) {
                self.complain(line, format!("{title}: {key} means nothing without {companion}"));
            }
        }
    }

    fn route(&mut self, title: &str, route: &RouteTable) {
        if let Some(hosts) = &route.hosts
            && hosts.value.iter().all(|pattern| pattern.value.is_negated())
        {
            let message = "hosts takes no host at all; add a pattern without \"!\", such as \"*\"";
            self.complain(hosts.line, format!("{title}: {message}"));
        }
        if let Some(upstream) = &route.upstream {
            self.upstream_exists(title, upstream);
        }
        self.identity_exists(title, route.identity.as_ref());
        let target = route.upstream.as_ref().map(|upstream| upstream.value.as_str());
        let Some(kind) = target.and_then(|name| self.kind_of(name)) else { return };
        for (key, line) in [
            ("cluster", route.cluster.as_ref().map(|at| at.line)),
            ("login", route.login.as_ref().map(|at| at.line)),
            ("identity", route.identity.as_ref().map(|at| at.line)),
        ] {
            if let Some(line) = line.filter(|_| !kind.knows(key)) {
                self.complain(line, format!("{title}: {key} means nothing to {}", kind.in_words()));
            }
        }
    }

    /// The kind of an upstream; none for a tsh profile, which knows every key.
    fn kind_of(&self, upstream: &str) -> Option<KindWord> {
        match self.file.upstreams.get(upstream) {
            Some(table) => table.kind.as_ref().map(|kind| kind.value),
            None => (upstream == DIRECT).then_some(KindWord::Direct),
        }
    }

    fn upstream_exists(&mut self, title: &str, name: &At<String>) {
        let known: Vec<&str> = self
            .file
            .upstreams
            .keys()
            .map(String::as_str)
            .chain(self.profiles.iter().copied())
            .chain([DIRECT])
            .collect();
        self.exists(title, "upstream", name, &known);
    }

    fn identity_exists(&mut self, title: &str, name: Option<&At<String>>) {
        let Some(name) = name else { return };
        let known: Vec<&str> =
            self.file.identities.keys().map(String::as_str).chain(self.profiles.iter().copied()).collect();
        self.exists(title, "identity", name, &known);
    }

    fn exists(&mut self, title: &str, noun: &str, name: &At<String>, known: &[&str]) {
        if known.contains(&name.value.as_str()) {
            return;
        }
        let advice = match closest(&name.value, known.iter().copied()) {
            Some(near) => format!("; did you mean {near:?}?"),
            None if known.is_empty() => "; write its table, or log in with tsh".into(),
            None => format!("; there is {}", known.join(", ")),
        };
        self.complain(name.line, format!("{title}: no {noun} is called {:?}{advice}", name.value));
    }

    /// Names go into status, logs and comments: no line breaks, nothing invisible.
    fn name_is_plain(&mut self, title: &str, name: &str, line: usize) {
        if name.is_empty() || name.chars().any(|c| c.is_control() || c.is_whitespace()) {
            self.complain(line, format!("{}: a name is one word", title.escape_debug()));
        }
    }

    fn complain(&mut self, line: usize, message: impl Into<String>) {
        self.complaints.push(Complaint { line, message: message.into() });
    }
}
