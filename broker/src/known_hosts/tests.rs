//! Known hosts as OpenSSH reads them: tables, and the real ssh-keygen as judge.

use super::*;
use crate::identity::testing::{ed25519, public_line, ssh_keygen};
use crate::pattern::glob_matches;
use base64::Engine as _;
use hmac::{Hmac, Mac as _};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

fn parse(text: &str) -> KnownHosts {
    KnownHosts::parse(text, "/home/alice/.ssh/known_hosts", Dialect::OpenSsh)
}

fn lines_of(known: &KnownHosts, host: &str, port: u16) -> Vec<usize> {
    known.matching(host, port).map(|line| line.origin.line).collect()
}

fn hashed(name: &str) -> String {
    let base64 = base64::engine::general_purpose::STANDARD;
    let salt = [7_u8; 20];
    let hash = Hmac::<sha1::Sha1>::new_from_slice(&salt).unwrap().chain_update(name).finalize().into_bytes();
    format!("|1|{}|{}", base64.encode(salt), base64.encode(hash))
}

#[test]
fn every_form_of_a_line_is_understood() {
    let key = public_line(&ed25519(1));
    let text = format!(
        "# a comment\n\
         \n\
         web,web.example.com,192.0.2.7 {key} alice@laptop with words\n\
         *.example.com,!bad.example.com {key}\r\n\
         {hash} {key}\n\
         [web]:2222 {key}\n\
         @cert-authority\t*.cluster,cluster  {key} type=host\n\
         @revoked * {key}\n",
        hash = hashed("secret.example.org"),
    );
    let known = parse(&text);
    assert_eq!(known.complaints(), []);
    for (host, port, lines) in [
        ("web", 22, &[3, 8][..]),
        ("WEB.example.COM", 22, &[3, 4, 8]),
        ("192.0.2.7", 22, &[3, 8]),
        ("bad.example.com", 22, &[8]),
        ("a.b.example.com", 22, &[4, 8]),
        ("example.com", 22, &[8]),
        ("secret.example.org", 22, &[5, 8]),
        ("Secret.Example.org", 22, &[5, 8]),
        ("web", 2222, &[6, 8]),
        ("web", 2223, &[8]),
        ("cluster", 22, &[7, 8]),
        ("node.cluster", 22, &[7, 8]),
    ] {
        assert_eq!(lines_of(&known, host, port), lines, "{host}:{port}");
    }
    let markers: Vec<Marker> = known.lines().iter().map(|line| line.marker).collect();
    use Marker::{Authority, Key, Revoked};
    assert_eq!(markers, [Key, Key, Key, Key, Authority, Revoked]);
}

#[test]
fn a_bad_line_is_a_complaint_and_hides_no_other() {
    let key = public_line(&ed25519(1));
    let text = format!(
        "web\nweb ssh-ed25519\nweb ssh-ed25519 AAAA\n@trusted web {key}\n|1|zzz|zzz {key}\n|2|a|b {key}\nweb {key}\n\
         web 1024 35 1234567890\nweb ssh-rsa {}",
        key.split(' ').nth(1).unwrap()
    );
    let known = parse(&text);
    assert_eq!(lines_of(&known, "web", 22), [7]);
    let complaints: Vec<String> = known.complaints().iter().map(ToString::to_string).collect();
    assert_eq!(complaints.len(), 8, "{complaints:?}");
    assert_eq!(complaints[0], "/home/alice/.ssh/known_hosts:1: the line has no host, key type and key");
    assert!(
        complaints[3].ends_with("the marker is neither @cert-authority nor @revoked"),
        "{}",
        complaints[3]
    );
    assert!(complaints[4].ends_with("the hashed host name is damaged"), "{}", complaints[4]);
}

#[test]
fn tshs_bare_lines_are_authorities_for_the_cluster_and_all_below() {
    let key = public_line(&ed25519(1));
    let text = format!("poc {key}\n@cert-authority localhost,new,*.new {key} type=host\n");
    let known = KnownHosts::parse(&text, "/home/alice/.tsh/known_hosts", Dialect::Tsh);
    assert!(known.lines().iter().all(|line| line.marker == Marker::Authority));
    assert_eq!(lines_of(&known, "poc", 22), [1]);
    assert_eq!(lines_of(&known, "worker.poc", 22), [1]);
    assert_eq!(lines_of(&known, "xpoc", 22), [0; 0]);
    assert_eq!(lines_of(&known, "localhost", 22), [2]);
    assert_eq!(parse(&text).lines()[0].marker, Marker::Key, "elsewhere a bare line is a host's key");
}

