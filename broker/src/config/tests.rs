//! Files in, settings or complaints out.

use super::known::TshProfile;
use super::*;
use crate::routes::Picked;
use proptest::prelude::*;

const PATH: &str = "/etc/natssh.toml";

fn profile() -> TshProfile {
    TshProfile {
        name: "teleport.example.com".into(),
        proxy_host: "teleport.example.com".into(),
        ssh_proxy: NodeAddr { host: "ssh.example.com".into(), port: 3023 },
        tls_routing: None,
        cluster: "example".into(),
    }
}

fn settings(text: &str, current: Option<TshProfile>) -> Settings {
    resolved(text, &known(current))
}

fn resolved(text: &str, known: &Known) -> Settings {
    let profiles: Vec<_> = known.profiles().map(|profile| profile.name.as_str()).collect();
    let file = checked(Path::new(PATH), text, &profiles).unwrap_or_else(|complaints| panic!("{complaints}"));
    resolve::resolve(Some(Path::new(PATH)), &file, known)
}

fn known(current: Option<TshProfile>) -> Known {
    Known {
        home: "/home/me".into(),
        user: "me".into(),
        tsh_home: "/home/me/.tsh".into(),
        current,
        ..Known::default()
    }
}

fn tsh(proxy: Option<&str>) -> Source {
    Source::Tsh { home: "/home/me/.tsh".into(), proxy: proxy.map(Into::into), cluster: None }
}

fn pick(settings: &Settings, host: &str) -> Picked {
    settings.routes.pick(&NodeAddr { host: host.into(), port: 22 })
}

fn way(settings: &Settings, host: &str) -> String {
    let picked = pick(settings, host);
    format!("{} {}", picked.upstream, picked.node.host)
}

fn complaints(text: &str) -> String {
    checked(Path::new(PATH), text, &["teleport.example.com"])
        .map_or_else(|complaints| complaints.to_string(), |_| String::new())
}

#[test]
fn without_a_file_the_tsh_profile_takes_its_own_names_and_the_rest_goes_direct() {
    let known = known(Some(profile()));
    let settings = resolve::resolve(None, &File::default(), &known);
    for (asked, expected) in [
        ("worker.example", "teleport.example.com worker"),
        ("worker.teleport.example.com", "teleport.example.com worker"),
        ("worker.example.teleport.example.com", "teleport.example.com worker"),
        ("Worker.ssh.example.com", "teleport.example.com Worker"),
        ("worker", "direct worker"),
        ("worker.example.org", "direct worker.example.org"),
        ("ssh.example.com", "direct ssh.example.com"),
    ] {
        assert_eq!(way(&settings, asked), expected, "{asked}");
    }
    let upstream = &settings.upstreams["teleport.example.com"];
    assert_eq!(upstream.proxy(), Some(&profile().ssh_proxy));
    assert_eq!(upstream.cluster.as_deref(), Some("example"));
    assert_eq!(settings.identities["teleport.example.com"], tsh(Some("teleport.example.com")));
}

#[test]
fn without_a_file_and_a_profile_everything_goes_direct() {
    let settings = resolve::resolve(None, &File::default(), &Known::default());
    assert_eq!(settings.upstreams.keys().collect::<Vec<_>>(), ["direct"]);
    assert_eq!(way(&settings, "worker"), "direct worker");
}

/// Two more logins: one to another cluster, and one to a cluster of the current one's name.
fn three_profiles() -> Known {
    let other = |name: &str, cluster: &str| TshProfile {
        name: name.into(),
        proxy_host: name.into(),
        ssh_proxy: NodeAddr { host: name.into(), port: 3023 },
        tls_routing: None,
        cluster: cluster.into(),
    };
    let others = vec![other("a.example.org", "elsewhere"), other("b.example.org", "example")];
    Known { others, ..known(Some(profile())) }
}

#[test]
fn each_tsh_profile_takes_its_own_names_and_the_current_one_is_asked_first() {
    let settings = resolve::resolve(None, &File::default(), &three_profiles());
    for (asked, expected) in [
        ("worker.elsewhere", "a.example.org worker"),
        ("worker.a.example.org", "a.example.org worker"),
        ("worker.b.example.org", "b.example.org worker"),
        ("worker.example", "teleport.example.com worker"),
        ("worker", "direct worker"),
        ("a.example.org", "direct a.example.org"),
    ] {
        assert_eq!(way(&settings, asked), expected, "{asked}");
    }
    assert_eq!(settings.identities["a.example.org"], tsh(Some("a.example.org")));
    assert_eq!(settings.upstreams_of("a.example.org"), ["a.example.org"]);
    assert_eq!(settings.spare.iter().collect::<Vec<_>>(), ["a.example.org", "b.example.org"]);
}

