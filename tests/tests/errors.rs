//! What cannot be reached says so: one clear sentence on ssh's stderr, the same in
//! `natssh why`, exit status 255, and in time.

use natssh_lab::Fault;
use natssh_lab::faults::{CertFault, HostCaFault, NodeFault, ProxyFault};
use natssh_lab::proxy::Face;
use natssh_tests::{Plan, Said, World, run, until};
use natssh_wire::status::UpstreamState;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

/// What is known at once is told within this.
const SOON: Duration = Duration::from_secs(2);
/// The default patience of 5 s, and the start of a few processes on a busy machine.
const PATIENT: Duration = Duration::from_millis(5900);
/// ssh itself sets no limit, Ansible gives up after 10 s.
const NEVER_OVER: Duration = Duration::from_millis(9400);

#[test]
fn unknown_offline_and_ambiguous_nodes_are_told_apart_at_once() {
    let world = Plan::new().start();
    run(world.ssh(&["worker", "true"])).ok();
    told(&world, "nosuchhost", SOON, &["nosuchhost", "does not exist"]);

    world.fault(Fault::Node(NodeFault::Offline { node: "worker".into() }));
    told(&world, "worker", SOON, &["node worker is offline"]);
    world.fault(Fault::Node(NodeFault::Online { node: "worker".into() }));
    world.fault(Fault::Node(NodeFault::Duplicate { node: "worker".into() }));
    told(&world, "worker", SOON, &["more than one node is called worker"]);

    let neighbour = world.why("control-plane");
    assert!(!neighbour.ok().contains("worker"), "{neighbour:?}");
}

#[test]
fn the_first_connection_of_all_tells_an_unknown_node_at_once_too() {
    let world = Plan::new().without_broker().start();
    told(&world, "nosuchhost", SOON, &["nosuchhost"]);
}

#[test]
fn an_old_clusters_words_are_understood() {
    let world = Plan::new().face(Face::Old).start();
    told(&world, "nosuchhost", SOON, &["nosuchhost"]);
    world.fault(Fault::Node(NodeFault::Offline { node: "worker".into() }));
    told(&world, "worker", SOON, &["node worker is offline"]);
}

#[test]
fn an_expired_certificate_is_told_with_how_to_renew_it_and_a_renewal_cures_it() {
    let world = Plan::new().start();
    world.fault(Fault::Cert(CertFault::Expire));
    told(&world, "worker", SOON, &["the certificate of alice expired 1 hour ago"]);
    assert!(world.why("worker").text().contains("try: tsh login --proxy="));
    assert_eq!(run(world.natssh(&["status"])).code, Some(1), "a person is needed");

    world.fault(Fault::Cert(CertFault::Replace));
    run(world.ssh(&["worker", "true"])).ok();
    assert_eq!(run(world.natssh(&["status"])).code, Some(0));
}

#[test]
fn being_logged_out_is_told_with_how_to_log_in() {
    let world = Plan::new().start();
    world.fault(Fault::Cert(CertFault::Remove));
    let sentence = told(&world, "worker", SOON, &[]);
    assert!(run(world.natssh(&["proxy", "worker", "22"])).unreachable().contains("tsh login"), "{sentence}");
}

#[test]
fn a_login_that_the_certificate_does_not_allow_is_told_before_the_proxy_is_asked() {
    let world = Plan::new().upstream("login = \"nobody-here\"").start();
    told(&world, "worker", SOON, &["alice", "nobody-here", world.login()]);
    assert_eq!(world.upstream().dials_ok, 0);
}

#[test]
fn an_identity_that_the_proxy_refuses_is_told_with_how_to_get_another() {
    let world = Plan::new().start();
    // Of a cluster of the same name, which this proxy has never heard of.
    let elsewhere = Plan::new().without_broker().start();
    let theirs = elsewhere.credentials.openssh_key();
    let known_hosts = world.credentials.known_hosts();
    world.write_config(&format!(
        "default = \"lab\"\n[upstream.lab]\nkind = \"teleport\"\nproxy = \"{}\"\nidentity = \"me\"\n\
         known_hosts = [{known_hosts:?}]\n[identity.me]\nkey = {theirs:?}\n",
        world.lab.status().expect("the lab answers").proxy
    ));
    run(world.natssh(&["broker", "reload"])).ok();
    told(&world, "worker", SOON, &["refused", world.login()]);
}

#[test]
fn an_untrusted_host_authority_is_told_with_all_fingerprints() {
    let world = Plan::new().start();
    world.fault(Fault::HostCa(HostCaFault::Replace));
    let sentence = told(&world, "worker", SOON, &["another authority than the trusted"]);
    // The authority that is trusted, the one that signed, and the proxy's own key.
    assert_eq!(sentence.matches("SHA256:").count(), 3, "{sentence}");
}

