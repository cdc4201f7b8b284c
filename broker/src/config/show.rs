//! The resolved configuration as TOML, each value with a comment on where it comes from.
//!
//! Pure. What it prints can be loaded again and then means the same, which makes it
//! the way to see what natssh made of a file, or of none. It holds paths and no secrets.

use super::file::{At, File, RouteTable, UpstreamTable};
use super::{Kind, Settings, Upstream};
use crate::identity::Source;
use crate::routes::{Origin, Rule};
use std::fmt::{self, Write as _};
use std::path::Path;
use std::time::Duration;

/// Prints settings, with the file they were resolved from at hand for its lines.
#[must_use]
pub(super) fn show(settings: &Settings, file: &File) -> String {
    let mut page = String::new();
    let source = match &settings.path {
        Some(path) => format!("# resolved from {}; \"line\" means its lines", path.display()),
        None => "# resolved without a file".into(),
    };
    put(&mut page, &source);
    for warning in &settings.warnings {
        put(&mut page, &format!("# warning: {warning}"));
    }
    match &file.default {
        Some(default) => entry(&mut page, "default", &quoted(&default.value), &line(default)),
        None => put(&mut page, "# no default: hosts that no route names are reached directly"),
    }
    for (name, upstream) in &settings.upstreams {
        show_upstream(&mut page, upstream, file.upstreams.get(name));
    }
    for (name, source) in &settings.identities {
        let origin = match file.identities.get(name) {
            Some(table) => format!("line {}", table.line),
            None => "tsh".into(),
        };
        show_identity(&mut page, name, source, &origin);
    }
    if let Some(listen) = file.metrics.as_ref().and_then(|table| table.listen.as_ref()) {
        put(&mut page, "\n[metrics]");
        entry(&mut page, "listen", &quoted(&listen.value.to_string()), &line(listen));
    }
    for (n, rule) in settings.routes.rules.iter().enumerate() {
        match (&rule.origin, file.routes.get(n)) {
            (Origin::Route { .. }, Some(table)) => show_route(&mut page, rule, table),
            (Origin::Names { .. }, _) => show_implied(&mut page, rule),
            // Printed on top.
            (Origin::Default { .. }, _) | (Origin::Route { .. }, None) => {}
        }
    }
    page
}

fn show_upstream(page: &mut String, upstream: &Upstream, table: Option<&UpstreamTable>) {
    let unwritten = match (&upstream.kind, table) {
        (Kind::Teleport { .. } | Kind::Bastion(_), None) => "tsh profile",
        (Kind::Direct | Kind::Command(_), None) => "always there",
        (_, Some(_)) => "default",
    };
    put(page, &format!("\n[upstream.{}]", key(&upstream.name)));
    match &upstream.kind {
        Kind::Direct => {
            entry(page, "kind", "\"direct\"", &origin(table.and_then(|t| t.kind.as_ref()), unwritten));
        }
        Kind::Command(command) => {
            entry(page, "kind", "\"command\"", &origin(table.and_then(|t| t.kind.as_ref()), unwritten));
            let written = table.and_then(|t| t.command.as_ref());
            entry(page, "command", &quoted(&command.to_string()), &origin(written, unwritten));
        }
        Kind::Teleport { proxy, others, tls } => {
            entry(page, "kind", "\"teleport\"", &origin(table.and_then(|t| t.kind.as_ref()), unwritten));
            let written = table.and_then(|t| t.proxy.as_ref());
            let all = || list(upstream.proxies().iter().map(|proxy| quoted(&proxy.to_string())));
            let proxy = if others.is_empty() { quoted(&proxy.to_string()) } else { all() };
            entry(page, "proxy", &proxy, &origin(written, unwritten));
            if let Some(tls) = tls {
                let written = table.and_then(|t| t.tls_routing.as_ref());
                entry(page, "tls_routing", "true", &origin(written, unwritten));
                if tls.upgrade {
                    let written = table.and_then(|t| t.connection_upgrade.as_ref());
                    entry(page, "connection_upgrade", "true", &origin(written, unwritten));
                }
                if !tls.authorities.is_empty() {
                    let written = table.and_then(|t| t.tls_ca.as_ref());
                    entry(
                        page,
                        "tls_ca",
                        &list(tls.authorities.iter().map(path)),
                        &origin(written, unwritten),
                    );
                }
            }
            show_cluster(page, upstream, table, unwritten);
            show_trunks(page, upstream, table, unwritten);
        }
        Kind::Bastion(bastion) => {
            entry(page, "kind", "\"bastion\"", &origin(table.and_then(|t| t.kind.as_ref()), unwritten));
            let written = table.and_then(|t| t.host.as_ref());
            entry(page, "host", &quoted(&bastion.host.to_string()), &origin(written, unwritten));
            match &bastion.via {
                Some(via) => {
                    entry(page, "via", &quoted(via), &origin(table.and_then(|t| t.via.as_ref()), unwritten));
                }
                None => put(page, "# via: none, it is dialled directly"),
            }
            if let Some(socket) = &bastion.socket {
                let written = table.and_then(|t| t.socket.as_ref());
                entry(page, "socket", &quoted(socket), &origin(written, unwritten));
            }
            show_trunks(page, upstream, table, unwritten);
        }
    }
    let written = table.and_then(|t| t.handshakes.as_ref());
    entry(page, "handshakes", &upstream.handshakes.to_string(), &origin(written, "default"));
    let written = table.and_then(|t| t.connect_timeout.as_ref());
    entry(page, "connect_timeout", &duration(upstream.connect_timeout), &origin(written, "default"));
}