#[test]
fn without_a_current_profile_the_others_still_take_theirs() {
    let known = Known { current: None, ..three_profiles() };
    let settings = resolve::resolve(None, &File::default(), &known);
    assert_eq!(way(&settings, "worker.example"), "b.example.org worker");
    assert_eq!(way(&settings, "worker.elsewhere"), "a.example.org worker");
}

#[test]
fn the_file_may_name_any_profile_and_what_it_names_is_no_spare_one() {
    let text = r#"
        default = "a.example.org"
        [[route]]
        hosts = ["db"]
        upstream = "teleport.example.com"
        identity = "b.example.org"
    "#;
    let settings = resolved(text, &three_profiles());
    assert_eq!(way(&settings, "worker"), "a.example.org worker");
    assert_eq!(pick(&settings, "db").identity.as_deref(), Some("b.example.org"));
    assert_eq!(settings.upstreams_of("b.example.org"), ["b.example.org", "teleport.example.com"]);
    assert!(settings.spare.is_empty(), "{:?}", settings.spare);
    let own = resolved("[identity.work]\ntsh = \"b.example.org\"", &three_profiles());
    assert!(own.spare.contains("a.example.org"), "{:?}", own.spare);
}

#[test]
fn one_line_sends_every_other_host_through_the_profile() {
    let settings = settings("default = \"teleport.example.com\"", Some(profile()));
    assert_eq!(way(&settings, "worker"), "teleport.example.com worker");
    assert_eq!(way(&settings, "worker.example"), "teleport.example.com worker");
    assert_eq!(way(&settings, "ssh.example.com"), "direct ssh.example.com");
    assert_eq!(pick(&settings, "worker").rule, "default (/etc/natssh.toml:1)");
}

const FULL: &str = r#"
default = "office"
[upstream.office]
kind = "teleport"
proxy = ["teleport.example.org", "10.0.0.2:443"]
cluster = "hq"
identity = "me"
login = "root"
known_hosts = ["~/extra", "/etc/ssh/ssh_known_hosts"]
streams_per_trunk = 7
max_age = "3h"
handshakes = 9
connect_timeout = "2s"
keepalive = "1m"
[identity.me]
tsh = true
home = "~/.other"
[identity.bot]
directory = "/opt/bot"
[[route]]
hosts = ["*.prod.example.com", "!db.prod.example.com"]
upstream = "office"
strip_suffix = ".prod.example.com"
map = { Web = "WEB-01" }
port = 3022
cluster = "leaf"
login = "admin"
identity = "bot"
[[route]]
hosts = ["10.*"]
upstream = "direct"
"#;

#[test]
fn every_key_arrives() {
    let settings = settings(FULL, Some(profile()));
    assert_eq!(
        settings.upstreams["office"],
        Upstream {
            name: "office".into(),
            identity: Some("me".into()),
            login: Some("root".into()),
            cluster: Some("hq".into()),
            known_hosts: vec!["/home/me/extra".into(), "/etc/ssh/ssh_known_hosts".into()],
            connect_timeout: Duration::from_secs(2),
            keepalive: Duration::from_secs(60),
            streams_per_trunk: 7,
            max_age: Duration::from_secs(3 * 3600),
            handshakes: 9,
            kind: Kind::Teleport {
                proxy: NodeAddr { host: "teleport.example.org".into(), port: 3023 },
                others: vec![NodeAddr { host: "10.0.0.2".into(), port: 443 }],
                tls: None,
            },
        }
    );
    assert_eq!(
        settings.identities["me"],
        Source::Tsh { home: "/home/me/.other".into(), proxy: None, cluster: None }
    );
    assert_eq!(settings.identities["bot"], Source::Directory("/opt/bot".into()));
    assert_eq!(
        pick(&settings, "web.prod.example.com"),
        Picked {
            upstream: "office".into(),
            node: NodeAddr { host: "WEB-01".into(), port: 3022 },
            cluster: Some("leaf".into()),
            login: Some("admin".into()),
            identity: Some("bot".into()),
            rule: "route 1 (/etc/natssh.toml:20)".into(),
        }
    );
}

