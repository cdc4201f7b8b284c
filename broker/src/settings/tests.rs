//! Decisions by the real ssh of this machine, on configurations of the test's own.

use super::*;
use crate::config::{self, Environment};
use crate::failures::Failures;
use crate::identity::testing::{authority, ed25519, pem, public_line, user_certificate, write};
use crate::target::{Proof, Purpose, Run, Strict, Trust};
use natssh_wire::word::Word;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A folder with a configuration of ssh's and one of natssh's.
struct World {
    folder: tempfile::TempDir,
    settings: Settings,
    reach: Reach,
}

impl World {
    /// None, said aloud, where there is no ssh.
    fn new(ssh_config: &str, natssh_toml: &str) -> Option<Self> {
        Self::after(ssh_config, natssh_toml, |_| {})
    }

    /// The same, with files that are there before the configuration is read.
    fn after(ssh_config: &str, natssh_toml: &str, prepare: impl FnOnce(&Path)) -> Option<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        if !std::env::split_paths(&path).any(|folder| folder.join("ssh").is_file()) {
            eprintln!("skipped: there is no ssh here");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        prepare(folder.path());
        std::fs::write(folder.path().join("config"), ssh_config).unwrap();
        std::fs::write(folder.path().join("natssh.toml"), natssh_toml).unwrap();
        let environment = Environment {
            natssh_config: Some(folder.path().join("natssh.toml")),
            home: folder.path().to_owned(),
            teleport_home: Some(folder.path().join("tsh").into()),
            user: "alice".into(),
            ..Environment::default()
        };
        let loaded = config::load(&environment).unwrap_or_else(|complaints| panic!("{complaints}"));
        let reach = Reach::new(loaded, Arc::new(Failures::default()), folder.path().join("state"));
        Some(Self { folder, settings: Settings::default(), reach })
    }

    async fn decide(&self, words: &[&str]) -> Decision {
        self.settings.decide(self.look(words), &self.reach).await.unwrap()
    }

    /// What the real ssh is told where a call turns out to be its own.
    async fn told(&self, words: &[&str]) -> Resolution {
        self.settings.hand_over(self.look(words), &self.reach, "it turned out so").await.unwrap()
    }

    fn look(&self, words: &[&str]) -> Looked {
        self.settings.look(&Arc::new(self.request(words)), &self.reach)
    }

    fn request(&self, words: &[&str]) -> ExecRequest {
        let words = ["-F", "config"].iter().chain(words).map(|word| Word::from(*word)).collect();
        let variable = |name: &str| Some((Word::from(name), Word::from(std::env::var_os(name)?)));
        ExecRequest {
            words,
            directory: Word::from(self.folder.path().as_os_str().to_owned()),
            environment: ["PATH", "HOME"].into_iter().filter_map(variable).collect(),
            ..ExecRequest::default()
        }
    }

    async fn native(&self, words: &[&str]) -> Target {
        match self.decide(words).await {
            Decision::Native(target, _) | Decision::Connection(target, ..) => *target,
            Decision::RealSsh(why) => panic!("{words:?}: {why:?}"),
        }
    }

