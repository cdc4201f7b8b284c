//! Who natssh is to the proxy: every place a key can come from, every way in
//! which one can be unfit, and how a new login is noticed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use natssh_lab::Fault;
use natssh_lab::ca::tsh::{Layout, Profile};
use natssh_lab::ca::{Credential, KeyKind, UserRequest, Validity, openssh, tsh};
use natssh_lab::faults::{CertFault, Switch};
use natssh_lab::proxy::{Face, TlsRouting};
use natssh_tests::{Plan, Running, Said, World, door, need, run};
use natssh_wire::status::IdentityState;

/// What a refusal may take that no server is needed for.
const AT_ONCE: Duration = Duration::from_secs(2);

/// A world whose upstream shows the key `me` in the world's own folder, which
/// ssh does not use: what becomes of it is between natssh and the proxy.
fn world_with_a_key() -> (World, PathBuf) {
    let world = Plan::new().without_broker().start();
    let me = world.path().join("me");
    let config = fs::read_to_string(world.config_path()).unwrap();
    let identity = format!("key = \"{me}\"\ncertificate = \"{me}-cert.pub\"", me = me.display());
    let known_hosts =
        format!("identity = \"me\"\nknown_hosts = [\"{}\"]", world.credentials.known_hosts().display());
    let config = config.replace("tsh = true", &identity).replace("identity = \"me\"", &known_hosts);
    world.write_config(&config);
    openssh::write(&me, &issue(&world, KeyKind::Ed25519, Validity::ttl(Duration::from_secs(3600)))).unwrap();
    world.start_broker();
    (world, me)
}

/// A key of this kind with the user's certificate.
fn issue(world: &World, kind: KeyKind, validity: Validity) -> Credential {
    let request = UserRequest::new("alice", &[world.login()]).valid(validity);
    world.lab.authority().sign_user(&request, kind.generate().unwrap()).unwrap()
}

#[track_caller]
fn greets(world: &World, words: &[&str]) {
    let said = run(world.ssh(&[words, &["echo hello"]].concat()));
    assert_eq!(said.ok(), "hello\n");
}

/// An ssh agent with the lab's key and certificate.
fn agent(world: &World) -> (Running, PathBuf) {
    let socket = world.path().join("agent.sock");
    let mut agent = world.command("ssh-agent");
    agent.arg("-D").arg("-a").arg(&socket);
    let agent = Running::start(agent);
    natssh_tests::wait::until_heard_at(&socket);
    agent_command(world, &socket, &["-q", &world.credentials.openssh_key().display().to_string()]);
    (agent, socket)
}

fn agent_command(world: &World, socket: &Path, words: &[&str]) {
    let mut add = world.command("ssh-add");
    add.env("SSH_AUTH_SOCK", socket).args(words);
    run(add).ok();
}

/// `ssh worker true` with this agent in the caller's environment.
fn with_agent(world: &World, socket: &Path) -> Command {
    let mut ssh = world.ssh(&["worker", "echo hello"]);
    ssh.env("SSH_AUTH_SOCK", socket);
    ssh
}

#[test]
fn a_key_from_any_source_opens_the_way() {
    need!("ssh", "sshd");
    let world = Plan::new().without_broker().start();
    let files = &world.credentials;
    let (key, known_hosts) = (files.openssh_key(), files.known_hosts());
    let sources = [
        ("file", format!("file = \"{}\"", files.identity_file().display())),
        ("folder", format!("directory = \"{}\"", files.tbot().display())),
        ("key", format!("key = \"{key}\"\ncertificate = \"{key}-cert.pub\"", key = key.display())),
    ];
    let mut config = fs::read_to_string(world.config_path()).unwrap().replace(
        "identity = \"me\"",
        &format!("identity = \"me\"\nknown_hosts = [\"{}\"]", known_hosts.display()),
    );
    for (name, lines) in &sources {
        config += &format!(
            "[identity.{name}]\n{lines}\n\n[[route]]\nhosts = [\"*.{name}\"]\nstrip_suffix = \".{name}\"\n\
             upstream = \"lab\"\nidentity = \"{name}\"\n\n"
        );
    }
    world.write_config(&config);
    world.start_broker();
    greets(&world, &["worker"]);
    for (name, _) in &sources {
        greets(&world, &["-o", "HostKeyAlias=worker", &format!("worker.{name}")]);
    }
    let status = world.status();
    assert_eq!(world.upstream().dials_ok, 4, "a trunk for each");
    assert!(status.healthy && status.failures.is_empty(), "{status:#?}");
    for identity in status.identities {
        assert_eq!((identity.state, identity.user.as_deref()), (IdentityState::Valid, Some("alice")));
    }
}