#[test]
fn routes_come_before_the_file_s_names_before_the_profile_s_before_the_default() {
    let settings = settings(FULL, Some(profile()));
    for (asked, expected) in [
        ("app.prod.example.com", "office app"),
        ("db.prod.example.com", "office db.prod.example.com"),
        ("10.1.2.3", "direct 10.1.2.3"),
        ("app.leaf.prod.example.com", "office app"),
        ("app.hq", "office app"),
        ("app.example", "teleport.example.com app"),
        ("app", "office app"),
        ("teleport.example.org", "direct teleport.example.org"),
    ] {
        assert_eq!(way(&settings, asked), expected, "{asked}");
    }
}

#[test]
fn an_upstream_without_identity_takes_the_only_one_or_what_tsh_logs_in_to() {
    let upstream = "[upstream.a]\nkind = \"teleport\"\nproxy = \"p\"\n";
    let with_one = format!("{upstream}[identity.bot]\nagent = true");
    for (text, current, expected) in [
        (with_one.as_str(), Some(profile()), ("bot", Source::Agent(None))),
        (upstream, None, ("tsh", tsh(None))),
    ] {
        let settings = settings(text, current);
        let name = settings.upstreams["a"].identity.as_deref().unwrap();
        assert_eq!((name, settings.identities[name].clone()), expected);
    }
    let of_profile = settings(upstream, Some(profile()));
    assert_eq!(of_profile.upstreams["a"].identity.as_deref(), Some("teleport.example.com"));
    assert_eq!(of_profile.upstreams["a"].cluster.as_deref(), Some("example"));
}

#[test]
fn proxy_addresses_are_read_with_and_without_port() {
    for (text, host, port) in [
        ("p.example.com", "p.example.com", 3023),
        ("p.example.com:443", "p.example.com", 443),
        ("::1", "::1", 3023),
        ("[::1]", "::1", 3023),
        ("[::1]:443", "::1", 443),
        ("10.0.0.1", "10.0.0.1", 3023),
    ] {
        let settings = settings(&format!("[upstream.a]\nkind = \"teleport\"\nproxy = {text:?}"), None);
        assert_eq!(settings.upstreams["a"].proxy(), Some(&NodeAddr { host: host.into(), port }), "{text}");
    }
}

#[test]
fn with_tls_routing_a_proxy_is_the_web_listener() {
    let teleport =
        |lines: &str| format!("[upstream.a]\nkind = \"teleport\"\nproxy = \"p.example.com\"\n{lines}");
    let read = |lines: &str| {
        let upstream = settings(&teleport(lines), None).upstreams["a"].clone();
        let Kind::Teleport { proxy, tls, .. } = upstream.kind else { panic!("a Teleport proxy") };
        (proxy.port, tls)
    };
    let authorities = |files: &[&str]| {
        Some(TlsRouting { authorities: files.iter().map(PathBuf::from).collect(), upgrade: false })
    };
    assert_eq!(read(""), (3023, None));
    assert_eq!(read("tls_routing = false"), (3023, None));
    assert_eq!(read("tls_routing = true"), (443, authorities(&[])));
    let named = "tls_routing = true\ntls_ca = [\"~/ca.pem\", \"/etc/ca.pem\"]";
    assert_eq!(read(named), (443, authorities(&["/home/me/ca.pem", "/etc/ca.pem"])));

    let upgraded = read("tls_routing = true\nconnection_upgrade = true").1;
    assert!(upgraded.is_some_and(|tls| tls.upgrade));

    let wrong = |text: &str| checked(Path::new(PATH), text, &[]).expect_err("a complaint").to_string();
    for (lines, words) in [
        ("tls_ca = [\"/etc/ca.pem\"]", ":4: [upstream.a]: tls_ca means nothing without tls_routing = true"),
        (
            "connection_upgrade = true\ntls_routing = false",
            ":4: [upstream.a]: connection_upgrade means nothing without tls_routing = true",
        ),
        ("tls_routing = \"yes\"", ":4: [upstream.a]: tls_routing must be true or false, not a string"),
    ] {
        let told = wrong(&teleport(lines));
        assert!(told.contains(words), "{told}");
    }
    let told = wrong("[upstream.a]\nkind = \"bastion\"\nhost = \"b\"\ntls_routing = true");
    assert!(told.contains("tls_routing means nothing to a bastion"), "{told}");

    let of_profile = TshProfile { tls_routing: Some(TlsRouting::default()), ..profile() };
    let settings = resolve::resolve(None, &File::default(), &known(Some(of_profile)));
    let kind = &settings.upstreams["teleport.example.com"].kind;
    assert!(matches!(kind, Kind::Teleport { tls: Some(_), .. }), "{kind:?}");
}

