//! Each fault is felt by stock ssh, and mended again.

use std::time::{Duration, Instant};

use natssh_lab::Fault;
use natssh_lab::control::{NodeState, ProxyState};
use natssh_lab::faults::{CertFault, Face, HostCaFault, Idle, NatFault, NodeFault, ProxyFault, Switch};
use natssh_lab::state::Mode;

use crate::harness::{Ground, eventually, modes};

const WORKER: &str = "worker";
/// All that stock ssh says when the proxy refuses: it drops the reason unread.
const NOT_REACHED: &str = "subsystem request failed";

impl Ground {
    fn fault(&self, fault: Fault) {
        let words = format!("{fault:?}");
        self.lab.fault(fault).unwrap_or_else(|error| panic!("{words}: {error:#}"));
    }

    fn worker(&self, fault: fn(String) -> NodeFault) {
        self.fault(Fault::Node(fault(WORKER.to_owned())));
    }

    fn state(&self) -> NodeState {
        let status = self.lab.status().expect("a status");
        status.nodes.iter().find(|node| node.name == WORKER).expect("a worker").state
    }

    fn hangs(&self) {
        let began = Instant::now();
        let refusal = self.refused(WORKER);
        assert!(refusal.is_some(), "got through");
        assert!(began.elapsed() >= Duration::from_secs(3), "did not hang: {refusal:?}");
    }

    fn says_no(&self, words: &str) {
        let refusal = self.refused(WORKER).expect("a refusal");
        assert!(refusal.contains(words), "{refusal}");
    }

    fn works(&self) {
        eventually("the worker is reached", || self.refused(WORKER).is_none());
    }
}

#[test]
fn an_offline_node_is_said_to_be_offline_and_comes_back() {
    for mode in modes() {
        let ground = Ground::up(mode);
        ground.worker(|node| NodeFault::Offline { node });
        assert_eq!(ground.state(), NodeState::Offline);
        ground.says_no(NOT_REACHED);
        ground.worker(|node| NodeFault::Online { node });
        assert_eq!(ground.state(), NodeState::Joined);
        assert_eq!(ground.refused(WORKER), None);
    }
}

#[test]
fn a_frozen_node_hangs_and_goes_on_where_it_was() {
    for mode in modes() {
        let ground = Ground::up(mode);
        ground.worker(|node| NodeFault::Freeze { node });
        assert_eq!(ground.state(), NodeState::Frozen);
        ground.hangs();
        assert_eq!(ground.refused("control-plane"), None);
        ground.worker(|node| NodeFault::Thaw { node });
        ground.works();
    }
}

#[test]
fn a_duplicate_makes_a_name_ambiguous_until_it_is_gone() {
    let ground = Ground::up(Mode::Rootless);
    ground.worker(|node| NodeFault::Duplicate { node });
    ground.says_no(NOT_REACHED);
    ground.worker(|node| NodeFault::Offline { node });
    ground.worker(|node| NodeFault::Online { node });
    assert_eq!(ground.refused(WORKER), None);
}

#[test]
fn a_silent_nat_hangs_everyone() {
    for mode in modes() {
        let ground = Ground::up(mode);
        ground.fault(Fault::Nat(NatFault::Drop));
        ground.hangs();
        ground.fault(Fault::Nat(NatFault::Restore));
        ground.works();
    }
}

#[test]
fn the_proxy_stops_and_comes_back_on_the_same_port() {
    let ground = Ground::up(Mode::Rootless);
    let proxy = ground.lab.status().expect("a status").proxy;
    ground.fault(Fault::Proxy(ProxyFault::Stop));
    ground.says_no("Connection refused");
    assert_eq!(ground.lab.status().expect("a status").proxy_state, ProxyState::Stopped);
    ground.fault(Fault::Proxy(ProxyFault::Start));
    ground.works();
    assert_eq!(ground.lab.status().expect("a status").proxy, proxy);
    ground.fault(Fault::Proxy(ProxyFault::Cut));
    assert_eq!(ground.refused(WORKER), None);
}

#[test]
fn a_hung_proxy_takes_connections_and_answers_nothing() {
    let ground = Ground::up(Mode::Rootless);
    ground.fault(Fault::Proxy(ProxyFault::Freeze));
    ground.hangs();
    ground.fault(Fault::Proxy(ProxyFault::Resume));
    ground.works();
}

#[test]
fn bad_certificates_are_refused_and_a_new_login_cures() {
    let ground = Ground::up(Mode::Rootless);
    for fault in [CertFault::Expire, CertFault::ForeignLogin, CertFault::Remove] {
        ground.fault(Fault::Cert(fault));
        ground.says_no("Permission denied");
        ground.fault(Fault::Cert(CertFault::Replace));
        assert_eq!(ground.refused(WORKER), None, "after {fault:?}");
    }
    ground.fault(Fault::Cert(CertFault::Rotate));
    assert_eq!(ground.refused(WORKER), None);
}

#[test]
fn a_strict_proxy_ends_a_connection_together_with_its_certificate() {
    let ground = Ground::up(Mode::Rootless);
    ground.fault(Fault::Expiry(Switch::On));
    ground.fault(Fault::Cert(CertFault::Brief { seconds: 4 }));
    let began = Instant::now();
    let cut = ground.stock("ssh", &[WORKER, "sleep 60"]);
    assert_eq!(cut.status.code(), Some(255));
    assert!(began.elapsed() < Duration::from_secs(30), "it outlived its certificate");
    assert!(ground.lab.status().expect("a status").counters.evicted > 0);
}

#[test]
fn an_idle_connection_is_ended_when_there_is_a_limit() {
    let ground = Ground::up(Mode::Rootless);
    ground.fault(Fault::Idle { after: Idle(Some(Duration::from_secs(1))) });
    let began = Instant::now();
    let cut = ground.stock("ssh", &[WORKER, "sleep 60"]);
    assert_eq!(cut.status.code(), Some(255));
    assert!(began.elapsed() < Duration::from_secs(30), "nobody ended it");
    ground.fault(Fault::Idle { after: Idle(None) });
    assert_eq!(ground.says(WORKER, "sleep 2; echo done"), "done");
}

#[test]
fn a_new_host_authority_is_distrusted_until_the_next_login() {
    for mode in modes() {
        let ground = Ground::up(mode);
        ground.fault(Fault::HostCa(HostCaFault::Replace));
        ground.says_no("Host key verification failed");
        ground.fault(Fault::Cert(CertFault::Replace));
        // A listening sshd reads its keys again in its own time.
        ground.works();
    }
}

#[test]
fn an_old_face_is_reached_with_old_algorithms() {
    let ground = Ground::up(Mode::Rootless);
    ground.fault(Fault::Face(Face::Old));
    ground.works();
    let today = ["-o", "HostKeyAlgorithms=rsa-sha2-512-cert-v01@openssh.com"];
    let proxy = ground.lab.status().expect("a status").proxy.ip().to_string();
    let refused = ground.stock("ssh", &[&today[..], &[&proxy, "true"]].concat());
    let words = crate::harness::stderr(&refused);
    assert!(words.contains("no matching host key type"), "{words}");
    ground.fault(Fault::Face(Face::New));
    ground.works();
}

#[test]
fn a_fault_that_makes_no_sense_says_so() {
    let ground = Ground::up(Mode::Rootless);
    let nobody = NodeFault::Freeze { node: "nobody".to_owned() };
    let error = ground.lab.fault(Fault::Node(nobody)).expect_err("no such node").to_string();
    assert!(error.contains("control-plane, worker"), "{error}");
}
