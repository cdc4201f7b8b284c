//! A proxy is believed only when its key or its certificate proves who it is, by the rules
//! of OpenSSH's known_hosts; and the user is told both fingerprints when it is not.

use natssh_lab::Fault;
use natssh_lab::agent::Target;
use natssh_lab::ca::{Authority, Credential, HostRequest, KeyKind, UserRequest, Validity};
use natssh_lab::faults::{CertFault, HostCaFault};
use natssh_lab::node::AgentFile;
use natssh_lab::proxy::{Face, Options, Policy, Proxy, TlsRouting};
use natssh_tests::node::Listening;
use natssh_tests::{Plan, Said, World, need, run};
use natssh_wire::FailureKind;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use tokio::net::TcpListener;

#[test]
fn a_plain_key_in_known_hosts_is_believed_written_in_any_way() {
    need!("ssh-keygen");
    let place = Place::new();
    let (name, key) = (place.name(), place.host_key("host_key"));
    let other = place.host_key("other_key");
    for (what, known) in [
        ("plain", format!("{name} {key}\n")),
        ("among others", format!("# a comment\n{name} {other}\nelse.where,{name} {key} a comment\n")),
        ("a pattern", format!("[127.0.0.*]:* {key}\n")),
        ("an authority that is none of its", format!("@cert-authority * {other}\n{name} {key}\n")),
        ("nonsense before it", format!("{name} ssh-ed25519 AAAA\n\u{fffd}\n{name} {key}\n")),
    ] {
        place.known_hosts(&known);
        assert_eq!(place.dial(), Dialled::Believed, "{what}");
    }

    place.known_hosts(&format!("{name} {key}\n"));
    let hashed = place.world.path().join("known_hosts");
    place.keygen(&["-H", "-f", hashed.to_str().expect("plain")]);
    assert!(fs::read_to_string(&hashed).expect("ours").starts_with("|1|"), "it is hashed");
    assert_eq!(place.dial(), Dialled::Believed, "hashed");
}

#[test]
fn a_changed_key_is_refused_with_both_fingerprints_and_what_to_type() {
    need!("ssh-keygen");
    let place = Place::new();
    let name = place.name();
    place.known_hosts(&format!("{name} {}\n", place.host_key("other_key")));
    let told = place.dial().refusal();
    assert!(told.contains("has changed"), "{told}");
    for key in ["host_key", "other_key"] {
        assert!(told.contains(&place.fingerprint(key)), "the fingerprint of {key} is not in {told}");
    }
    let known = place.world.path().join("known_hosts");
    let hint = format!("ssh-keygen -R '{name}' -f '{}'", known.display());
    assert!(told.contains(&hint), "{told}");

    // What it tells to type does what it should.
    run({
        let mut shell = place.world.command("sh");
        shell.args(["-c", &hint]);
        shell
    })
    .ok();
    let told = place.dial().refusal();
    assert!(told.contains("is not known") && told.contains(&place.fingerprint("host_key")), "{told}");
}

#[test]
fn a_revoked_key_is_refused_whatever_else_is_written() {
    need!("ssh-keygen");
    let place = Place::new();
    let (name, key) = (place.name(), place.host_key("host_key"));
    for known in
        [format!("{name} {key}\n@revoked * {key}\n"), format!("@revoked {name} {key}\n{name} {key}\n")]
    {
        place.known_hosts(&known);
        let told = place.dial().refusal();
        assert!(told.contains("is revoked at") && told.contains("known_hosts:"), "{told}");
    }
}

#[test]
fn a_certificate_that_proves_something_else_is_refused_with_what_it_proves() {
    let cluster = Cluster::new();
    assert_eq!(cluster.dial(), Dialled::Believed);

    let proxy = || HostRequest::proxy("the-id", "proxy", &[]);
    let valid = |validity| HostRequest { validity, ..proxy() };
    let host = |request: &HostRequest| cluster.authority.issue_host(request).expect("it can be issued");
    let user =
        cluster.authority.issue_user(&UserRequest::new("alice", &["127.0.0.1"])).expect("it can be issued");
    let stranger = Authority::new("lab", KeyKind::Ed25519).expect("keys");
    for (shown, words) in [
        (host(&valid(Validity::expired())), "shows a certificate that expired 1 hour ago"),
        (host(&valid(Validity::not_yet())), "shows a certificate that is valid only in"),
        (
            host(&HostRequest::node("the-id", "worker")),
            "the certificate of a Teleport \"Node\" and not of a Proxy",
        ),
        (user, "shows a user's certificate instead of a host's"),
        (
            stranger.issue_host(&proxy()).expect("it can be issued"),
            "a certificate of another authority than the trusted",
        ),
    ] {
        cluster.show(shown);
        let told = cluster.dial().refusal();
        assert!(told.contains(words) && told.contains("SHA256:"), "{words:?} is not in {told}");
        assert!(told.ends_with(')'), "no hint in {told}");
    }
    cluster.show(host(&proxy()));
    assert_eq!(cluster.dial(), Dialled::Believed, "it is believed again");
}