#[test]
fn all_complaints_come_at_once_each_with_its_line() {
    let text = r#"defualt = "office"
default = "offise"
[upstream.office]
kind = "teleport"
proxi = "teleport.example.com"
keepalive = 15
connect_timeout = "20s"
streams_per_trunk = 0
[upstream.direct]
kind = "teleport"
proxy = "https://teleport.example.com"
[upstream.plain]
kind = "direct"
cluster = "x"
[upstream.hop]
kind = "bstion"
[identity.me]
tsh = true
file = "id"
[identity.you]
home = "/x"
[[route]]
hosts = ["a b", "!x",
  ""]
upstream = "office"
strip_suffix = "prod"
map = { web = "a@b" }
port = 70000
identity = "mee"
[[route]]
upstream = "plain"
cluster = "leaf"
"#;
    let expected = r#"/etc/natssh.toml:1: unknown key "defualt"; did you mean "default"?
/etc/natssh.toml:2: default: no upstream is called "offise"; did you mean "office"?
/etc/natssh.toml:3: [upstream.office]: proxy is missing
/etc/natssh.toml:3: [upstream.office]: there are several identities; choose one with identity = "…": me, you
/etc/natssh.toml:5: [upstream.office]: unknown key "proxi"; did you mean "proxy"?
/etc/natssh.toml:6: [upstream.office]: keepalive must be a string, not a number
/etc/natssh.toml:7: [upstream.office]: connect_timeout must lie between 1s and 9s
/etc/natssh.toml:8: [upstream.office]: streams_per_trunk must be a number from 1 to 1000
/etc/natssh.toml:9: [upstream.direct]: there are several identities; choose one with identity = "…": me, you
/etc/natssh.toml:10: [upstream.direct]: "direct" is the name of plain TCP; call this upstream otherwise
/etc/natssh.toml:11: [upstream.direct]: proxy "https://teleport.example.com" is a URL; write the address of the proxy, such as "teleport.example.com:3023"
/etc/natssh.toml:14: [upstream.plain]: cluster means nothing to plain TCP (kind = "direct")
/etc/natssh.toml:16: [upstream.hop]: kind "bstion" is unknown; there is "teleport", "bastion", "command" and "direct"
/etc/natssh.toml:19: [identity.me]: file "id" must begin with / or ~/, because the broker has no working directory of yours
/etc/natssh.toml:20: [identity.you]: needs one of tsh, file, directory, key or agent
/etc/natssh.toml:21: [identity.you]: home means nothing without tsh
/etc/natssh.toml:23: [[route]] number 1: hosts "a b" holds ' '; give each pattern its own string
/etc/natssh.toml:24: [[route]] number 1: hosts "" is an empty pattern
/etc/natssh.toml:26: [[route]] number 1: strip_suffix "prod" must begin with a dot
/etc/natssh.toml:27: [[route]] number 1: map "a@b" is no node name: the host name holds '@'
/etc/natssh.toml:28: [[route]] number 1: port must be a number from 1 to 65535
/etc/natssh.toml:29: [[route]] number 1: no identity is called "mee"; did you mean "me"?
/etc/natssh.toml:30: [[route]] number 2: hosts is missing
/etc/natssh.toml:32: [[route]] number 2: cluster means nothing to plain TCP (kind = "direct")"#;
    let found = complaints(text);
    assert!(found == expected, "\n{found}");
}

