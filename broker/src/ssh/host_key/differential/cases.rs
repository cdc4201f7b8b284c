//! What is compared: servers and known_hosts files, from a seed that is always the same.

use super::lookup;
use super::openssh::{KEYS, OpenSsh};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, Mac as _};
use rand::prelude::*;
use rand::rngs::StdRng;
use sha1::Sha1;
use std::fmt;

const SEED: u64 = 20_261_123;

/// A server that is dialled, what it shows, and what is known.
#[derive(Debug)]
pub(super) struct Case {
    /// The name that is dialled, or the one it is looked up by instead (`HostKeyAlias`).
    pub(super) host: String,
    /// Whether ssh gets the name as `HostKeyAlias`, which it looks up without a port.
    pub(super) alias: bool,
    pub(super) port: u16,
    /// The name of the server's key, one of [`KEYS`].
    pub(super) key: &'static str,
    pub(super) shown: Shown,
    pub(super) known_hosts: String,
}

#[derive(Debug)]
pub(super) enum Shown {
    Key,
    Certificate(Spec),
}

/// A certificate as ssh-keygen is asked for it.
#[derive(Debug)]
pub(super) struct Spec {
    /// One of [`KEYS`].
    pub(super) authority: &'static str,
    pub(super) principals: Vec<String>,
    /// As `ssh-keygen -V` takes it.
    pub(super) validity: &'static str,
    pub(super) for_user: bool,
    /// Whether an RSA authority signs with SHA-1.
    pub(super) sha1: bool,
    /// Whether it holds a condition, of which none is known for hosts.
    pub(super) critical: bool,
}

/// The cases, each with files that are about its own server most of the time.
pub(super) fn generate(count: usize, openssh: &OpenSsh) -> Vec<Case> {
    let mut rng = StdRng::seed_from_u64(SEED);
    (0..count).map(|_| case(&mut rng, openssh)).collect()
}

fn case(rng: &mut StdRng, openssh: &OpenSsh) -> Case {
    let hosts = ["web", "web", "web.example.com", "Web.Example.com", "192.0.2.7", "2001:db8::7", "node_1"];
    let host = pick(rng, &hosts).to_owned();
    let alias = rng.random_bool(0.1);
    let port = if alias { 22 } else { pick(rng, &[22, 2222]) };
    let key = pick(rng, &["ed25519", "ed25519", "ecdsa", "rsa"]);
    let shown = if rng.random_bool(0.6) { Shown::Certificate(spec(rng, &host)) } else { Shown::Key };
    let mut case = Case { host, alias, port, key, shown, known_hosts: String::new() };
    for _ in 0..rng.random_range(1..6) {
        let line = line(rng, &case, openssh);
        let end = if rng.random_bool(0.1) { "\r\n" } else { "\n" };
        case.known_hosts.extend([line.as_str(), end]);
    }
    if rng.random_bool(0.1) {
        // The last line of a file that was written by hand.
        case.known_hosts.truncate(case.known_hosts.trim_end().len());
    }
    case
}

fn spec(rng: &mut StdRng, host: &str) -> Spec {
    let own = host.to_lowercase();
    let lists: [Vec<String>; 9] = [
        vec![own.clone()],
        vec![own.clone()],
        vec![own.clone()],
        vec!["elsewhere".into(), own.clone()],
        vec!["elsewhere".into()],
        vec![],
        vec![format!("{}*", &own[..2])],
        vec![own.to_uppercase()],
        vec![format!("[{own}]:2222")],
    ];
    Spec {
        authority: pick(rng, &["ca-ed25519", "ca-ed25519", "ca-ecdsa", "ca-rsa"]),
        principals: lists[rng.random_range(0..lists.len())].clone(),
        validity: pick(
            rng,
            &["-1h:+1h", "-1h:+1h", "-1h:+1h", "-1h:+1h", "always:forever", "-2h:-1h", "+1h:+2h"],
        ),
        for_user: rng.random_bool(0.05),
        sha1: rng.random_bool(0.2),
        critical: rng.random_bool(0.05),
    }
}