#[test]
fn a_node_that_never_answers_is_given_up_in_time_and_holds_up_nobody() {
    let world = Plan::new().start();
    run(world.ssh(&["worker", "true"])).ok();
    world.fault(Fault::Node(NodeFault::Freeze { node: "worker".into() }));
    let within_limit = |seconds| {
        let said = run(world.natssh(&["proxy", "worker", "22", "--connect-timeout", seconds]));
        assert!(sentence(said.unreachable()).contains("did not answer for node worker:22"), "{said:?}");
        said.took
    };
    std::thread::scope(|scope| {
        scope.spawn(|| told(&world, "worker", PATIENT, &["worker:22", "may be frozen"]));
        scope.spawn(|| assert!(within_limit("1") < SOON));
        scope.spawn(|| {
            let took = within_limit("60");
            assert!((Duration::from_secs(8)..NEVER_OVER).contains(&took), "{took:?}");
        });
        scope.spawn(|| {
            let neighbour = run(world.ssh(&["control-plane", "true"]));
            neighbour.ok();
            assert!(neighbour.took < SOON, "{neighbour:?}");
        });
    });
}

#[test]
fn a_proxy_that_hangs_or_is_gone_is_given_up_in_time() {
    let world = Plan::new().start();
    run(world.ssh(&["worker", "true"])).ok();
    world.fault(Fault::Proxy(ProxyFault::Freeze));
    told(&world, "worker", PATIENT, &["did not answer"]);
    world.fault(Fault::Proxy(ProxyFault::Resume));
    world.fault(Fault::Proxy(ProxyFault::Stop));
    told(&world, "worker", PATIENT, &["cannot be reached: connection refused"]);
    assert_eq!(world.upstream().state, UpstreamState::Down);
    assert!(!world.status().healthy);
}

/// Each is what somebody has typed as `proxy = …` once: a port nobody serves, one behind a firewall,
/// the web port, another program's.
#[test]
fn what_is_no_ssh_proxy_is_told_in_time_and_not_hung_on() {
    let impostors = [
        ("refused", None, "cannot be reached: connection refused"),
        ("silent", Some(Impostor::Silent), "did not answer"),
        ("web", Some(Impostor::Web), "a web server answers there"),
        ("tls", Some(Impostor::Tls), "a TLS server answers there"),
        ("garbage", Some(Impostor::Garbage), "first line is not SSH-2.0"),
        ("half", Some(Impostor::Half), "did not answer"),
        ("hangs-up", Some(Impostor::HangsUp), "closed by the other side"),
    ];
    let world = Plan::new().without_broker().start();
    let mut config = String::from("[identity.me]\ntsh = true\n");
    for (name, impostor, _) in impostors {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        if let Some(impostor) = impostor {
            std::thread::spawn(move || impostor.serve(&listener));
        }
        config.push_str(&format!(
            "[upstream.{name}]\nkind = \"teleport\"\nproxy = \"{address}\"\n\
             [[route]]\nhosts = [\"{name}\"]\nupstream = \"{name}\"\n"
        ));
    }
    world.write_config(&config);
    std::thread::scope(|scope| {
        for (name, _, words) in impostors {
            let world = &world;
            scope.spawn(move || told(world, name, PATIENT, &["proxy 127.0.0.1:", words]));
        }
    });
    // The silent ones are dialled a moment longer than anybody has waited for them.
    let down = |name| world.log_lines(&format!("upstream is down upstream=\"{name}\""));
    for (name, ..) in impostors {
        until("it is in the log", || (down(name) > 0).then_some(()));
    }
    for (name, ..) in impostors {
        assert_eq!(down(name), 1, "one line for one state: {}", world.log());
    }
}

#[test]
fn what_fails_at_the_node_itself_is_stock_sshs_own_message() {
    let world = Plan::new().start();
    let denied = run(world.ssh(&["-l", "nobody-there", "worker", "true"]));
    assert!(denied.unreachable().contains("Permission denied (publickey)"), "{denied:?}");
    assert!(!denied.stderr.contains("natssh:"), "{denied:?}");

    world.write_ssh_config("UserKnownHostsFile /dev/null\n");
    let stranger = run(world.ssh(&["worker", "true"]));
    assert!(stranger.unreachable().contains("Host key verification failed"), "{stranger:?}");
    assert!(!stranger.stderr.contains("natssh:"), "{stranger:?}");
    assert_eq!(world.why("worker").code, Some(0), "natssh has done its part");

    world.write_ssh_config("");
    assert_eq!(run(world.ssh(&["worker", "exit 7"])).code, Some(7));
}

/// Its ProxyCommand's stderr is /dev/null then (sshconnect.c). What the proxy says of a node comes in ssh's own stream; what
/// is known before that is natssh's own word, which nobody hears.
#[test]
fn under_controlpersist_a_nodes_reason_is_heard_and_any_other_is_in_why() {
    let world = Plan::new().start();
    world.write_ssh_config("ControlMaster auto\nControlPath ~/%C\nControlPersist 60\n");
    world.fault(Fault::Node(NodeFault::Offline { node: "worker".into() }));
    told(&world, "worker", SOON, &["node worker is offline"]);
    assert!(run(world.natssh(&["status"])).text().contains("node worker is offline"));

    world.fault(Fault::Proxy(ProxyFault::Stop));
    let said = run(world.ssh(&["worker", "true"]));
    assert!(!said.unreachable().contains("natssh:"), "ssh lets it through after all: {said:?}");
    assert!(said.took < PATIENT, "{said:?}");
    why_says(&world, "worker", "cannot be reached: connection refused");
}