#[test]
fn small_mistakes_of_form_each_get_a_sentence() {
    for (text, expected) in [
        ("[route]\nhosts = [\"*\"]", "1: write [[route]] with two brackets: there may be several"),
        ("upstream = 3", "1: \"upstream\" must be written as tables, such as [upstream.name]"),
        (
            "[upstream]\nkind = \"direct\"",
            "2: [upstream] holds named tables; write [upstream.name] above \"kind\"",
        ),
        ("[upstream.a]", "1: [upstream.a]: kind is missing"),
        ("[upstream.\"a b\"]\nkind = \"direct\"", "1: [upstream.a b]: a name is one word"),
        ("[identity.a]\ntsh = false", "2: [identity.a]: tsh must be true or a non-empty string"),
        (
            "[identity.a]\ntsh = true\nagent = true",
            "3: [identity.a]: agent beside tsh: an identity has one source",
        ),
        (
            "[[route]]\nhosts = [\"!x\"]\nupstream = \"direct\"",
            "2: [[route]] number 1: hosts takes no host at all; add a pattern without \"!\", such as \"*\"",
        ),
        ("default = \"\"", "1: default is empty"),
        (
            "[upstream.a]\nkind = \"telport\"",
            "2: [upstream.a]: kind \"telport\" is unknown; there is \"teleport\", \"bastion\", \"command\" and \"direct\"",
        ),
        ("[upstream.a]\nkind = \"command\"", "1: [upstream.a]: command is missing"),
        (
            "[upstream.a]\nkind = \"command\"\ncommand = \"nc %C %p\"",
            "3: [upstream.a]: command holds %C, which is none of %h, %n, %p, %r and %k; write %% for a percent sign",
        ),
        (
            "[upstream.a]\nkind = \"command\"\ncommand = \"env A=b /opt/natssh proxy %h %p\"",
            "3: [upstream.a]: command runs natssh proxy, which asks this broker for the way and would go round in a \
             circle; write what reaches the node without natssh",
        ),
        (
            "[upstream.a]\nkind = \"command\"\ncommand = \"nc\"\nkeepalive = \"3s\"",
            "4: [upstream.a]: keepalive means nothing to a ProxyCommand (kind = \"command\")",
        ),
        (
            "[upstream.a]\nkind = \"direct\"\ncommand = \"nc\"",
            "3: [upstream.a]: command means nothing to plain TCP (kind = \"direct\")",
        ),
        (
            "[upstream.a]\nkind = \"command\"\ncommand = \"nc\"\n[[route]]\nhosts = [\"*\"]\nupstream = \"a\"\nlogin = \"x\"",
            "7: [[route]] number 1: login means nothing to a ProxyCommand (kind = \"command\")",
        ),
        (
            "[upstream.a]\nkind = \"bastion\"\nhost = \"me@gate\"",
            "3: [upstream.a]: host \"me@gate\" names a user; write \"gate\", and login = \"me\" beside it",
        ),
        ("[upstream.a]\nkind = \"bastion\"", "1: [upstream.a]: host is missing"),
        (
            "[upstream.a]\nkind = \"bastion\"\nhost = \"gate\"\ncluster = \"x\"",
            "4: [upstream.a]: cluster means nothing to a bastion (kind = \"bastion\")",
        ),
        (
            "[upstream.a]\nkind = \"bastion\"\nhost = \"gate\"\nsocket = \"/run/one.sock\"",
            "4: [upstream.a]: socket \"/run/one.sock\" is one socket for all nodes; write {node} where the node's name belongs",
        ),
        (
            "[upstream.a]\nkind = \"bastion\"\nhost = \"gate\"\nsocket = \"/run/{host}{node}\"",
            "4: [upstream.a]: socket \"/run/{host}{node}\": only {node} and {port} have a meaning in braces",
        ),
        (
            "[upstream.a]\nkind = \"bastion\"\nhost = \"x\"\nvia = \"b\"\n[upstream.b]\nkind = \"bastion\"\nhost = \"y\"\nvia = \"a\"",
            "4: [upstream.a]: via goes in a circle: a via b via a",
        ),
        ("[upstream.a]\nkind = \"teleport\"\nproxy = []", "3: [upstream.a]: proxy is an empty list"),
        (
            "[upstream.a]\nkind = \"teleport\"\nproxy = [\"p\", 1]",
            "3: [upstream.a]: proxy must hold strings, not a number",
        ),
        (
            "nothing = 1",
            "1: unknown key \"nothing\"; known here: default, upstream, identity, route, metrics",
        ),
    ] {
        let found = complaints(text);
        assert!(found.lines().any(|line| line == format!("{PATH}:{expected}")), "{text:?} gave:\n{found}");
    }
}

