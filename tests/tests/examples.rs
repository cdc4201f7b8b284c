//! Every file in `examples/` is loaded by the program that it is written for. One that no
//! rule below knows fails the test: an example that nobody loads is wrong sooner or later.

use natssh_tests::{need, programs, run, tools};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// The lab is a crate, whose tests run it.
const BUILT: &str = "lab";

#[test]
fn somebody_loads_every_example() {
    let mut files = Vec::new();
    list(&examples(), &mut files);
    let known: [fn(&str) -> bool; 10] = [
        is_config,
        is_ssh_config,
        is_ansible_config,
        is_inventory,
        is_playbook,
        is_unit,
        is_plist,
        is_dashboard,
        is_awx,
        is_told,
    ];
    for file in files {
        let name = file.strip_prefix(examples()).expect("it lies in there").to_str().expect("plain names");
        assert_eq!(known.iter().filter(|is| is(name)).count(), 1, "no test, or two, for examples/{name}");
    }
}

#[test]
fn configurations_are_accepted_as_they_stand() {
    for file in examples_that(is_config) {
        for words in [["config", "check"], ["config", "show"]] {
            let (_home, mut natssh) = command(programs::path("natssh"));
            natssh
                .env("NATSSH_CONFIG", &file)
                .env("NATSSH_BROKER", programs::path("natssh-broker"))
                .args(words);
            let said = run(natssh);
            said.ok();
            assert_eq!(said.stderr, "", "{}", file.display());
        }
    }
}

#[test]
fn ssh_takes_its_configuration_and_asks_natssh() {
    need!("ssh");
    for file in examples_that(is_ssh_config) {
        for host in ["web", "worker.example.com"] {
            let (_home, mut ssh) = command("ssh");
            ssh.arg("-G").arg("-F").arg(&file).arg(host);
            let settings = run(ssh).ok();
            assert!(settings.contains("proxycommand natssh proxy %h %p\n"), "{host}: {settings}");
            assert!(settings.contains("proxyusefdpass yes\n"), "{host}: {settings}");
        }
    }
}

#[test]
fn ansible_knows_every_setting_of_its_configuration() {
    let Some(config) = tools::python_program("ansible-config") else { return };
    for file in examples_that(is_ansible_config) {
        let (_home, mut validate) = command(&config);
        validate.env("ANSIBLE_CONFIG", &file).args(["validate", "-t", "all", "-f", "ini"]);
        run(validate).ok();
    }
}

#[test]
fn ansible_finds_hosts_in_every_inventory() {
    let Some(inventory) = tools::python_program("ansible-inventory") else { return };
    for file in examples_that(is_inventory) {
        let (_home, mut list) = command(&inventory);
        // Without this, what cannot be read is a warning and an empty inventory.
        list.env("ANSIBLE_INVENTORY_UNPARSED_FAILED", "1").arg("-i").arg(&file).arg("--list");
        let hosts: serde_json::Value = serde_json::from_str(&run(list).ok()).expect("JSON");
        let vars = hosts["_meta"]["hostvars"].as_object().expect("hosts with variables");
        assert!(!vars.is_empty(), "{}", file.display());
    }
}

#[test]
fn ansible_takes_every_playbook() {
    let Some(playbook) = tools::python_program("ansible-playbook") else { return };
    for file in examples_that(is_playbook) {
        let (_home, mut check) = command(&playbook);
        check.args(["--syntax-check", "-i", "localhost,"]).arg(&file);
        run(check).ok();
    }
}

#[test]
fn systemd_knows_every_setting_of_its_units() {
    need!("systemd-analyze");
    let folder = TempDir::new().expect("a folder");
    let units = examples_that(is_unit).into_iter().map(|file| {
        let text = fs::read_to_string(&file).expect("an example");
        // Where the program is on this machine: systemd looks whether it can be started.
        let here = text.replace("/usr/local/bin", programs::folder().to_str().expect("a plain path"));
        let copy = folder.path().join(file.file_name().expect("a file"));
        fs::write(&copy, here).expect("ours");
        copy
    });
    let (home, mut verify) = command("systemd-analyze");
    verify.env("XDG_RUNTIME_DIR", home.path()).args(["verify", "--user", "--man=no"]).args(units);
    let said = run(verify);
    said.ok();
    // What it says of the machine's own folders, which an ordinary user may not always read, is not about ours.
    let ours: Vec<&str> = said.stderr.lines().filter(|line| line.contains("natssh")).collect();
    assert!(ours.is_empty(), "{}", said.stderr);
}