#[test]
fn sshs_own_connect_timeout_holds_and_why_tells_of_it() {
    let world = Plan::new().start();
    run(world.ssh(&["worker", "true"])).ok();
    world.fault(Fault::Node(NodeFault::Freeze { node: "worker".into() }));
    let said = run(world.ssh(&["-o", "ConnectTimeout=3", "worker", "true"]));
    assert!(said.unreachable().contains("Connection timed out during banner exchange"), "{said:?}");
    assert!(said.took < Duration::from_secs(4), "{said:?}");
    until("the broker has noticed", || {
        world.why("worker").text().contains("gave up after 3 s").then_some(())
    });
    assert_eq!(world.upstream().streams, 0);
}

#[test]
fn names_and_ports_that_make_no_sense_are_refused_at_once() {
    let world = Plan::new().start();
    let long = "x".repeat(300);
    let hosts = ["", " ", "two words", "root@worker", "wor\nker", "wor\u{7}ker", "a/b", "[::1", &long];
    let ports = ["", "0", "65536", "-1", "ssh", "22 ", "2 2", "99999999999999999999"];
    let cases = hosts.map(|host| (host, "22")).into_iter().chain(ports.map(|port| ("worker", port)));
    for (host, port) in cases {
        let said = run(world.natssh(&["proxy", "--", host, port]));
        let lines = said.unreachable().lines().count();
        assert!(lines == 1 && said.stderr.starts_with("natssh: "), "{host:?} {port:?}: {said:?}");
        assert!(said.took < SOON && said.stderr.len() < 500, "{host:?} {port:?}: {said:?}");
    }
    assert_eq!(world.upstream().dials_ok + world.upstream().dials_failed, 0);
}

/// Runs ssh to a node, which must fail within `within` and say why with all these `words`, in one line on
/// stderr and the same in `natssh why`.
#[track_caller]
fn told(world: &World, node: &str, within: Duration, words: &[&str]) -> String {
    let said = run(world.ssh(&[node, "true"]));
    let sentence = sentence(said.unreachable());
    assert!(said.took < within, "{said:?}");
    for word in words {
        assert!(sentence.contains(word), "{sentence:?} does not say {word:?}");
    }
    why_says(world, node, &sentence);
    sentence
}

/// The one line that natssh wrote, or that ssh passed on as its server's last word, without the hint in brackets that it
/// must end with.
#[track_caller]
fn sentence(stderr: &str) -> String {
    let word = |line| str::strip_prefix(line, "natssh: ").or_else(|| heard(line));
    let lines: Vec<_> = stderr.lines().filter_map(word).collect();
    let [line] = lines.as_slice() else { panic!("one line is wanted:\n{stderr}") };
    let (message, hint) = line.rsplit_once(" (").unwrap_or_else(|| panic!("no hint in {line:?}"));
    assert!(hint.ends_with(')') && hint.len() > 3, "{line:?}");
    message.to_owned()
}

fn heard(line: &str) -> Option<&str> {
    let (_, said) = line.strip_prefix("Received disconnect from ")?.split_once("natssh: ")?;
    Some(said.trim_end())
}

#[track_caller]
fn why_says(world: &World, node: &str, sentence: &str) {
    let Said { code, stdout, .. } = world.why(node);
    let text = String::from_utf8_lossy(&stdout);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains(sentence), "{sentence:?} is not in:\n{text}");
}

/// What listens where a proxy was expected.
#[derive(Clone, Copy)]
enum Impostor {
    /// Takes the connection and says nothing.
    Silent,
    /// Answers the first line as a web server does.
    Web,
    /// Answers it with a TLS alert.
    Tls,
    /// Sends bytes without sense.
    Garbage,
    /// Begins as an SSH server, and goes no further.
    Half,
    /// Closes at once.
    HangsUp,
}

impl Impostor {
    fn serve(self, listener: &TcpListener) {
        let mut kept = Vec::new();
        for mut stream in listener.incoming().map_while(Result::ok) {
            // The other side may be gone before it has read all.
            let _ = match self {
                Self::Silent => Ok(()),
                Self::Web => hear(&mut stream).and_then(|()| {
                    stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
                }),
                Self::Tls => {
                    hear(&mut stream).and_then(|()| stream.write_all(b"\x15\x03\x01\x00\x02\x02\x46"))
                }
                Self::Garbage => stream.write_all(&noise(200_000)),
                Self::Half => stream.write_all(b"SSH-2.0-Teleport\r\n"),
                Self::HangsUp => Ok(()),
            };
            if matches!(self, Self::Silent | Self::Garbage | Self::Half) {
                kept.push(stream);
            }
        }
    }
}

fn hear(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.read(&mut [0; 512]).map(drop)
}

/// Bytes without sense, the same in every run.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..length).map(next).collect()
}
