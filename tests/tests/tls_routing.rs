//! A proxy with one port for everything (`proxy_listener_mode: multiplex`, Teleport 8 and later): SSH is inside TLS, and
//! nothing else is different. What holds for every way to a node is told of this one in `matrix`.

use natssh_lab::Fault;
use natssh_lab::credentials::Credentials;
use natssh_lab::faults::{CertFault, HostCaFault, ProxyFault};
use natssh_lab::proxy::TlsRouting;
use natssh_tests::bytes::{FEW, both_ways, checksum};
use natssh_tests::{Plan, need, run};
use std::fs;

#[test]
fn a_tsh_login_is_all_it_takes() {
    need!("ssh");
    let world = Plan::new().tls_routing().without_broker().start();
    // The profile's name is the proxy's address here.
    world.write_config("default = \"127.0.0.1\"\n");
    let shown = run(world.natssh(&["config", "show"]));
    let line = shown.ok().lines().find(|line| line.starts_with("tls_routing = true")).map(str::to_owned);
    assert!(line.is_some_and(|line| line.ends_with("# tsh profile")), "{}", shown.text());
    assert_eq!(run(world.ssh(&["worker", "echo", "here"])).ok(), "here\n");
    let upstream = world.status().upstreams.into_iter().find(|upstream| upstream.name == "127.0.0.1");
    let upstream = upstream.expect("the profile's upstream");
    assert_eq!((upstream.dials_ok, upstream.dials_failed), (1, 0));
    // And natssh itself in ssh's place.
    let user = format!("{}@worker", world.login());
    assert_eq!(run(world.natssh(&[&user, "echo", "there"])).ok(), "there\n");
}

#[test]
fn every_form_of_login_brings_what_tls_is_judged_by() {
    need!("ssh");
    let forms: [fn(&Credentials) -> String; 3] = [
        |of| format!("file = {:?}", of.identity_file()),
        |of| format!("directory = {:?}", of.tbot()),
        |of| format!("tsh = true\nhome = {:?}", of.tsh()),
    ];
    for form in forms {
        let world = Plan::new().tls_routing().identity(form).start();
        run(world.ssh(&["worker", "true"])).ok();
        // The node takes what ssh would find in the same files.
        let user = format!("{}@worker", world.login());
        run(world.natssh(&[&user, "true"])).ok();
    }
}

#[test]
fn a_plain_key_is_told_of_tls_by_a_file() {
    need!("ssh");
    let key = |of: &Credentials| format!("key = {:?}", of.openssh_key());
    let world = Plan::new().tls_routing().identity(key).start();
    let told = run(world.natssh(&["proxy", "worker", "22"]));
    assert!(told.unreachable().contains("identity me brings no authority for TLS"), "{told:?}");
    assert!(told.stderr.contains("tls_ca = [\"FILE\"]"), "no hint in {told:?}");

    let of_tsh = world.credentials.tsh().join("keys/127.0.0.1/certs.pem");
    let own = format!(
        "tls_routing = true\ntls_ca = [{of_tsh:?}]\nknown_hosts = [{:?}]\n",
        world.credentials.known_hosts()
    );
    world.reconfigure("tls_routing = true\n", &own);
    run(world.ssh(&["worker", "true"])).ok();
}

#[test]
fn after_the_authority_was_replaced_a_new_login_is_asked_for_and_is_enough() {
    need!("ssh");
    let world = Plan::new().tls_routing().start();
    world.fault(Fault::HostCa(HostCaFault::Replace));
    let told = run(world.natssh(&["proxy", "worker", "22"]));
    let words = "shows a TLS certificate signed by none of your login's authorities";
    assert!(told.unreachable().contains(words), "{told:?}");
    assert!(told.stderr.contains("tsh login --proxy="), "no hint in {told:?}");
    assert!(world.why("worker").text().contains(words));

    world.fault(Fault::Cert(CertFault::Rotate));
    run(world.natssh(&["retry", "lab"])).ok();
    assert_eq!(world.upstream().trunks.len(), 1);
}