    /// Why the real ssh, and whether through natssh.
    async fn real_ssh(&self, words: &[&str]) -> (String, bool) {
        match self.decide(words).await {
            Decision::RealSsh(Resolution { reason, tunnel, .. }) => (reason.unwrap(), tunnel),
            Decision::Native(..) | Decision::Connection(..) => panic!("{words:?} is native"),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

const OFFICE: &str = "[upstream.office]\nkind = \"bastion\"\nhost = \"bastion.example.com\"\n";

#[tokio::test]
async fn what_ssh_would_do_is_what_natssh_does() {
    let config = "Host web\n  HostName %h.example.com\n  User ops\n  Port 2222\n  IdentityFile keys/%r\n  \
        UserKnownHostsFile known\n  GlobalKnownHostsFile none\n  StrictHostKeyChecking accept-new\n  HostKeyAlias Web-Alias\n  \
        IdentityAgent none\n  IdentitiesOnly yes\n  SetEnv A=b\n  ControlPersist 5m\n";
    let Some(world) = World::new(config, "") else { return };
    let Decision::Native(target, wishes) = world.decide(&["web", "echo", "%d"]).await else { panic!() };
    assert_eq!((target.host.as_str(), target.port, target.user.as_str()), ("web.example.com", 2222, "ops"));
    assert_eq!(target.way, Way::Route);
    let keys = vec![world.path("keys/ops")];
    let other_ways = target.proof.other_ways.clone();
    assert_eq!(target.proof, Proof { keys, certificates: vec![], only_these: true, agent: None, other_ways });
    assert_eq!(
        target.trust,
        Trust {
            alias: Some("web-alias".into()),
            user_files: vec![world.path("known")],
            global_files: vec![],
            command: None,
            strict: Strict::AcceptNew,
            hash: false,
        }
    );
    assert_eq!(wishes.run, Run::Command(b"echo %d".to_vec()));
    assert_eq!(wishes.environment, [(b"A".to_vec(), b"b".to_vec())]);
    assert_eq!(wishes.keep, Some(std::time::Duration::from_secs(300)));
}

/// A call for the connection alone, which is the same one that a command would run on.
#[tokio::test]
async fn what_runs_nothing_has_the_session_of_what_does() {
    let config =
        "Host *\n  ForwardAgent yes\nHost kept\n  SessionType none\nHost sub\n  SessionType subsystem\n";
    let Some(world) = World::new(config, "") else { return };
    let forward = |host: &str| Purpose::Forward(NodeAddr { host: host.into(), port: 22 });
    for (words, purpose, no_input) in [
        (&["-W", "db:22", "web"][..], forward("db"), false),
        (&["-nW", "[::1]:22", "web"], forward("::1"), true),
        (&["-N", "web"], Purpose::Nothing, true),
        (&["-N", "web", "true"], Purpose::Nothing, true),
        (&["kept"], Purpose::Nothing, true),
        (&["-W", "db:22", "-oLocalForward=1 a:1", "web"], forward("db"), false),
    ] {
        let decision = world.decide(words).await;
        let Decision::Connection(target, wishes, wanted) = decision else {
            panic!("{words:?}: {decision:?}")
        };
        assert_eq!((wanted, wishes.no_input), (purpose, no_input), "{words:?}");
        let command = ["-oForwardAgent=no", "-oSessionType=default", &target.typed, "true"];
        assert_eq!(*target, world.native(&command).await, "{words:?}");
    }
    let sub = world.decide(&["-oForwardAgent=no", "-oStdinNull=yes", "sub", "sftp"]).await;
    let Decision::Native(_, wishes) = sub else { panic!("{sub:?}") };
    assert_eq!((wishes.run, wishes.no_input), (Run::Subsystem("sftp".into()), true));
    for (words, part) in [
        (&["-N", "-L", "1:a:1", "web"][..], "-L forwards"),
        (&["-N", "-oLocalForward=1 a:1", "web"], "LocalForward is"),
        (&["-oForwardAgent=no", "sub"], "none is named"),
        (&["-W", "db:ssh", "web"], "-W names no host"),
        (&["-W", "db:1", "-W", "db:2", "web"], "already specified"),
        (&["-O", "check", "web"], "-O controls"),
    ] {
        let (reason, _) = world.real_ssh(words).await;
        assert!(reason.contains(part), "{words:?}: {reason}");
    }
}

#[tokio::test]
async fn home_and_login_are_those_of_the_system_s_accounts() {
    let Some(world) = World::new("", "") else { return };
    let target = world.native(&["-oUserKnownHostsFile=/x/%d", "web", "true"]).await;
    let home = target.trust.user_files[0].to_string_lossy().into_owned();
    let home = home.strip_prefix("/x/").unwrap();
    let default = world.native(&["web", "true"]).await;
    assert!(
        default.proof.keys.contains(&Path::new(home).join(".ssh/id_ed25519")),
        "{:?}",
        default.proof.keys
    );
    let by_token = world.native(&["-oIdentityFile=%u", "-l", "ops", "web", "true"]).await;
    let by_ssh = world.native(&["-oIdentityFile=x", "web", "true"]).await;
    assert_eq!(by_token.proof.keys, [world.path(&by_ssh.user)], "unasked, the login is the account's name");
}

/// Every token that ssh also expands before it prints, compared with what natssh makes of the same text.
#[tokio::test]
async fn tokens_are_expanded_as_ssh_expands_them() {
    let Some(world) = World::new("Host Web\n  HostName %h.Example.com\n", "") else { return };
    let text = "%C,%d,%h,%i,%k,%L,%l,%n,%p,%r,%u,${HOME}";
    for words in [&["-p", "77", "-l", "ops", "Web"][..], &["-oHostKeyAlias=Other", "web"], &["10.0.0.1"]] {
        let known = format!("UserKnownHostsFile=/{text}");
        let key = format!("IdentityFile=/{text}");
        let by_ssh = [&["-o", known.as_str()], words, &["true"]].concat();
        let by_natssh = [&["-o", key.as_str()], words, &["true"]].concat();
        let expected = world.native(&by_ssh).await.trust.user_files;
        assert_eq!(world.native(&by_natssh).await.proof.keys, expected, "{words:?}");
    }
}

#[tokio::test]
async fn the_real_ssh_says_itself_what_is_wrong() {
    let Some(world) = World::new("Host bad\n  RemoteCommand uptime\n", "") else { return };
    for (words, part) in [
        (&["-oFooBar=1", "web", "true"][..], "Bad configuration option"),
        (&["-F", "nowhere", "web", "true"], "nowhere"),
        (&["bad", "true"], "remote command"),
        (&["-Q", "cipher"], "prints"),
        (&["-L", "1:a:1", "web"], "forwards"),
        (&["-oForwardAgent=yes", "web", "true"], "ForwardAgent is yes"),
        (&["-oIdentityAgent=%d/${HOME}/%%", "web", "true"], "IdentityAgent"),
    ] {
        let (reason, tunnel) = world.real_ssh(words).await;
        assert!(reason.to_lowercase().contains(&part.to_lowercase()), "{words:?}: {reason}");
        assert!(!tunnel);
    }
}

#[tokio::test]
async fn the_real_ssh_goes_through_natssh_where_only_natssh_knows_the_way() {
    let toml = format!(
        "default = \"office\"\n{OFFICE}[[route]]\nhosts = [\"written\"]\nupstream = \"office\"\n\
         [[route]]\nhosts = [\"near\"]\nupstream = \"direct\"\n"
    );
    let config = "Host jumped written near\n  ProxyJump gate\nHost ours\n  ProxyCommand natssh proxy %h %p\n";
    let Some(world) = World::new(config, &toml) else { return };
    for (words, tunnel) in [
        (&["-L", "1:a:1", "web"][..], true),
        (&["-oForwardAgent=yes", "web"], true),
        (&["-L", "1:a:1", "written"], true),
        // By the route it is straight, so the jump must not be taken.
        (&["-L", "1:a:1", "near"], true),
        (&["-L", "1:a:1", "jumped"], false),
        (&["-L", "1:a:1", "ours"], false),
        (&["-L", "1:a:1", "-J", "gate", "written"], false),
        (&["-oProxyCommand=none", "web"], false),
        (&["-O", "check", "web"], false),
    ] {
        assert_eq!(world.real_ssh(words).await.1, tunnel, "{words:?}");
    }
    for words in [&["web", "true"][..], &["written", "true"], &["near", "true"], &["ours", "true"]] {
        assert_eq!(world.native(words).await.way, Way::Route, "{words:?}");
    }
}

#[tokio::test]
async fn where_natssh_connects_itself_the_address_matters() {
    let toml = format!("{OFFICE}[[route]]\nhosts = [\"far\"]\nupstream = \"office\"\n");
    let Some(world) = World::new("", &toml) else { return };
    for (words, named) in [
        (&["-6", "near", "true"][..], "AddressFamily is inet6"),
        (&["-b", "::1", "near", "true"], "BindAddress is ::1"),
    ] {
        assert!(world.real_ssh(words).await.0.starts_with(named));
    }
    for words in [&["-6", "far", "true"][..], &["-b", "::1", "far", "true"]] {
        world.native(words).await;
    }
}

/// A login with tsh.
fn logged_in(folder: &Path) {
    let key = ed25519(1);
    let put = |name: &str, text: &str| write(&folder.join("tsh").join(name), text);
    put("current-profile", "proxy.example.com\n");
    put(
        "proxy.example.com.yaml",
        "web_proxy_addr: proxy.example.com:3080\nssh_proxy_addr: proxy.example.com:3023\nuser: me\ncluster: Example\n",
    );
    put("keys/proxy.example.com/me", &pem(&key));
    put("keys/proxy.example.com/me.pub", &public_line(&key));
    let certificate = user_certificate(&key, "me", &["root"]).to_openssh().unwrap();
    put("keys/proxy.example.com/me-ssh/Example-cert.pub", &certificate);
    let authority = public_line(&authority());
    put(
        "known_hosts",
        &format!("@cert-authority proxy.example.com,Example,*.Example {authority} type=host\n"),
    );
}

#[tokio::test]
async fn a_node_of_a_cluster_is_met_as_the_upstream_s_identity() {
    let Some(world) =
        World::after("Host named\n  Port 22\n  User ops\n", "default = \"proxy.example.com\"\n", logged_in)
    else {
        return;
    };
    let plain = world.native(&["Web.Example", "true"]).await;
    let ssh_alone = world.native(&["proxy.example.com", "true"]).await;
    let tsh = world.path("tsh");
    let (key, known_hosts) = (tsh.join("keys/proxy.example.com/me"), tsh.join("known_hosts"));
    assert_eq!(plain.proof.keys[0], key);
    assert_eq!(plain.proof.keys[1..], ssh_alone.proof.keys[..], "ssh's own come behind it");
    assert_eq!(plain.proof.certificates, [tsh.join("keys/proxy.example.com/me-ssh/Example-cert.pub")]);
    assert_eq!(plain.trust.alias.as_deref(), Some("web.example"));
    assert!(plain.trust.global_files.contains(&known_hosts), "{:?}", plain.trust.global_files);
    assert_eq!((plain.host.as_str(), plain.port), ("Web.Example", 22), "a file of ssh's names a port");

    let as_another = world.native(&["-oIdentityFile=/other", "web.example", "true"]).await;
    assert_eq!(as_another.proof.keys, [PathBuf::from("/other")]);
    assert!(as_another.trust.global_files.contains(&known_hosts), "who to be says nothing of whom to trust");
    for option in ["UserKnownHostsFile=none", "GlobalKnownHostsFile=none", "HostKeyAlias=web"] {
        let trusting = world.native(&["-o", option, "web.example", "true"]).await;
        assert!(!trusting.trust.global_files.contains(&known_hosts), "{option} is the user's to say");
        assert_eq!(trusting.proof.keys[0], key);
    }
}

#[tokio::test]
async fn one_look_is_enough_for_the_identity_too() {
    let Some(world) = World::after("", "default = \"proxy.example.com\"\n", logged_in) else { return };
    let identity = world.reach.identity("proxy.example.com").unwrap();
    let since = std::time::Instant::now();
    assert!(identity.seen_since(since).is_none());
    let looked = world.look(&["web", "true"]);
    let since = looked.found.ok().unwrap().seen.unwrap().since;
    assert!(identity.seen_since(since).is_some());
}

#[tokio::test]
async fn an_identity_that_ssh_was_told_to_renew_is_met_as_it_is_then() {
    let prepare = |folder: &Path| {
        logged_in(folder);
        std::fs::rename(folder.join("tsh/keys"), folder.join("renewed")).unwrap();
    };
    let config = "Match exec \"test ! -e renewed || mv renewed tsh/keys\"\n";
    let Some(world) = World::after(config, "default = \"proxy.example.com\"\n", prepare) else { return };
    let target = world.native(&["web.example", "true"]).await;
    assert_eq!(target.proof.keys[0], world.path("tsh").join("keys/proxy.example.com/me"));
}

#[tokio::test]
async fn login_and_port_of_a_cluster_hold_where_the_user_names_none() {
    let toml = "[upstream.office]\nkind = \"teleport\"\nproxy = \"proxy.example.com:3023\"\nlogin = \"deploy\"\ncluster = \"Example\"\n\
        [[route]]\nhosts = [\"*\"]\nupstream = \"office\"\n";
    let Some(world) = World::after("", toml, logged_in) else {
        return;
    };
    let plain = world.native(&["web", "true"]).await;
    assert_eq!((plain.user.as_str(), plain.port), ("deploy", 3022));
    let said = world.native(&["-p", "22", "-l", "ops", "web", "true"]).await;
    assert_eq!((said.user.as_str(), said.port), ("ops", 22));
}

#[tokio::test]
async fn the_real_ssh_is_told_what_natssh_would_go_by() {
    let toml = "[upstream.office]\nkind = \"teleport\"\nproxy = \"127.0.0.1:1\"\nidentity = \"proxy.example.com\"\nlogin = \"deploy\"\ncluster = \"Example\"\n\
        known_hosts = [\"/etc/known\"]\n[[route]]\nhosts = [\"*\"]\nupstream = \"office\"\n";
    let Some(world) = World::after("", toml, logged_in) else { return };
    for words in [
        &["web"][..],
        &["root@Web"],
        &["-p", "22", "web"],
        &["-oIdentityFile=/other", "web"],
        &["-o", "UserKnownHostsFile=none", "web"],
        &["-o", "HostKeyAlias=x", "-l", "ops", "web"],
    ] {
        let Resolution { tunnel, reason, options, host, port, user, .. } = world.told(words).await;
        assert_eq!((tunnel, reason.as_deref()), (true, Some("it turned out so")));
        let meant = world.native(words).await;
        assert_eq!((&host, port, &user), (&meant.host, meant.port, &meant.user), "{words:?}");
        let asked = world.decide(&[&["-A"], words].concat()).await;
        assert!(matches!(asked, Decision::RealSsh(told) if told.options == options), "{words:?}");
        // Said in so many words, it is what natssh itself makes of the call.
        let told = options.iter().flat_map(|option| ["-o", option]).chain(words.iter().copied());
        assert_eq!(world.native(&told.collect::<Vec<_>>()).await, meant, "{options:?}");
    }
    let told = world.told(&["web"]).await.options;
    for start in
        ["IdentityFile=", "CertificateFile=", "GlobalKnownHostsFile=", "HostKeyAlias=", "Port=", "User="]
    {
        assert!(told.iter().any(|option| option.starts_with(start)), "{start} in {told:?}");
    }
    let toml = toml.replace("/etc/known", "/etc/a file 50%");
    let Some(odd) = World::after("", &toml, logged_in) else { return };
    let files = odd.told(&["web"]).await.options.into_iter().find(|option| option.starts_with("Global"));
    assert!(files.as_ref().is_some_and(|files| files.contains(r#" "/etc/a file 50%" "#)), "{files:?}");
    let own = ["-oIdentityFile=/other", "-o", "HostKeyAlias=x", "-p", "22", "-l", "ops", "web"];
    assert_eq!(world.told(&own).await.options, [""; 0]);
    let jump = world.told(&["-J", "gate", "web"]).await;
    assert_eq!((jump.tunnel, jump.options), (false, vec![]), "natssh's routes are not the way there");
}

#[tokio::test]
async fn jump_hosts_have_settings_of_their_own() {
    let config = "Host web\n  ProxyJump ops@gate:2222,inner\nHost gate\n  HostName gate.example.com\n  ProxyJump outer\n  \
        ForwardAgent yes\n  IdentityFile gate_key\nHost inner\n  ProxyCommand never %h\nHost outer\n  ProxyCommand nc -X 5 %h %p\n\
        Host strange\n  ProxyJump helped\nHost helped\n  HostbasedAuthentication yes\nHost loop\n  ProxyJump pool\nHost pool\n  ProxyJump loop\n";
    let Some(world) = World::new(config, "") else { return };
    let web = world.native(&["web", "true"]).await;
    let Way::Jump(hops) = web.way else { panic!("{:?}", web.way) };
    let seen: Vec<_> = hops.iter().map(|hop| (hop.host.as_str(), hop.port, hop.way.clone())).collect();
    assert_eq!(
        seen,
        [
            ("outer", 22, Way::Command("nc -X 5 outer 22".into())),
            ("gate.example.com", 2222, Way::Route),
            ("inner", 22, Way::Route),
        ]
    );
    assert_eq!(hops[1].user, "ops");
    assert_eq!(hops[1].proof.keys, [world.path("gate_key")]);
    let (reason, tunnel) = world.real_ssh(&["strange", "true"]).await;
    assert!(reason.starts_with("ProxyJump helped: HostbasedAuthentication is yes") && !tunnel, "{reason}");
    let (reason, _) = world.real_ssh(&["loop", "true"]).await;
    assert!(reason.contains("ProxyJump"), "{reason}");
}

#[tokio::test]
async fn a_proxy_command_is_run_by_natssh_unless_it_passes_a_descriptor() {
    let config = "Host Web\n  ProxyCommand connect %r@%h:%p (%n, %%)\nHost passed\n  ProxyCommand x\n  ProxyUseFdpass yes\n";
    let Some(world) = World::new(config, "") else { return };
    let web = world.native(&["ops@Web", "true"]).await;
    assert_eq!(web.way, Way::Command("connect ops@web:22 (Web, %)".into()));
    assert_eq!(world.real_ssh(&["passed", "true"]).await, ("ProxyUseFdpass is yes".into(), false));
}