#[test]
fn a_certificate_for_other_names_is_refused_with_those_names() {
    let cluster = Cluster::new();
    // Every certificate of the lab names 127.0.0.1: the proxy is dialled by an address that none names.
    cluster.configure("127.0.0.2", "");
    let told = cluster.dial().refusal();
    assert!(told.contains("127.0.0.2") && told.contains("shows a certificate for "), "{told}");
}

#[test]
fn a_revoked_authority_is_refused() {
    let cluster = Cluster::new();
    let revoked = cluster.world.path().join("revoked");
    let line = cluster.authority.known_hosts("*").replace("@cert-authority", "@revoked");
    fs::write(&revoked, line).expect("ours");
    cluster.configure("127.0.0.1", &format!("known_hosts = [{revoked:?}]"));
    let told = cluster.dial().refusal();
    assert!(
        told.contains("the authority that signed the certificate") && told.contains("is revoked"),
        "{told}"
    );
}

#[test]
fn the_bare_lines_of_old_tsh_mean_an_authority_in_its_own_file_and_nowhere_else() {
    let cluster = Cluster::new();
    let bare = cluster.authority.known_hosts_before_7();
    let tshs = cluster.world.credentials.tsh().join("known_hosts");
    fs::write(&tshs, &bare).expect("ours");
    assert_eq!(cluster.dial(), Dialled::Believed);

    fs::write(&tshs, "").expect("ours");
    assert!(cluster.dial().refusal().contains("no authority is trusted for it"));
    let other = cluster.world.path().join("known_hosts");
    fs::write(&other, &bare).expect("ours");
    cluster.configure("127.0.0.1", &format!("known_hosts = [{other:?}]"));
    assert!(cluster.dial().refusal().contains("shows a certificate"));
}

#[test]
fn a_replaced_authority_is_trusted_as_soon_as_its_file_says_so() {
    let world = Plan::new().start();
    run(world.ssh(&["worker", "true"])).ok();
    world.fault(Fault::HostCa(HostCaFault::Replace));
    world.fault(Fault::Proxy(natssh_lab::faults::ProxyFault::Cut));
    let said = run(world.ssh(&["worker", "true"]));
    assert!(said.unreachable().contains("another authority than the trusted"), "{said:?}");
    assert_eq!(world.failures("worker")[0].kind, FailureKind::HostKey);

    world.fault(Fault::Cert(CertFault::Replace));
    run(world.ssh(&["worker", "true"])).ok();
}

/// What became of a dial.
#[derive(Debug, PartialEq, Eq)]
enum Dialled {
    /// The server was believed: what failed afterwards is another story.
    Believed,
    /// It was not, and this was said.
    Refused(String),
}

impl Dialled {
    /// Both servers know no node called `nobody`; asking for it tells how far the dial came. A fresh broker
    /// dials: it has no trunk that has proved itself, and no refusal that it remembers for a moment.
    fn of(world: &World) -> Self {
        run(world.natssh(&["broker", "restart"])).ok();
        let Said { stderr, .. } = run(world.natssh(&["proxy", "nobody", "22"]));
        match world.failures("nobody").first().map(|failure| failure.kind) {
            Some(FailureKind::HostKey) => Self::Refused(stderr.trim_end().to_owned()),
            Some(FailureKind::Protocol | FailureKind::Offline | FailureKind::UnknownNode) => Self::Believed,
            other => panic!("{other:?}: {stderr}"),
        }
    }

    #[track_caller]
    fn refusal(self) -> String {
        match self {
            Self::Refused(told) => told,
            Self::Believed => panic!("the server was believed"),
        }
    }
}