fn show_cluster(page: &mut String, upstream: &Upstream, table: Option<&UpstreamTable>, unwritten: &str) {
    match &upstream.cluster {
        Some(cluster) => {
            let written = table.and_then(|t| t.cluster.as_ref());
            let unwritten = if table.is_some() { "from the identity" } else { unwritten };
            entry(page, "cluster", &quoted(cluster), &origin(written, unwritten));
        }
        None => put(page, "# cluster: the one that the certificate names"),
    }
}

fn show_trunks(page: &mut String, upstream: &Upstream, table: Option<&UpstreamTable>, unwritten: &str) {
    if let Some(identity) = &upstream.identity {
        let written = table.and_then(|t| t.identity.as_ref());
        entry(page, "identity", &quoted(identity), &origin(written, unwritten));
    }
    match &upstream.login {
        Some(login) => {
            entry(page, "login", &quoted(login), &origin(table.and_then(|t| t.login.as_ref()), unwritten));
        }
        None => match &upstream.kind {
            Kind::Bastion(bastion) => put(page, &format!("# login: {}", bastion.login.escape_debug())),
            _ => put(page, "# login: the certificate's first principal"),
        },
    }
    if !upstream.known_hosts.is_empty() {
        let written = table.and_then(|t| t.known_hosts.as_ref());
        entry(page, "known_hosts", &list(upstream.known_hosts.iter().map(path)), &origin(written, unwritten));
    }
    let written = table.and_then(|t| t.streams_per_trunk.as_ref());
    entry(page, "streams_per_trunk", &upstream.streams_per_trunk.to_string(), &origin(written, "default"));
    let written = table.and_then(|t| t.max_age.as_ref());
    entry(page, "max_age", &duration(upstream.max_age), &origin(written, "default"));
    let written = table.and_then(|t| t.keepalive.as_ref());
    entry(page, "keepalive", &duration(upstream.keepalive), &origin(written, "default"));
}

fn show_identity(page: &mut String, name: &str, source: &Source, origin: &str) {
    put(page, &format!("\n[identity.{}]", key(name)));
    match source {
        Source::Tsh { home, proxy, .. } => {
            entry(page, "tsh", &proxy.as_ref().map_or("true".into(), |proxy| quoted(proxy)), origin);
            entry(page, "home", &path(home), origin);
        }
        Source::File(file) => entry(page, "file", &path(file), origin),
        Source::Directory(directory) => entry(page, "directory", &path(directory), origin),
        Source::Keys { key, certificate } => {
            entry(page, "key", &path(key), origin);
            if let Some(certificate) = certificate {
                entry(page, "certificate", &path(certificate), origin);
            }
        }
        Source::Agent(socket) => {
            entry(page, "agent", &socket.as_ref().map_or("true".into(), path), origin);
        }
    }
}

fn show_route(page: &mut String, rule: &Rule, table: &RouteTable) {
    put(page, "\n[[route]]");
    let hosts = list(rule.hosts.iter().map(|pattern| quoted(&pattern.to_string())));
    entry(page, "hosts", &hosts, &origin(table.hosts.as_ref(), "default"));
    entry(page, "upstream", &quoted(&rule.upstream), &origin(table.upstream.as_ref(), "default"));
    if let Some(map) = &table.map {
        let pairs: Vec<_> =
            map.value.iter().map(|(name, node)| format!("{} = {}", key(name), quoted(node))).collect();
        entry(page, "map", &format!("{{ {} }}", pairs.join(", ")), &line(map));
    }
    if let Some(port) = &table.port {
        entry(page, "port", &port.value.to_string(), &line(port));
    }
    for (key, text) in [
        ("strip_suffix", &table.strip_suffix),
        ("cluster", &table.cluster),
        ("login", &table.login),
        ("identity", &table.identity),
    ] {
        if let Some(text) = text {
            entry(page, key, &quoted(&text.value), &line(text));
        }
    }
    note_endings(page, rule);
}

fn show_implied(page: &mut String, rule: &Rule) {
    put(page, &format!("\n[[route]]  # not written: {}", rule.origin));
    put(page, &format!("hosts = {}", list(rule.hosts.iter().map(|pattern| quoted(&pattern.to_string())))));
    put(page, &format!("upstream = {}", quoted(&rule.upstream)));
    note_endings(page, rule);
}

fn note_endings(page: &mut String, rule: &Rule) {
    if !rule.strip.is_empty() {
        put(page, &format!("# taken off a name, in this order: {}", rule.strip.join(" ")));
    }
}

fn put(page: &mut String, text: &str) {
    page.push_str(text);
    page.push('\n');
}

fn entry(page: &mut String, key: &str, value: &str, origin: &str) {
    let pair = format!("{key} = {value}");
    // Writing to a String cannot fail.
    let _ = writeln!(page, "{pair:<44} # {origin}");
}

fn origin<T>(written: Option<&At<T>>, unwritten: &str) -> String {
    written.map_or_else(|| unwritten.to_owned(), line)
}

fn line<T>(at: &At<T>) -> String {
    format!("line {}", at.line)
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.into()).to_string()
}

fn path(path: impl AsRef<Path>) -> String {
    quoted(&path.as_ref().to_string_lossy())
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}

fn duration(duration: Duration) -> String {
    quoted(&humantime::format_duration(duration).to_string())
}

/// A key as it stands in a table's title or on the left of `=`.
fn key(name: &str) -> impl fmt::Display {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !name.is_empty() && name.chars().all(bare) { name.to_owned() } else { quoted(name) }
}