#[test]
fn several_files_are_searched_in_their_order() {
    let mut known = parse(&format!("web {}", public_line(&ed25519(1))));
    known.extend(KnownHosts::parse(
        &format!("\nweb {}", public_line(&ed25519(2))),
        "/etc/ssh/ssh_known_hosts",
        Dialect::OpenSsh,
    ));
    let origins: Vec<String> = known.matching("web", 22).map(|line| line.origin.to_string()).collect();
    assert_eq!(origins, ["/home/alice/.ssh/known_hosts:1", "/etc/ssh/ssh_known_hosts:2"]);
}

/// Names and patterns that meet often.
fn field() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec!["a", "b", "a.b", "ab", "aa.b", "A.b", "::1", "10.0.0.1"]);
    let pattern = prop_oneof![
        4 => name.clone().prop_map(str::to_owned),
        3 => prop::sample::select(vec!["*", "?", "a*", "*.b", "?.b", "a?.b", "*a*b", "!a", "!*.b", "!a.?", "", "!"]).prop_map(str::to_owned),
        2 => (name.clone(), prop::sample::select(vec!["22", "2222", "*"])).prop_map(|(name, port)| format!("[{name}]:{port}")),
    ];
    prop_oneof![
        4 => prop::collection::vec(pattern, 1..4).prop_map(|patterns| patterns.join(",")),
        1 => name.clone().prop_map(|name| hashed(&name.to_lowercase())),
        1 => name.prop_map(|name| hashed(&format!("[{}]:2222", name.to_lowercase()))),
    ]
}

#[test]
fn lookups_agree_with_the_real_ssh_keygen() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("known_hosts");
    let key = public_line(&ed25519(1));
    let lines = prop::collection::vec(
        (prop::sample::select(vec!["", "@cert-authority ", "@revoked "]), field()),
        1..12,
    );
    let host = prop::sample::select(vec!["a", "b", "a.b", "ab", "aa.b", "c.b", "::1", "10.0.0.1", "x"]);
    let port = prop::sample::select(vec![22_u16, 2222, 3023]);
    let mut runner = TestRunner::new(Config { cases: 150, ..Config::default() });
    runner
        .run(&(lines, host, port), |(lines, host, port)| {
            let text: String =
                lines.iter().map(|(marker, hosts)| format!("{marker}{hosts} {key}\n")).collect();
            std::fs::write(&path, &text).unwrap();
            let name = lookup_name(host, port);
            let output = ssh_keygen(["-F", &name, "-f", path.to_str().unwrap()]);
            let found: Vec<usize> = output
                .lines()
                .filter_map(|line| line.split_once(" found: line ")?.1.split(' ').next()?.parse().ok())
                .collect();
            prop_assert_eq!(lines_of(&parse(&text), host, port), found, "{} in\n{}", name, text);
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_file_that_ssh_keygen_hashed_is_still_understood() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("known_hosts");
    let (one, two) = (public_line(&ed25519(1)), public_line(&ed25519(2)));
    std::fs::write(&path, format!("web.example.com {one}\n[web.example.com]:2222 {two}\n")).unwrap();
    ssh_keygen(["-H", "-f", path.to_str().unwrap()]);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!text.contains("example"), "{text}");
    assert_eq!(lines_of(&parse(&text), "web.example.com", 22), [1]);
    assert_eq!(lines_of(&parse(&text), "web.example.com", 2222), [2]);
    assert_eq!(lines_of(&parse(&text), "web.example.com", 2223), [0; 0]);
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "(@[a-z-]{0,16} |\\|1\\|)?[ -~\\t\\r\\n]{0,200}|\\PC{0,80}", host in "\\PC{0,20}") {
        let known = parse(&text);
        let _ = known.matching(&host, 2222).count();
        prop_assert!(known.lines().len() + known.complaints().len() <= text.lines().count());
    }

    #[test]
    fn a_wildcard_takes_what_a_plain_reading_says(glob in "[ab*?]{0,8}", text in "[ab]{0,8}") {
        fn plain(glob: &[u8], text: &[u8]) -> bool {
            match (glob.split_first(), text.split_first()) {
                (None, None) => true,
                (Some((b'*', rest)), _) => plain(rest, text) || text.split_first().is_some_and(|(_, t)| plain(glob, t)),
                (Some((b'?', rest)), Some((_, t))) => plain(rest, t),
                (Some((g, rest)), Some((c, t))) => g == c && plain(rest, t),
                _ => false,
            }
        }
        prop_assert_eq!(glob_matches(&glob, &text), plain(glob.as_bytes(), text.as_bytes()));
    }
}
