//! The Ansible collection: its own tests, and a real Ansible that reaches the nodes with no ssh process at all.

use natssh_lab::Fault;
use natssh_lab::faults::{NodeFault, ProxyFault};
use natssh_tests::ansible::{PATIENCE, demo, passed};
use natssh_tests::wait::within;
use natssh_tests::{Plan, Running, Said, World, collection, need, tools};
use natssh_wire::status::{Session, SessionState};
use std::fs;
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
    let said = Running::start(command).end_within(PATIENCE);
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
fn the_demo_playbook_passes_without_pipelining_and_starts_no_process() {
    let Some(playbook) = tools::python_program("ansible-playbook") else { return };
    let world = Plan::new().start();
    let words = ["-i", &demo("inventory.yml"), &demo("playbook.yml")];
    let mut command = collection::command(&world, &playbook, &words);
    command.env("ANSIBLE_PIPELINING", "0");
    let said = Running::start(command).end_within(PATIENCE);
    assert_eq!(passed(&said), 2, "{}", said.text());
    assert_eq!(world.upstream().streams_total, 2, "one authentication a node, files included");
    let left = world.started_by_broker();
    assert!(left.is_empty(), "{left:?}");
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
    assert_eq!(passed(&said), 1, "{}", said.text());
    assert_eq!(world.upstream().streams_total, 2, "{}", said.text());
}

#[test]
fn a_play_whose_proxy_is_cut_repeats_nothing_and_goes_on() {
    let Some(playbook) = tools::python_program("ansible-playbook") else { return };
    let world = Plan::new().start();
    let here = world.path().display().to_string();
    let play = collection::playbook(
        &world,
        &format!(
            "
- hosts: all
  gather_facts: false
  tasks:
    - name: In flight
      shell: echo started >>{here}/{{{{ inventory_hostname }}}}; until [ -e {here}/over ]; do sleep 0.1; done
      ignore_unreachable: true
    - name: Afterwards
      ping:
"
        ),
    );
    let mut command = collection::command(&world, &playbook, &["-i", "control-plane,worker,", &play]);
    // Attempts to reach a host, never to repeat what has started.
    command.env("ANSIBLE_SSH_RETRIES", "3");
    let play = Running::start(command);
    let started = |node: &str| fs::read_to_string(world.path().join(node)).unwrap_or_default();
    let nodes = ["control-plane", "worker"];
    // Ansible itself takes its time on a loaded machine.
    let run = within(PATIENCE, || nodes.iter().all(|node| started(node) == "started\n").then_some(()));
    assert!(run.is_some(), "the commands do not run");
    world.fault(Fault::Proxy(ProxyFault::Cut));
    let said = play.end_within(PATIENCE);
    fs::write(world.path().join("over"), "").expect("our own folder");

    let text = said.ok();
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for node in nodes {
        let reason =
            format!("the session to {}@{node} ended under the command, which may have run", world.login());
        assert!(words.contains(&reason), "{text}");
        assert_eq!(started(node), "started\n", "{node} has run it again: {text}");
        assert!(text.contains(&format!("fatal: [{node}]: UNREACHABLE!")), "{text}");
        let afterwards = text.split("TASK [Afterwards]").nth(1).unwrap_or_default();
        assert!(afterwards.contains(&format!("ok: [{node}]")), "{text}");
    }
}

#[test]
fn sessions_are_opened_ahead_of_a_play_and_its_end_says_what_it_cost() {
    let Some(playbook) = tools::python_program("ansible-playbook") else { return };
    let world = Plan::new().start();
    let here = world.path().display().to_string();
    // Nothing of it reaches a node but the sessions themselves: it waits on this side until they are there.
    let play = collection::playbook(
        &world,
        &format!(
            "
- hosts: all
  gather_facts: false
  tasks:
    - wait_for: {{path: {here}/warm, timeout: 240}}
      delegate_to: localhost
      vars: {{ansible_connection: local, ansible_python_interpreter: '{{{{ ansible_playbook_python }}}}'}}
"
        ),
    );
    let mut command = collection::command(&world, &playbook, &["-i", "control-plane,worker,", &play]);
    command.env("ANSIBLE_CALLBACKS_ENABLED", "natssh.broker.warm");
    let play = Running::start(command);
    let is_open = |session: &Session| session.state == SessionState::Open;
    let both = || (world.status().sessions.iter().filter(|one| is_open(one)).count() == 2).then_some(());
    assert!(within(PATIENCE, both).is_some(), "{:?}", world.status());
    fs::write(world.path().join("warm"), "").expect("our own folder");
    let said = play.end_within(PATIENCE);
    assert_eq!(passed(&said), 2, "{}", said.text());
    let line = said.text().lines().find(|line| line.starts_with("natssh: ")).map(str::to_owned);
    let line = line.unwrap_or_else(|| panic!("{}", said.text()));
    assert!(line.contains(" on 2 hosts; "), "{line}");
    assert!(line.contains("; 2 sessions opened, 0 commands cut; "), "{line}");
    assert!(line.contains("; slowest "), "{line}");
}

#[test]
fn it_is_packed_and_installed_by_ansible_galaxy() {
    let (Some(galaxy), Some(program)) =
        (tools::python_program("ansible-galaxy"), tools::python_program("ansible"))
    else {
        return;
    };
    let world = Plan::new().start();
    let place = world.path().join("installed");
    let place = place.to_str().expect("a plain path");
    let galaxy = |words: &[&str]| {
        let mut command = world.command(&galaxy);
        command.args([&["collection"], words].concat()).env("ANSIBLE_HOME", world.path().join("ansible"));
        Running::start(command).end_within(PATIENCE).ok()
    };
    let folder = collection::folder();
    galaxy(&["build", folder.to_str().expect("a plain path"), "--output-path", place]);
    let packed = fs::read_dir(place).expect("just made").next().expect("one file").expect("ours").path();
    assert!(packed.ends_with("natssh-broker-0.1.0.tar.gz"), "{}", packed.display());
    galaxy(&["install", "--offline", "-p", place, packed.to_str().expect("a plain path")]);
    let mut command = collection::command(&world, &program, &["all", "-i", "worker,", "-m", "ping"]);
    command.env("ANSIBLE_COLLECTIONS_PATH", place);
    let said = Running::start(command).end_within(PATIENCE);
    assert_eq!(said.ok().matches(" | SUCCESS").count(), 1, "{}", said.text());
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
