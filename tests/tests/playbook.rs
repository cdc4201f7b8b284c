//! A real Ansible with its stock ssh plugin reaches the nodes by nothing but the fragment
//! that `natssh ssh-config` prints.

use natssh_lab::Fault;
use natssh_lab::faults::NodeFault;
use natssh_tests::{Plan, Running, Said, World, run, tools};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Ansible itself takes its time with fifty nodes on a small machine.
const PATIENCE: Duration = Duration::from_secs(240);

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

/// How many hosts a playbook has passed on.
#[track_caller]
fn passed(said: &Said) -> usize {
    let recap = said.ok();
    let good = |line: &&str| line.contains("unreachable=0") && line.contains("failed=0");
    recap.lines().filter(good).count()
}

/// Runs a program of Ansible with the fragment for all nodes.
fn ansible(world: &World, program: &Path, words: &[&str]) -> Said {
    let nodes = world.lab.status().expect("the lab answers").nodes;
    let names: Vec<_> = nodes.iter().map(|node| node.name.as_str()).collect();
    let fragment = world.path().join("natssh.conf");
    let printed = run(world.natssh(&[&["ssh-config"], names.as_slice()].concat())).ok();
    fs::write(&fragment, printed).expect("ours");
    let mut command = world.command(program);
    let lab: Vec<_> = world.lab.env().filter(|(name, _)| name.starts_with("LAB_")).collect();
    let python = lab.iter().find(|(name, _)| *name == "LAB_PYTHON").map_or("", |(_, python)| python);
    command
        .envs(lab.iter().copied())
        .env("ANSIBLE_HOME", world.path().join("ansible"))
        .env("ANSIBLE_CONFIG", demo("ansible.cfg"))
        .env("ANSIBLE_SSH_CONTROL_PATH_DIR", world.path().join("cp"))
        // Half of the processes on both sides, so that this is no test of patience.
        .env("ANSIBLE_PIPELINING", "1")
        .env("ANSIBLE_SSH_COMMON_ARGS", format!("-F {}", fragment.display()))
        .args(words)
        .args(["-e", &format!("ansible_python_interpreter={python}"), "-u", world.login()]);
    Running::start(command).end_within(PATIENCE)
}

/// A file of the demo.
fn demo(name: &str) -> String {
    tools::workspace().join("examples/demo").join(name).display().to_string()
}
