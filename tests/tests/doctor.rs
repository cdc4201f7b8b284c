//! `natssh doctor`: silent where all is well, and where something is not it names the culprit and the fix.

use natssh_lab::Fault;
use natssh_lab::faults::ProxyFault;
use natssh_tests::{Plan, World, need, run};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

#[test]
fn the_doctor_has_nothing_to_say_where_all_is_well() {
    need!("ssh");
    let world = Plan::new()
        .without_broker()
        .config("[[route]]\nhosts = [\"*.example.com\"]\nupstream = \"lab\"\n")
        .start();
    let said = run(doctor(&world, &["worker", "--json"]));
    let findings = findings(&said.ok());
    for check in ["config", "socket", "broker", "identity", "upstream", "ssh"] {
        let of_check: Vec<_> = findings.iter().filter(|finding| finding.check == check).collect();
        assert!(!of_check.is_empty(), "{check}: {findings:?}");
        assert!(
            of_check.iter().all(|finding| finding.verdict == "ok" && finding.fix.is_none()),
            "{of_check:?}"
        );
    }
    let dialled = |finding: &Found| finding.message.contains("dialled and authenticated, SSH-2.0-");
    assert!(findings.iter().any(dialled), "{findings:?}");
    assert!(
        findings.iter().any(|finding| finding.message == "reaches worker through natssh"),
        "{findings:?}"
    );
    assert_eq!(world.upstream().dials_ok, 1, "the broker that was started has dialled");

    let text = run(doctor(&world, &[])).ok();
    assert!(text.contains("ok       ssh       reaches natssh-doctor.example.com through natssh\n"), "{text}");
    run(world.natssh(&["broker", "stop", "--now"])).ok();
}

#[test]
fn the_doctor_names_the_culprit_and_the_fix() {
    need!("ssh");
    let world = Plan::new().start();
    let project = world.path().join("project");
    std::fs::create_dir(&project).expect("our own folder");
    let config = "[connection]\npipelining = False\n[ssh_connection]\nssh_args = -o ServerAliveInterval=15\n";
    std::fs::write(project.join("ansible.cfg"), config).expect("our own folder");
    std::fs::set_permissions(world.config_path(), Permissions::from_mode(0o666)).expect("ours");
    world.write_ssh_config("Host worker\n  ProxyCommand none\n");
    world.fault(Fault::Proxy(ProxyFault::Stop));
    world.until_status("the trunk is gone", |status| {
        status.upstreams.iter().all(|upstream| upstream.trunks.is_empty())
    });

    let mut command = doctor(&world, &["worker", "--json"]);
    command.current_dir(&project);
    let said = run(command);
    assert_eq!(said.code, Some(1), "{said:?}");
    let findings = findings(&said.text());
    let has = |verdict: &str, check: &str, words: &str, fix: &str| {
        let is = |found: &&Found| {
            found.verdict == verdict && found.check == check && found.message.contains(words)
        };
        let found = findings.iter().find(is).unwrap_or_else(|| panic!("{check} {words:?}: {findings:#?}"));
        assert!(found.fix.as_ref().is_some_and(|text| text.contains(fix)), "{found:?}");
    };
    has("failure", "config", "others may write", "chmod go-w");
    has("failure", "upstream", "lab at", "natssh");
    has("warning", "ssh", "does not go through natssh for worker", "Include natssh.conf");
    has("warning", "ansible", "pipelining is off", "pipelining = True");
    has("warning", "ansible", "leaves out ControlPersist", "ControlPersist=60s");

    let mut command = doctor(&world, &["worker"]);
    command.current_dir(&project);
    let text = run(command).text();
    assert!(text.lines().last().is_some_and(|sum| sum.contains(" failures, ")), "{text}");
}

#[test]
fn the_doctor_does_without_a_broker_and_ends_in_time() {
    let world = Plan::new().without_broker().start();
    world.write_config("defualt = \"lab\"\n");
    let said = run(doctor(&world, &["--json"]));
    assert_eq!(said.code, Some(1), "{said:?}");
    let findings = findings(&said.text());
    let broker = findings.iter().find(|found| found.check == "broker").expect("a finding");
    assert_eq!((broker.verdict.as_str(), broker.fix.as_deref()), ("failure", Some("natssh broker start")));
    let config = findings.iter().find(|found| found.check == "config").expect("a finding");
    assert!(config.message.contains("did you mean \"default\"?"), "{config:?}");
    assert!(said.took < Duration::from_secs(20), "{:?}", said.took);
}

/// `natssh doctor` where `ssh` reads the world's configuration: the real one reads that of the account, whatever HOME says.
fn doctor(world: &World, words: &[&str]) -> Command {
    let folder = world.path().join("bin");
    std::fs::create_dir_all(&folder).expect("our own folder");
    let real = natssh_lab::tools::find("ssh").unwrap_or_else(|| "/usr/bin/ssh".into());
    let config = world.ssh_config_path();
    let script = format!("#!/bin/sh\nexec {} -F {} \"$@\"\n", real.display(), config.display());
    std::fs::write(folder.join("ssh"), script).expect("our own folder");
    std::fs::set_permissions(folder.join("ssh"), Permissions::from_mode(0o755)).expect("ours");
    let mut command = world.natssh(&["doctor"]);
    let usual = command.get_envs().find(|(name, _)| *name == "PATH").and_then(|(_, value)| value);
    let usual = usual.expect("the world sets it").to_string_lossy().into_owned();
    command.env("PATH", format!("{}:{usual}", folder.display())).args(words);
    command
}

#[derive(Debug)]
struct Found {
    verdict: String,
    check: String,
    message: String,
    fix: Option<String>,
}

/// What `--json` said.
fn findings(text: &str) -> Vec<Found> {
    let report: serde_json::Value =
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let findings = report["findings"].as_array().expect("a list").iter();
    let word = |finding: &serde_json::Value, key: &str| finding[key].as_str().map(str::to_owned);
    let found = findings.map(|finding| Found {
        verdict: word(finding, "verdict").expect("a verdict"),
        check: word(finding, "check").expect("a check"),
        message: word(finding, "message").expect("a message"),
        fix: word(finding, "fix"),
    });
    found.collect()
}