#[test]
fn a_tsh_profile_of_any_age_opens_the_way() {
    need!("ssh", "sshd");
    let world = Plan::new().without_broker().start();
    let ages = [("v4", Layout::V4), ("v5", Layout::V5), ("v7", Layout::V7), ("v17", Layout::V17)];
    let mut config = fs::read_to_string(world.config_path()).unwrap();
    for (name, layout) in ages {
        let home = world.path().join(name);
        let profile = Profile {
            proxy_host: "127.0.0.1".into(),
            web_port: 3080,
            ssh_proxy_addr: "127.0.0.1:3023".into(),
            tls_routing: TlsRouting::Off,
            layout,
        };
        let credential = issue(&world, KeyKind::Ed25519, Validity::ttl(Duration::from_secs(3600)));
        tsh::write(&home, &profile, world.lab.authority(), &credential).unwrap();
        config += &format!(
            "[identity.{name}]\ntsh = true\nhome = \"{}\"\n\n[[route]]\nhosts = [\"*.{name}\"]\n\
             strip_suffix = \".{name}\"\nupstream = \"lab\"\nidentity = \"{name}\"\n\n",
            home.display()
        );
    }
    world.write_config(&config);
    world.start_broker();
    for (name, _) in ages {
        greets(&world, &["-o", "HostKeyAlias=worker", &format!("worker.{name}")]);
    }
    let status = world.status();
    for (name, _) in ages {
        let identity = status.identities.iter().find(|identity| identity.name == name).unwrap();
        assert_eq!((identity.state, identity.kind.as_str()), (IdentityState::Valid, "tsh"), "{name}");
        assert_eq!(
            (identity.cluster.as_deref(), &identity.upstreams[..]),
            (Some("lab"), &["lab".into()][..])
        );
    }
}

#[test]
fn the_callers_agent_opens_the_way_and_its_absence_closes_it() {
    need!("ssh", "sshd", "ssh-agent", "ssh-add");
    let known_hosts = |world: &World| world.credentials.known_hosts().display().to_string();
    let world = Plan::new().identity(|_| "agent = true".into()).without_broker().start();
    let config = fs::read_to_string(world.config_path()).unwrap();
    world.write_config(&config.replace(
        "identity = \"me\"\n",
        &format!("identity = \"me\"\nknown_hosts = [\"{}\"]\n", known_hosts(&world)),
    ));
    world.start_broker();

    refused(&world, &run(world.ssh(&["worker", "true"])), "no ssh agent is named");
    let (running, socket) = agent(&world);
    assert_eq!(run(with_agent(&world, &socket)).ok(), "hello\n");
    assert_eq!(run(with_agent(&world, &socket)).ok(), "hello\n");
    assert_eq!(world.upstream().dials_ok, 1, "the second rode on the first one's trunk");

    // The trunk is warm, and yet: the key has left.
    agent_command(&world, &socket, &["-q", "-D"]);
    refused(&world, &run(with_agent(&world, &socket)), "holds no usable key");
    let key = world.credentials.openssh_key().display().to_string();
    agent_command(&world, &socket, &["-q", &key]);
    assert_eq!(run(with_agent(&world, &socket)).ok(), "hello\n");
    drop(running);
    refused(&world, &run(with_agent(&world, &socket)), "does not answer");
}

#[test]
fn keys_of_every_kind_are_taken() {
    need!("ssh", "sshd");
    let (world, me) = world_with_a_key();
    for (number, kind) in [KeyKind::Ed25519, KeyKind::Ecdsa, KeyKind::Rsa].into_iter().enumerate() {
        openssh::write(&me, &issue(&world, kind, Validity::ttl(Duration::from_secs(3600)))).unwrap();
        greets(&world, &["worker"]);
        assert_eq!(world.upstream().dials_ok, number as u64 + 1, "{kind:?} dialled anew");
    }
    assert!(!world.upstream().sha1);
}

#[test]
fn clusters_of_every_age_are_reached() {
    need!("ssh", "sshd");
    for keys in [KeyKind::Rsa, KeyKind::Ecdsa] {
        let world = Plan::new().keys(keys).start();
        greets(&world, &["worker"]);
        assert!(!world.upstream().sha1, "{keys:?}");
    }
    let world = Plan::new().face(Face::Old).start();
    greets(&world, &["worker"]);
    let upstream = world.upstream();
    assert!(
        upstream.sha1 && upstream.warnings.iter().any(|warning| warning.contains("SHA-1")),
        "{upstream:#?}"
    );
}