/// A chain is built from its far end, whatever the names; the way to an inner bastion leads not through itself.
#[test]
fn bastions_come_after_those_that_reach_them() {
    let text = r#"default = "a"
[upstream.a]
kind = "bastion"
host = "inner"
via = "z"
[upstream.z]
kind = "bastion"
host = "gate:2222"
login = "jump"
"#;
    let settings = settings(text, None);
    let order: Vec<&str> = settings.in_order().iter().map(|upstream| upstream.name.as_str()).collect();
    assert!(
        order.iter().position(|name| *name == "z") < order.iter().position(|name| *name == "a"),
        "{order:?}"
    );
    let upstream_of = |host: &str| pick(&settings, host).upstream;
    assert_eq!(upstream_of("web"), "a");
    assert_eq!(upstream_of("inner"), "z");
    assert_eq!(upstream_of("gate"), "direct");
    let inner = &settings.upstreams["a"];
    assert_eq!(settings.identities[inner.identity.as_ref().unwrap()], Source::Agent(None));
    let Kind::Bastion(bastion) = &inner.kind else { panic!("{inner:?}") };
    assert_eq!((bastion.host.to_string().as_str(), bastion.login.as_str()), ("inner:22", "me"));
}

#[test]
fn broken_toml_is_reported_with_the_other_complaints() {
    let found = complaints("default = \n[upstream.a]\nkind = \"x\"\n");
    assert!(found.starts_with("/etc/natssh.toml:1: this is not TOML: "), "{found}");
    assert!(found.contains("/etc/natssh.toml:3: [upstream.a]: kind \"x\" is unknown"), "{found}");
}

#[test]
fn a_failure_names_the_first_complaint_and_counts_the_others() {
    let complaints = checked(Path::new(PATH), "a = 1\nb = 2\nc = 3", &[]).unwrap_err();
    let failure = complaints.to_failure();
    assert!(failure.message.starts_with("/etc/natssh.toml:1: unknown key \"a\""), "{failure}");
    assert!(failure.message.ends_with("(and 2 more)"), "{failure}");
    assert_eq!(failure.hint.as_deref(), Some("natssh config check"));
}

#[test]
fn a_file_asked_for_must_exist_and_the_usual_one_need_not() {
    let dir = tempfile::tempdir().unwrap();
    let usual = Environment {
        config_dir: Some(dir.path().into()),
        home: dir.path().into(),
        ..Environment::default()
    };
    assert_eq!(load(&usual).unwrap().path, None);

    let missing = Environment { natssh_config: Some(dir.path().join("none.toml")), ..usual.clone() };
    let complaint = load(&missing).unwrap_err().to_string();
    assert!(
        complaint.ends_with("none.toml: NATSSH_CONFIG names this file, and it does not exist"),
        "{complaint}"
    );

    std::fs::create_dir(dir.path().join("natssh")).unwrap();
    std::fs::write(dir.path().join("natssh/natssh.toml"), "default = \"direct\"").unwrap();
    assert_eq!(load(&usual).unwrap().path, Some(dir.path().join("natssh/natssh.toml")));

    std::fs::write(dir.path().join("natssh/natssh.toml"), b"default = \"\xff\"").unwrap();
    assert!(load(&usual).unwrap_err().to_string().contains("cannot be read"));
}

#[test]
fn what_show_prints_means_the_same_when_it_is_loaded() {
    let plain = "default = \"teleport.example.com\"";
    for text in [FULL, plain, "", "[identity.\"a.b\"]\nkey = \"/k%\\\"\"\n[identity.b]\nagent = \"/s\""] {
        let file = File::read(text).0;
        let first = settings(text, Some(profile()));
        let shown = show::show(&first, &file);
        let again = settings(&shown, Some(profile()));
        assert_eq!(again.upstreams, first.upstreams, "{shown}");
        assert_eq!(again.identities, first.identities, "{shown}");
        for host in ["web.prod.example.com", "db.prod.example.com", "x.hq", "x.example", "10.0.0.1", "x"] {
            let essence = |settings: &Settings| Picked { rule: String::new(), ..pick(settings, host) };
            assert_eq!(essence(&again), essence(&first), "{host} in\n{shown}");
        }
    }
}

