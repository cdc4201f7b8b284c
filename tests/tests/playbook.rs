//! A real Ansible with its stock ssh plugin reaches the nodes by nothing but the fragment
//! that `natssh ssh-config` prints.

use natssh_lab::Fault;
use natssh_lab::faults::NodeFault;
use natssh_tests::ansible::{self, PATIENCE, demo, passed};
use natssh_tests::{Plan, Running, Said, World, tools};
use std::fs;
use std::path::Path;

#[test]
fn the_demo_playbook_passes_on_both_nodes() {
    let Some(playbook) = tools::python_program("ansible-playbook") else { return };
    let world = Plan::new().start();
    let said = ansible(&world, &playbook, &["-i", &demo("inventory.yml"), &demo("playbook.yml")]);
    let recap = said.ok();
    for node in ["control-plane", "worker"] {
        let line =
            recap.lines().find(|line| line.starts_with(node) && line.contains("ok=")).expect("a recap");
        assert!(line.contains("unreachable=0") && line.contains("failed=0"), "{recap}");
    }
    let upstream = world.upstream();
    assert_eq!(upstream.dials_ok, 1, "both nodes share one connection to the proxy");
    assert!(world.status().failures.is_empty(), "{:?}", world.status().failures);
}

#[test]
fn ping_says_which_node_is_offline_and_goes_on_with_the_other() {
    let Some(program) = tools::python_program("ansible") else { return };
    let world = Plan::new().start();
    let ping =
        |world: &World| ansible(world, &program, &["all", "-i", "control-plane,worker,", "-m", "ping"]);
    assert_eq!(ping(&world).ok().matches(" | SUCCESS").count(), 2);

    world.fault(Fault::Node(NodeFault::Offline { node: "worker".into() }));
    let said = ping(&world);
    assert_eq!(said.code, Some(4), "Ansible's status for unreachable hosts: {said:?}");
    assert!(said.text().contains("worker | UNREACHABLE!"), "{said:?}");
    assert!(said.text().contains("control-plane | SUCCESS"), "{said:?}");
    assert!(world.why("worker").text().contains("node worker is offline"));
}

#[test]
fn fifty_forks_reach_fifty_nodes() {
    let (Some(ping), Some(playbook)) =
        (tools::python_program("ansible"), tools::python_program("ansible-playbook"))
    else {
        return;
    };
    let world = Plan::new().nodes(50).start();
    let all = world.lab.status().expect("the lab answers").nodes;
    let [first, others @ ..] = all.as_slice() else { panic!("fifty nodes") };
    let others: Vec<_> = others.iter().map(|node| node.name.as_str()).collect();
    let inventory = world.path().join("inventory.ini");
    let text = format!("[masters]\n{}\n[workers]\n{}\n", first.name, others.join("\n"));
    fs::write(&inventory, text).expect("ours");
    let inventory = inventory.to_str().expect("a plain path");

    let said = ansible(&world, &ping, &["all", "-i", inventory, "-f", "50", "-m", "ping"]);
    assert_eq!(said.ok().matches(" | SUCCESS").count(), 50);
    let said = ansible(&world, &playbook, &["-i", inventory, "-f", "50", &demo("playbook.yml")]);
    assert_eq!(passed(&said), 50, "{}", said.text());
    assert_eq!(world.upstream().dials_ok, 1, "one connection carries them all");
    assert!(world.status().failures.is_empty(), "{:?}", world.status().failures);
}

/// Runs a program of Ansible with the fragment for all nodes.
fn ansible(world: &World, program: &Path, words: &[&str]) -> Said {
    Running::start(ansible::command(world, program, words)).end_within(PATIENCE)
}