/// One line: most say something about the server, some make no sense.
fn line(rng: &mut StdRng, case: &Case, openssh: &OpenSsh) -> String {
    if rng.random_bool(0.08) {
        let noise =
            ["", "# a comment", "   ", "\t# indented", "web", "web 1024 65537 1234567890", "@cert-authority"];
        return pick(rng, &noise).to_owned();
    }
    let markers = [
        "",
        "",
        "",
        "@cert-authority ",
        "@cert-authority ",
        "@cert-authority\t",
        "@revoked ",
        "@Revoked ",
        "@revoked @cert-authority ",
    ];
    let marker = pick(rng, &markers);
    let authority = match &case.shown {
        Shown::Certificate(spec) => spec.authority,
        Shown::Key => "ca-ed25519",
    };
    // Revocations mostly strike others, or hardly a case would be believed.
    let own = if marker.starts_with("@cert") { authority } else { case.key };
    let likely = if marker == "@revoked " { 0.35 } else { 0.75 };
    let name = if rng.random_bool(likely) { own } else { pick(rng, &KEYS) };
    let key = written(rng, &openssh.public_line(name));
    let (indent, blank) = (pick(rng, &["", "", "", " ", "\t"]), pick(rng, &[" ", " ", " ", "\t", "   "]));
    format!("{indent}{marker}{}{blank}{key}", hosts(rng, case))
}

/// The first field: the server under one of its names, or others.
fn hosts(rng: &mut StdRng, case: &Case) -> String {
    let (name, bare) = (lookup(case), case.host.to_lowercase());
    match rng.random_range(0..20) {
        0..=3 => name,
        4 | 5 => bare,
        6 => bare.to_uppercase(),
        7 => format!("other,{name},192.0.2.99"),
        8 => hashed(rng, &name),
        9 => hashed(rng, &bare),
        10 => hashed(rng, "other"),
        11 => format!("{},", hashed(rng, &name)),
        12 => format!("[{bare}]:2222"),
        13 => "*".into(),
        14 => "[*]:2222".into(),
        15 => format!("{}?*", &bare[..1]),
        16 => format!("!{name},*"),
        17 => format!("*,!{bare}"),
        18 => format!(",,{name}"),
        _ => "other,*.poc".into(),
    }
}

fn hashed(rng: &mut StdRng, name: &str) -> String {
    let salt: [u8; 20] = rng.random();
    let hash = Hmac::<Sha1>::new_from_slice(&salt).unwrap().chain_update(name).finalize().into_bytes();
    let (salt, hash) = (BASE64.encode(salt), BASE64.encode(hash));
    match rng.random_range(0..12) {
        0 => format!("|1|{salt}"),
        1 => format!("|2|{salt}|{hash}"),
        2 => format!("|1|{}|{hash}", &salt[4..]),
        _ => format!("|1|{salt}|{hash}"),
    }
}

/// A key as it may stand on a line: mostly whole.
fn written(rng: &mut StdRng, line: &str) -> String {
    let (kind, base64) = line.split_once(' ').unwrap();
    match rng.random_range(0..24) {
        0 => format!("{kind} {}", &base64[..base64.len() / 2]),
        1 => format!("{kind} !{base64}"),
        2 => format!("{kind} {base64}garbage"),
        3 => format!("ssh-dss {base64}"),
        4 => base64.to_owned(),
        5 => format!("{kind}\t{base64}"),
        6 => format!("{kind} {base64} trailing # garbage, \"quoted"),
        7 => format!("{kind} {base64}\t"),
        8 => format!("{} {base64}", kind.to_uppercase()),
        9 => format!("{kind}  {base64} me@host"),
        _ => line.to_owned(),
    }
}

fn pick<T: Copy>(rng: &mut StdRng, from: &[T]) -> T {
    *from.choose(rng).unwrap()
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let alias = if self.alias { " (an alias)" } else { "" };
        writeln!(f, "{}{alias} port {} shows {} {:?}, known is", self.host, self.port, self.key, self.shown)?;
        for line in self.known_hosts.split_inclusive('\n') {
            writeln!(f, "    {line:?}")?;
        }
        Ok(())
    }
}