#[test]
fn an_unfit_key_is_refused_at_once_with_what_to_type() {
    need!("ssh", "sshd", "ssh-keygen");
    let (world, me) = world_with_a_key();
    let certificate = me.with_file_name("me-cert.pub");
    greets(&world, &["worker"]);
    let good = issue(&world, KeyKind::Ed25519, Validity::ttl(Duration::from_secs(3600)));
    let refuse = |words: &str, hint: &str| {
        let said = refused(&world, &run(world.ssh(&["worker", "true"])), words);
        assert!(said.contains(hint), "{hint:?} in {said}");
        let status = world.status();
        let identity = status.identities.iter().find(|identity| identity.name == "me").unwrap();
        assert!(!status.healthy, "{words}");
        assert!(identity.message.as_deref().is_some_and(|message| said.contains(message)), "{identity:?}");
        // As it was: the very next connection goes through.
        openssh::write(&me, &good).unwrap();
        fs::set_permissions(&me, fs::Permissions::from_mode(0o600)).unwrap();
        greets(&world, &["worker"]);
    };

    openssh::write(&me, &issue(&world, KeyKind::Ed25519, Validity::expired())).unwrap();
    refuse("expired 1 h", "");
    openssh::write(&me, &issue(&world, KeyKind::Ed25519, Validity::not_yet())).unwrap();
    refuse("this machine's clock is slow by at least that", "timedatectl");
    fs::remove_file(&certificate).unwrap();
    refuse("there is no certificate at", "");
    fs::remove_file(&me).unwrap();
    refuse("there is no private key at", "");
    fs::write(&certificate, "ssh-ed25519-cert-v01@openssh.com AAAA\n").unwrap();
    refuse("me-cert.pub holds no", "");
    openssh::write(&me.with_file_name("other"), &issue(&world, KeyKind::Ed25519, Validity::Forever)).unwrap();
    fs::copy(me.with_file_name("other-cert.pub"), &certificate).unwrap();
    refuse("is a certificate for another key", "");
    fs::set_permissions(&me, fs::Permissions::from_mode(0o640)).unwrap();
    refuse("others may read (mode 0640)", "chmod 600");
    let mut keygen = world.command("ssh-keygen");
    keygen.args(["-q", "-p", "-P", "", "-N", "secret", "-f"]).arg(&me);
    run(keygen).ok();
    refuse("needs a passphrase", "ssh-add");
}

#[test]
fn a_login_that_the_certificate_does_not_allow_is_refused_before_the_proxy_is_asked() {
    need!("ssh", "sshd");
    let world = Plan::new().upstream("login = \"operator\"").start();
    let said = refused(&world, &run(world.ssh(&["worker", "true"])), "does not allow the login \"operator\"");
    assert!(said.contains(world.login()), "{said}");
    let upstream = world.upstream();
    assert_eq!((upstream.dials_ok, upstream.server), (0, None));
}

#[test]
fn what_tsh_renews_and_removes_is_noticed_by_the_next_connection() {
    need!("ssh", "sshd");
    let world = Plan::new().start();
    let own = world.path().join("own");
    openssh::write(&own, &issue(&world, KeyKind::Ed25519, Validity::ttl(Duration::from_secs(3600)))).unwrap();
    let own = own.display().to_string();
    let mine =
        ["-o", &format!("IdentityFile={own}"), "-o", &format!("CertificateFile={own}-cert.pub"), "worker"];
    greets(&world, &mine);
    let mut open = Running::interactive(world.ssh(&[&mine[..], &["echo open; cat"]].concat()));
    open.until_said("open");

    world.fault(Fault::Cert(CertFault::Expire));
    refused(&world, &run(world.ssh(&mine)), "expired 1 h");
    let status = world.status();
    let identity = status.identities.iter().find(|identity| identity.name == "me").unwrap();
    assert_eq!(identity.state, IdentityState::Expired);
    world.fault(Fault::Cert(CertFault::Rotate));
    greets(&world, &mine);
    world.fault(Fault::Cert(CertFault::Remove));
    let said = refused(&world, &run(world.ssh(&mine)), "there is no");
    assert!(said.contains("tsh login"), "{said}");
    world.fault(Fault::Cert(CertFault::Replace));
    greets(&world, &mine);

    // Whoever was connected stayed so.
    open.write(b"all along\n");
    open.until_said("all along\n");
    open.end().ok();
    assert_eq!(world.upstream().streams_cut, 0);
}

#[test]
fn a_recording_proxy_gets_its_agent_when_it_asks() {
    need!("ssh", "sshd");
    let world = Plan::new().start();
    world.fault(Fault::Recording(Switch::On));
    greets(&world, &["worker"]);
    greets(&world, &["control-plane"]);
    assert!(world.status().failures.is_empty(), "{:?}", world.status().failures);
}

