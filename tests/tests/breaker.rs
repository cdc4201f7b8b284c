//! A server that refuses authentication is left in peace: servers count attempts, and ban everyone
//! behind the same address.

use natssh_lab::Fault;
use natssh_lab::faults::CertFault;
use natssh_tests::door::try_connect;
use natssh_tests::{Plan, Sshd, World, need, run};
use natssh_wire::FailureKind;
use natssh_wire::status::BreakerState;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// What sshd writes, at the level VERBOSE, for each refused attempt.
const REFUSED: &str = "Failed publickey";

#[test]
fn a_server_that_refuses_is_asked_once_however_many_ask() {
    need!("sshd");
    let (world, sshd, _) = refusing();
    let begun = Instant::now();
    let callers: Vec<_> = (0..50)
        .map(|n| {
            let socket = world.socket();
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(n * 60));
                try_connect(&socket, "worker:22", Duration::from_secs(5)).map(drop)
            })
        })
        .collect();
    for caller in callers {
        let failure = caller.join().expect("no panic").expect_err("it is refused");
        assert_eq!(failure.kind, FailureKind::Denied, "{failure}");
        assert!(failure.hint.is_some_and(|hint| hint.starts_with("tsh login")));
    }
    // However slow this machine is: one attempt, and another each time that half a minute has passed.
    let most = 1 + begun.elapsed().as_secs() / 30;
    assert!((1..=most).contains(&(sshd.log_lines(REFUSED) as u64)), "{} attempts", sshd.log_lines(REFUSED));
}

#[test]
fn the_status_says_until_when_and_how_to_try_at_once() {
    need!("sshd");
    let (world, sshd, users) = refusing();
    refused(&world);
    let again = refused(&world);
    assert!(again.contains("; it is not asked again before "), "{again}");
    let upstream = world.upstream();
    let [breaker] = &upstream.breakers[..] else { panic!("{upstream:#?}") };
    assert_eq!((&breaker.server, breaker.state), (&sshd.address().to_string(), BreakerState::Open));
    assert_eq!((breaker.identity.as_str(), breaker.refusals), ("me", 1));
    let status = run(world.natssh(&["status"]));
    assert_eq!(status.code, Some(1), "a person is needed");
    assert!(status.text().contains("or now: natssh retry lab"), "{}", status.text());

    // A person who has mended nothing hears so, and one who has is believed.
    let retried = run(world.natssh(&["retry", "lab"]));
    assert_eq!(retried.code, Some(1));
    assert!(retried.stderr.contains("refused"), "{}", retried.stderr);
    assert_eq!(sshd.log_lines(REFUSED), 2);
    fs::copy(world.user_ca(), users).expect("our own file");
    assert_eq!(run(world.natssh(&["retry", "lab"])).ok(), "lab answers\n");
    assert!(world.upstream().breakers.is_empty());

    let unknown = run(world.natssh(&["retry", "nosuch"]));
    assert!(unknown.stderr.contains("no upstream is called \"nosuch\"; there is "), "{}", unknown.stderr);
}

#[test]
fn a_newer_identity_is_tried_at_once() {
    need!("sshd");
    let (world, sshd, _) = refusing();
    refused(&world);
    refused(&world);
    assert_eq!(sshd.log_lines(REFUSED), 1);
    world.fault(Fault::Cert(CertFault::Replace));
    refused(&world);
    refused(&world);
    assert_eq!(sshd.log_lines(REFUSED), 2);
}

/// A world whose proxy is a real sshd that knows another authority, in the file that is returned.
fn refusing() -> (World, Sshd, PathBuf) {
    let world = Plan::new().without_broker().start();
    let users = world.path().join("users.pub");
    let other = world.path().join("listening.pub");
    fs::write(&users, "").expect("our own folder");
    let sshd = world.listening_sshd(&users, "");
    fs::copy(other, &users).expect("our own folder");
    let stand_in = world.lab.status().expect("the lab answers").proxy.to_string();
    let config = fs::read_to_string(world.config_path()).expect("our own file");
    world.write_config(&config.replace(&stand_in, &sshd.address().to_string()));
    world.start_broker();
    (world, sshd, users)
}

/// The sentence that somebody hears who asks.
#[track_caller]
fn refused(world: &World) -> String {
    let patience = Duration::from_secs(9);
    let failure = try_connect(&world.socket(), "worker:22", patience).expect_err("it is refused");
    assert_eq!(failure.kind, FailureKind::Denied, "{failure}");
    failure.message
}