#[test]
fn show_says_where_each_value_comes_from() {
    let file = File::read(FULL).0;
    let shown = show::show(&settings(FULL, Some(profile())), &file);
    let line =
        |start: &str| shown.lines().find(|line| line.starts_with(start)).unwrap_or_default().to_owned();
    assert!(
        line("proxy = [\"teleport.example.org:3023\", \"10.0.0.2:443\"]").ends_with("# line 5"),
        "{shown}"
    );
    assert!(line("streams_per_trunk = 100").ends_with("# default"), "{shown}");
    assert!(line("proxy = \"ssh.example.com:3023\"").ends_with("# tsh profile"), "{shown}");
    assert!(line("[[route]]  # not written: names of upstream office").len() > 9, "{shown}");
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,200}") {
        let _ = checked(Path::new(PATH), &text, &[]);
    }

    #[test]
    fn no_mixture_of_its_own_words_makes_it_panic(words in prop::collection::vec(word(), 0..40)) {
        let text = words.concat();
        if let Ok(file) = checked(Path::new(PATH), &text, &["teleport.example.com"]) {
            let known = known(Some(profile()));
            let settings = resolve::resolve(None, &file, &known);
            for host in ["web", "web.example", "x"] {
                let picked = pick(&settings, host);
                prop_assert!(settings.upstreams.contains_key(&picked.upstream));
            }
            for upstream in settings.upstreams.values() {
                prop_assert!(upstream.identity.iter().all(|name| settings.identities.contains_key(name)));
            }
        }
    }
}

fn word() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "default = ",
        "\"office\"",
        "\"direct\"",
        "\n",
        "[upstream.office]\n",
        "[identity.me]\n",
        "[[route]]\n",
        "kind = \"teleport\"\n",
        "kind = \"direct\"\n",
        "proxy = \"p:1\"\n",
        "tsh = true\n",
        "agent = \"/x\"\n",
        "hosts = [\"*\"]\n",
        "hosts = [\"web\", \"!x\"]\n",
        "upstream = \"office\"\n",
        "upstream = \"direct\"\n",
        "identity = \"me\"\n",
        "strip_suffix = \".example\"\n",
        "map = { web = \"x\" }\n",
        "port = 1\n",
        "=",
        "[",
        "]",
        "\"",
        "'",
        "{",
        "}",
        "#",
        "cluster = \"c\"\n",
        "keepalive = \"3s\"\n",
    ])
}

#[test]
fn the_example_loads_and_says_the_defaults() {
    let text = include_str!("../../../examples/natssh.toml");
    let settings = settings(text, None);
    let office = &settings.upstreams["office"];
    assert_eq!(office.connect_timeout, resolve::CONNECT_TIMEOUT);
    assert_eq!(office.keepalive, resolve::KEEPALIVE);
    assert_eq!(office.streams_per_trunk, resolve::STREAMS_PER_TRUNK as usize);
    for (asked, expected) in [
        ("web.prod.example.net", "office web"),
        ("api.prod.example.net", "office api-01"),
        ("nas.lan", "direct nas.lan"),
        ("web.internal", "gate web.internal"),
        ("worker", "office worker"),
        ("teleport.example.com", "direct teleport.example.com"),
    ] {
        assert_eq!(way(&settings, asked), expected, "{asked}");
    }
}

#[test]
fn metrics_are_served_where_nobody_else_can_reach_them_or_not_at_all() {
    assert_eq!(settings("", None).metrics, None);
    for address in ["127.0.0.1:9464", "[::1]:0"] {
        let text = format!("[metrics]\nlisten = \"{address}\"\n");
        let first = settings(&text, None);
        assert_eq!(first.metrics, Some(address.parse().unwrap()));
        let shown = show::show(&first, &File::read(&text).0);
        assert_eq!(settings(&shown, None).metrics, first.metrics, "{shown}");
    }
    for (wrong, word) in [
        ("[metrics]\nlisten = \"0.0.0.0:9464\"", "can be reached from elsewhere"),
        ("[metrics]\nlisten = \"192.168.1.4:9464\"", "can be reached from elsewhere"),
        ("[metrics]\nlisten = \"localhost:9464\"", "no address with a port"),
        ("[metrics]\nlisten = 9464", "must be a string"),
        ("[metrics]\n", "listen is missing"),
        ("metrics = \"127.0.0.1:9464\"", "[metrics]"),
        ("[metrics]\nlisten = \"127.0.0.1:9464\"\npath = \"/\"", "unknown key \"path\""),
    ] {
        let said = complaints(wrong);
        assert!(said.contains(word), "{wrong:?}: {said:?}");
    }
}