/// A real sshd with a plain host key in the proxy's place.
struct Place {
    world: World,
    sshd: Listening,
}

impl Place {
    fn new() -> Self {
        let world = Plan::new().start();
        for key in ["host_key", "other_key"] {
            let path = world.path().join(key);
            let mut keygen = world.command("ssh-keygen");
            keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]).arg(path);
            run(keygen).ok();
        }
        let theirs = fs::read_to_string(sshd_config(&world)).expect("the lab has written it");
        let others = theirs.lines().filter(|line| !line.starts_with("Host"));
        let plain = world.path().join("sshd_config");
        let key = format!("HostKey {}\n", world.path().join("host_key").display());
        fs::write(&plain, others.map(|line| format!("{line}\n")).collect::<String>() + &key).expect("ours");
        let sshd = Listening::sshd(world.runtime(), &plain);
        let known = world.path().join("known_hosts");
        let key = world.credentials.openssh_key();
        let tables = format!("known_hosts = [{known:?}]\n[identity.me]\nkey = {key:?}\n");
        configure(&world, sshd.address(), &tables);
        Self { world, sshd }
    }

    /// The name under which known_hosts has it.
    fn name(&self) -> String {
        format!("[127.0.0.1]:{}", self.sshd.address().port())
    }

    fn host_key(&self, name: &str) -> String {
        let path = self.world.path().join(format!("{name}.pub"));
        fs::read_to_string(path).expect("ours").trim().to_owned()
    }

    fn fingerprint(&self, name: &str) -> String {
        let path = self.world.path().join(format!("{name}.pub"));
        let said = self.keygen(&["-l", "-f", path.to_str().expect("plain")]);
        said.split(' ').nth(1).expect("bits and fingerprint").to_owned()
    }

    fn keygen(&self, words: &[&str]) -> String {
        let mut keygen: Command = self.world.command("ssh-keygen");
        keygen.args(words);
        run(keygen).ok()
    }

    fn known_hosts(&self, text: &str) {
        fs::write(self.world.path().join("known_hosts"), text).expect("ours");
    }

    fn dial(&self) -> Dialled {
        Dialled::of(&self.world)
    }
}

/// The lab's cluster with another proxy, which shows what it is told to.
struct Cluster {
    authority: Authority,
    proxy: Proxy,
    world: World,
}

impl Cluster {
    fn new() -> Self {
        let world = Plan::new().start();
        let authority = world.lab.authority().clone();
        let _inside = world.runtime().enter();
        let listen = |address| world.runtime().block_on(TcpListener::bind(address)).expect("a free port");
        let proxy = Proxy::start(Options {
            tls_routing: TlsRouting::Off,
            clients: listen("0.0.0.0:0"),
            tunnel: listen("127.0.0.1:0"),
            token: "of nobody".into(),
            authority: authority.clone(),
            face: Face::New,
            public_names: Vec::new(),
            inventory: Vec::new(),
            policy: Policy::default(),
        });
        drop(_inside);
        let cluster = Self { authority, proxy: proxy.expect("it starts"), world };
        cluster.configure("127.0.0.1", "");
        cluster
    }

    /// Dials the proxy by this address.
    fn configure(&self, address: &str, upstream: &str) {
        let port = self.proxy.client_address().port();
        let address = format!("{address}:{port}").parse().expect("an address");
        configure(&self.world, address, &format!("{upstream}\n[identity.me]\ntsh = true\n"));
    }

    /// From the next connection on.
    fn show(&self, host: Credential) {
        self.proxy.set_host(&self.authority, host).expect("a key of the right kind");
    }

    fn dial(&self) -> Dialled {
        Dialled::of(&self.world)
    }
}

fn configure(world: &World, proxy: SocketAddr, more: &str) {
    let upstream = format!("[upstream.lab]\nkind = \"teleport\"\nproxy = \"{proxy}\"\nidentity = \"me\"\n");
    world.write_config(&format!("default = \"lab\"\n{upstream}{more}"));
    run(world.natssh(&["broker", "reload"])).ok();
}

/// The configuration of a node's sshd.
fn sshd_config(world: &World) -> PathBuf {
    let orders = world.lab.folder().node("worker").join("agent.json");
    let Target::Spawn(words) = AgentFile::read(&orders).expect("a node of the lab").target else {
        panic!("a rootless node")
    };
    words.last().expect("the configuration comes last").into()
}
