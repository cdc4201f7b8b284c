//! The collection's connection plugin beside Ansible's own: some sixty tasks, and the same results.
//!
//! The playbook is `tests/plays/sixty.yml`. What is meant to differ (docs/ansible.md) is not in it.

use natssh_tests::ansible::PATIENCE;
use natssh_tests::{Plan, Running, Said, World, ansible, collection, tools};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

#[test]
fn sixty_tasks_have_the_results_of_the_ssh_plugin() {
    compare(3 << 20, PATIENCE);
}

#[test]
#[ignore = "takes minutes: make test-long"]
fn sixty_tasks_have_the_results_of_the_ssh_plugin_with_two_hundred_megabytes() {
    compare(200_000_000, PATIENCE * 4);
}

/// Both plugins at the same time, each with a folder of its own; `much` is the size of the largest file.
fn compare(much: usize, limit: Duration) {
    let Some(playbook) = tools::python_program("ansible-playbook") else { return };
    let world = Plan::new().start();
    let [ssh, ours] = ["ssh", "natssh"].map(|name| Run::new(&world, name, much));
    let running = [
        Running::start(ssh.command(&world, ansible::command, &playbook)),
        Running::start(ours.command(&world, collection::command, &playbook)),
    ];
    let [by_ssh, by_us] = running.map(|one| one.end_within(limit));
    assert_eq!(by_us.code, by_ssh.code, "{}\n{}", by_ssh.text(), by_us.text());
    let (expected, found) = (ssh.results(&by_ssh), ours.results(&by_us));
    let differing: Vec<_> = expected.iter().zip(&found).filter(|(one, other)| one != other).collect();
    let told: Vec<_> =
        differing.iter().map(|(one, other)| format!("ssh:    {one}\nnatssh: {other}\n")).collect();
    assert!(told.is_empty() && expected.len() == found.len(), "{}{}", told.join("\n"), by_us.text());
    assert!(expected.len() >= 60, "{} results", expected.len());
}

/// One play of the two.
struct Run {
    place: PathBuf,
}

impl Run {
    fn new(world: &World, name: &str, much: usize) -> Self {
        let place = world.path().join(name);
        natssh_lab::state::create_private(&place).expect("our own folder");
        let pattern: Vec<u8> = (0..=250).cycle().take(much).collect();
        fs::write(place.join("much"), pattern).expect("our own folder");
        Self { place }
    }

    fn command(
        &self,
        world: &World,
        command: fn(&World, &Path, &[&str]) -> Command,
        playbook: &Path,
    ) -> Command {
        let plays = tools::workspace().join("tests/plays");
        let (play, become_by) = (plays.join("sixty.yml"), plays.join("files/become.sh"));
        let words = [
            "-i".to_owned(),
            "control-plane,".to_owned(),
            play.display().to_string(),
            "-e".to_owned(),
            format!("place={} become_by={}", self.place.display(), become_by.display()),
        ];
        let mut command = command(world, playbook, &words.each_ref().map(String::as_str));
        command
            .env("ANSIBLE_CALLBACK_PLUGINS", plays.join("callbacks"))
            .env("ANSIBLE_CALLBACKS_ENABLED", "record")
            // The login may be root already.
            .env("ANSIBLE_BECOME_ALLOW_SAME_USER", "1")
            .env("PLAY_RECORD", self.record())
            .env("PLAY_PLACE", &self.place)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .current_dir(&plays);
        command
    }

    fn record(&self) -> PathBuf {
        self.place.with_extension("results")
    }

    fn results(&self, said: &Said) -> Vec<String> {
        let text =
            fs::read_to_string(self.record()).unwrap_or_else(|error| panic!("{error}: {}", said.text()));
        text.lines().map(str::to_owned).collect()
    }
}