#[test]
fn launchd_gets_a_property_list() {
    need!("python3");
    for file in examples_that(is_plist) {
        let (_home, mut python) = command("python3");
        let print = "import json, plistlib, sys; print(json.dumps(plistlib.load(open(sys.argv[1], 'rb'))))";
        python.args(["-c", print]).arg(&file);
        let list: serde_json::Value = serde_json::from_str(&run(python).ok()).expect("JSON");
        let words: Vec<_> = list["ProgramArguments"].as_array().expect("words").iter().skip(1).collect();
        // The words are those that the program knows.
        let (_home, mut help) = command(programs::path("natssh-broker"));
        help.args(words.iter().map(|word| word.as_str().expect("text"))).arg("--help");
        run(help).ok();
        assert!(list["Label"].is_string(), "{}", file.display());
    }
}

#[test]
fn awx_gets_an_image_with_this_collection_and_a_broker_that_a_job_finds() {
    let Some(python) = tools::python_program("python") else { return };
    let read = |name: &str| -> serde_json::Value {
        let file = examples_that(is_awx).into_iter().find(|file| file.ends_with(name)).expect("an example");
        let (_home, mut load) = command(&python);
        load.args(["-c", "import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1]))))"])
            .arg(file);
        serde_json::from_str(&run(load).ok()).expect("JSON")
    };
    let image = read("execution-environment.yml");
    assert_eq!(image["version"], 3);
    let galaxy = fs::read_to_string(tools::workspace().join("ansible/galaxy.yml")).expect("ours");
    let version = galaxy.lines().find_map(|line| line.strip_prefix("version: ")).expect("a version");
    let packed = format!("natssh-broker-{version}.tar.gz");
    assert_eq!(image["dependencies"]["galaxy"]["collections"][0]["name"], packed.as_str());

    let pod = read("pod.yml");
    let containers = pod["spec"]["containers"].as_array().expect("containers");
    let sockets: Vec<_> = containers
        .iter()
        .map(|one| {
            let all = one["env"].as_array().expect("variables");
            &all.iter().find(|variable| variable["name"] == "NATSSH_SOCKET").expect("a socket")["value"]
        })
        .collect();
    assert!(sockets.len() == 2 && sockets[0] == sockets[1], "{sockets:?}");
    assert_eq!(containers[1]["command"], serde_json::json!(["natssh-broker", "run"]));
    assert!(containers.iter().all(|one| one["securityContext"].is_null()), "both run as the pod's user");
}

#[test]
fn scripts_and_pages_hold_together() {
    for file in examples_that(is_told) {
        let text = fs::read_to_string(&file).expect("an example");
        if file.extension().is_some_and(|e| e == "sh") {
            let (_home, mut bash) = command("bash");
            bash.arg("-n").arg(&file);
            run(bash).ok();
        }
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = file.with_file_name(link);
            assert!(link.contains("://") || target.exists(), "{} names {link}", file.display());
        }
    }
}

fn is_config(name: &str) -> bool {
    name.ends_with("natssh.toml")
}

fn is_ssh_config(name: &str) -> bool {
    name.ends_with("ssh_config")
}

fn is_ansible_config(name: &str) -> bool {
    name.ends_with("ansible.cfg")
}

fn is_inventory(name: &str) -> bool {
    name.ends_with("inventory.yml") || name.ends_with("inventory.yaml")
}

fn is_playbook(name: &str) -> bool {
    name.ends_with("playbook.yml")
}

fn is_unit(name: &str) -> bool {
    name.starts_with("systemd/") && (name.ends_with(".service") || name.ends_with(".socket"))
}

fn is_plist(name: &str) -> bool {
    name.ends_with(".plist")
}

/// Its questions are held against the metrics by a test of the broker's.
fn is_dashboard(name: &str) -> bool {
    name.starts_with("grafana/") && name.ends_with(".json")
}

fn is_awx(name: &str) -> bool {
    name.starts_with("awx/") && name.ends_with(".yml")
}

/// Run by a target of the Makefile, or read by a person.
fn is_told(name: &str) -> bool {
    name.ends_with(".sh") || name.ends_with(".md")
}

/// The examples of one kind; there is at least one of each that is loaded.
fn examples_that(is: fn(&str) -> bool) -> Vec<PathBuf> {
    let mut files = Vec::new();
    list(&examples(), &mut files);
    files.retain(|file| file.strip_prefix(examples()).ok().and_then(Path::to_str).is_some_and(is));
    assert!(!files.is_empty(), "there is none");
    files
}

fn examples() -> PathBuf {
    tools::workspace().join("examples")
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry")) {
        let path = entry.path();
        match path.is_dir() {
            true if entry.file_name() == BUILT => {}
            true => list(&path, files),
            false => files.push(path),
        }
    }
}

/// A program with a home of its own and nothing of the user's.
fn command(program: impl AsRef<std::ffi::OsStr>) -> (TempDir, Command) {
    let home = TempDir::new().expect("a folder");
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LANG", "C.UTF-8")
        .env("HOME", home.path())
        .current_dir(home.path());
    (home, command)
}
