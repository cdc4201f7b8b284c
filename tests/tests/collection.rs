//! The Ansible collection: its own tests, and a real Ansible that reaches the nodes with no ssh process at all.

use natssh_lab::Fault;
use natssh_lab::faults::NodeFault;
use natssh_tests::ansible::PATIENCE;
use natssh_tests::{Plan, Running, Said, World, collection, need, tools};
use std::path::Path;
use std::process::Command;

#[test]
fn its_own_tests_pass() {
    need!("python3");
    let mut command = Command::new("python3");
    command
        .args(["-m", "unittest", "discover", "-s", "tests/unit", "-t", "."])
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(collection::folder());
    let said = Running::start(command).end();
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(!said.stderr.contains("Ran 0 tests"), "{}", said.stderr);
}

#[test]
fn modules_run_on_both_nodes_over_a_session_each() {
    let Some(program) = tools::python_program("ansible") else { return };
    let world = Plan::new().start();
    for _ in 0..2 {
        let said = adhoc(&world, &program, &["-m", "command", "-a", "echo 汉语"]);
        assert_eq!(said.ok().matches(" | CHANGED | rc=0 >>\n汉语").count(), 2, "{}", said.text());
    }
    assert_eq!(world.upstream().streams_total, 2, "one authentication a node");
    assert!(world.status().failures.is_empty(), "{:?}", world.status().failures);
    assert!(!world.path().join("cp").exists(), "ssh has kept a session of its own");
}

#[test]
fn tasks_become_root_by_sudo() {
    let Some(program) = tools::python_program("ansible") else { return };
    if !rustix::process::geteuid().is_root() {
        // Anybody else's sudo wants a password, which is theirs.
        return;
    }
    need!("sudo");
    let world = Plan::new().start();
    let said = adhoc(&world, &program, &["-b", "-m", "command", "-a", "id -u"]);
    assert_eq!(said.ok().matches(" | CHANGED | rc=0 >>\n0").count(), 2, "{}", said.text());
}

#[test]
fn a_host_that_cannot_be_reached_is_told_from_a_task_that_failed() {
    let Some(program) = tools::python_program("ansible") else { return };
    let world = Plan::new().start();
    world.fault(Fault::Node(NodeFault::Offline { node: "worker".into() }));
    let said = adhoc(&world, &program, &["-m", "ping"]);
    assert_eq!(said.code, Some(4), "Ansible's status for unreachable hosts: {said:?}");
    assert!(said.text().contains("worker | UNREACHABLE!"), "{said:?}");
    assert!(said.text().contains("node worker is offline"), "{said:?}");
    assert!(said.text().contains("control-plane | SUCCESS"), "{said:?}");

    // What ssh says with 255 for two things is told apart here.
    let raw = |command: &str| {
        let mut command = collection::command(
            &world,
            &program,
            &["control-plane", "-i", "control-plane,", "-m", "raw", "-a", command],
        );
        command.env("ANSIBLE_SSH_USETTY", "0");
        Running::start(command).end_within(PATIENCE)
    };
    for (command, status) in [("exit 255", 255), ("kill -9 $$", 137)] {
        let said = raw(command);
        assert_eq!(said.code, Some(2), "Ansible's status for failed tasks: {said:?}");
        assert!(said.text().contains(&format!("FAILED | rc={status}")), "{said:?}");
    }
}

#[test]
fn a_setting_that_cannot_be_honoured_is_refused_with_what_to_use_instead() {
    let Some(program) = tools::python_program("ansible") else { return };
    let world = Plan::new().start();
    let said = adhoc(&world, &program, &["-m", "ping", "-e", "ansible_password=hunter2"]);
    assert_eq!(said.code, Some(2), "{said:?}");
    // Ansible wraps the line where it likes.
    let words = said.text().split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("load a key into ssh-agent or run tsh login"), "{words}");
    assert!(!words.contains("hunter2"), "{words}");
    assert_eq!(world.upstream().streams_total, 0, "nobody was asked");
}

#[test]
fn after_a_reset_the_next_task_authenticates_afresh() {
    let Some(playbook) = tools::python_program("ansible-playbook") else { return };
    let world = Plan::new().start();
    let play = collection::playbook(
        &world,
        "
- hosts: all
  gather_facts: false
  tasks:
    - ping:
    - meta: reset_connection
    - ping:
    - ping:
",
    );
    let said = Running::start(collection::command(&world, &playbook, &["-i", "worker,", &play]))
        .end_within(PATIENCE);
    assert_eq!(natssh_tests::ansible::passed(&said), 1, "{}", said.text());
    assert_eq!(world.upstream().streams_total, 2, "{}", said.text());
}

#[test]
fn three_letters_show_what_happened_and_how_long_it_took() {
    let Some(program) = tools::python_program("ansible") else { return };
    let world = Plan::new().start();
    let said = adhoc(&world, &program, &["-m", "ping", "-vvv"]).ok();
    assert!(said.contains("<worker> natssh: EXEC "), "{said}");
    let parts = ["rc 0 after ", " s of them until the broker's answer; ", " bytes sent, ", " received"];
    assert!(said.lines().any(|line| parts.iter().all(|part| line.contains(part))), "{said}");
}

/// `ansible all WORDS` on both nodes.
fn adhoc(world: &World, program: &Path, words: &[&str]) -> Said {
    let words = [&["all", "-i", "control-plane,worker,"], words].concat();
    Running::start(collection::command(world, program, &words)).end_within(PATIENCE)
}