/// A real sshd in the place of the proxy says what it was offered.
#[test]
fn a_proxy_that_does_not_record_is_offered_no_agent() {
    need!("ssh", "sshd");
    let world = Plan::new().without_broker().start();
    let proxy = world.sshd_as_proxy(&[("proxy:tell:22@lab", "echo agent at $SSH_AUTH_SOCK.")]);
    let (_agent, socket) = agent(&world);
    world.start_broker();
    let mut stream = door::connect(&world.socket(), "tell:22");
    let mut told = String::new();
    std::io::Read::read_to_string(&mut stream, &mut told).unwrap();
    assert_eq!(told, "agent at .\n");

    // The same question is answered otherwise to a client that does offer one.
    let mut ssh = world.ssh(&[
        "-A",
        "-o",
        "IdentityAgent=SSH_AUTH_SOCK",
        "-o",
        "ProxyCommand=none",
        "-o",
        "HostKeyAlias=proxy",
    ]);
    ssh.env("SSH_AUTH_SOCK", &socket).args(["-p", &proxy.address().port().to_string()]);
    ssh.args(["127.0.0.1", "-s", "proxy:tell:22@lab"]);
    let said = run(ssh).text();
    assert!(said.starts_with("agent at /"), "{said}");
}

/// Checks that ssh was refused at once, with one line of natssh's that holds
/// `words`, and that `natssh why` says the same; the line.
#[track_caller]
fn refused(world: &World, said: &Said, words: &str) -> String {
    let ours: Vec<_> = said.unreachable().lines().filter(|line| line.starts_with("natssh: ")).collect();
    assert_eq!(ours.len(), 1, "{}", said.stderr);
    assert!(ours[0].contains(words), "{words:?} in {}", said.stderr);
    assert!(said.took < AT_ONCE, "{:?}: {}", said.took, said.stderr);
    let (why, sentence) = (world.why("worker").text(), ours[0].trim_start_matches("natssh: "));
    let message = sentence.split(" (").next().unwrap();
    assert!(why.contains(message), "{message:?} in {why}");
    ours[0].to_owned()
}

/// Design, not chance: a trunk outlives the certificate that opened it, and serves nobody new.
#[test]
fn what_a_certificate_opened_takes_nobody_new_after_its_end() {
    need!("ssh", "sshd");
    let (world, me) = world_with_a_key();
    openssh::write(&me, &issue(&world, KeyKind::Ed25519, Validity::ttl(Duration::from_secs(8)))).unwrap();
    greets(&world, &["worker"]);
    let open = Running::interactive(world.ssh(&["worker", "echo open; cat"]));
    open.until_said("open");
    world.until_status("the certificate has ended", |status| {
        status.identities.iter().any(|identity| identity.state == IdentityState::Expired)
    });
    let begun = std::time::Instant::now();
    let said = run(world.ssh(&["worker", "true"]));
    assert!(said.unreachable().contains("expired"), "{}", said.stderr);
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    // Who was there stays, until they leave by themselves.
    open.end().ok();
    assert_eq!(world.upstream().streams_cut, 0);
    // Identities are looked at every ten seconds, and the end of one is news once.
    natssh_tests::until("the end is in the log", || (world.log_lines("expired") > 0).then_some(()));
    assert_eq!(world.log_lines("expired"), 1, "{}", world.log());
}

#[test]
fn the_identities_command_tells_everything_with_a_broker_or_without() {
    need!("ssh-keygen");
    let (world, me) = world_with_a_key();
    let told = run(world.natssh(&["identities"]));
    let text = told.ok();
    for words in ["me: valid\n", "  user     alice\n", "  used by  lab\n", "\n  until    20"] {
        assert!(text.contains(words), "{words:?} is not in {text}");
    }
    assert!(text.contains(&format!("  logins   {}\n", world.login())), "{text}");
    run(world.natssh(&["broker", "stop"])).ok();

    openssh::write(&me, &issue(&world, KeyKind::Ed25519, Validity::expired())).unwrap();
    let told = run(world.natssh(&["identities", "--json"]));
    assert_eq!(told.code, Some(1), "{}", told.stderr);
    let identities: Vec<natssh_wire::status::Identity> = serde_json::from_str(&told.text()).unwrap();
    let found = identities.iter().find(|identity| identity.name == "me").unwrap();
    assert_eq!((found.state, found.upstreams.as_slice()), (IdentityState::Expired, &["lab".to_owned()][..]));
    assert!(!world.socket().exists(), "no broker was started for it");
}