#[test]
fn who_forgot_to_write_it_is_told_what_to_write() {
    need!("ssh");
    let world = Plan::new().tls_routing().start();
    world.reconfigure("tls_routing = true\n", "");
    let told = run(world.natssh(&["proxy", "worker", "22"]));
    assert!(
        told.unreachable().contains("a Teleport proxy with TLS routing needs tls_routing = true"),
        "{told:?}"
    );

    let plain = Plan::new().upstream("tls_routing = true").start();
    let told = run(plain.natssh(&["proxy", "worker", "22"]));
    assert!(
        told.unreachable().contains("TLS handshake") || told.stderr.contains("does not answer in TLS"),
        "{told:?}"
    );
}

/// A balancer knows HTTP and nothing of ALPN; what leads through it depends on the proxy's age.
#[test]
fn a_load_balancer_that_ends_tls_is_passed_by_what_the_proxy_offers() {
    need!("ssh");
    for balanced in [TlsRouting::WebSocket, TlsRouting::Frames] {
        let world = Plan::new().behind(balanced).start();
        assert_eq!(run(world.ssh(&["worker", "echo", "here"])).ok(), "here\n", "{balanced:?}");
        let sum = checksum(&world, FEW);
        assert_eq!(both_ways(&world, "worker", FEW), (sum.clone(), sum), "{balanced:?}");
        assert_eq!(world.upstream().dials_ok, 1);
        // It is pinged all the while, and dialled again like any other.
        world.fault(Fault::Proxy(ProxyFault::Cut));
        run(world.ssh(&["worker", "true"])).ok();
        world.until_upstream("the trunk is a new one", |upstream| upstream.dials_ok == 2);
    }
}

#[test]
fn a_load_balancer_that_nobody_vouches_for_or_nobody_told_of_is_told_from_a_proxy() {
    let world = Plan::new().behind(TlsRouting::WebSocket).start();
    let config = fs::read_to_string(world.config_path()).expect("our own file");
    let told = |without: &[&str]| {
        let lines: String = config
            .lines()
            .filter(|line| !without.iter().any(|key| line.starts_with(key)))
            .map(|l| format!("{l}\n"))
            .collect();
        world.write_config(&lines);
        run(world.natssh(&["broker", "reload"])).ok();
        run(world.natssh(&["proxy", "worker", "22"])).unreachable().to_owned()
    };
    let unknown = told(&["tls_ca"]);
    assert!(unknown.contains("the load balancer before proxy 127.0.0.1:"), "{unknown}");
    assert!(unknown.contains("signed by none of the authorities that this machine trusts"), "{unknown}");
    let untold = told(&["tls_ca", "connection_upgrade"]);
    assert!(untold.contains("something in between ends TLS (connection_upgrade = true)"), "{untold}");
}

#[test]
fn a_proxy_that_knows_no_upgrade_is_told_from_one_that_does() {
    let world = Plan::new().tls_routing().start();
    let asked = format!(
        "tls_routing = true\nconnection_upgrade = true\ntls_ca = [{:?}]\n",
        world.credentials.web_certificate()
    );
    world.reconfigure("tls_routing = true\n", &asked);
    let told = run(world.natssh(&["proxy", "worker", "22"]));
    let words = "gave no connection upgrade: it knows none (HTTP 404), as before Teleport 12";
    assert!(told.unreachable().contains(words), "{told:?}");
}

/// The machine's own authorities are looked up as by any program with OpenSSL's variables.
#[test]
fn a_tsh_login_behind_a_load_balancer_is_all_it_takes_too() {
    need!("ssh");
    let world = Plan::new().behind(TlsRouting::WebSocket).without_broker().start();
    world.write_config("default = \"127.0.0.1\"\n");
    let mut ssh = world.ssh(&["worker", "echo", "here"]);
    ssh.env("SSL_CERT_FILE", world.credentials.web_certificate());
    assert_eq!(run(ssh).ok(), "here\n");
}
