//! The collection's connection plugin beside Ansible's own: some sixty tasks, and the same results.
//!
//! The playbooks are `tests/plays/sixty.yml`, which every user's nodes can run, and `machine.yml`, which changes machines and so needs
//! nodes that are ones. What is meant to differ (docs/ansible.md) is not in them.

use natssh_lab::Fault;
use natssh_lab::faults::NodeFault;
use natssh_lab::netns;
use natssh_tests::ansible::PATIENCE;
use natssh_tests::run::run;
use natssh_tests::screen::lacks_terminals;
use natssh_tests::{Plan, Running, Said, World, ansible, collection, tools};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

#[test]
fn sixty_tasks_have_the_results_of_the_ssh_plugin() {
    sixty_tasks(3 << 20, PATIENCE * 2);
}

#[test]
#[ignore = "takes minutes: make test-long"]
fn sixty_tasks_have_the_results_of_the_ssh_plugin_with_two_hundred_megabytes() {
    sixty_tasks(200_000_000, PATIENCE * 5);
}

#[test]
fn a_machine_changes_as_by_the_ssh_plugin() {
    if !netns::available() {
        eprintln!("left out: machines of their own, which take root and a kernel that lets it");
        return;
    }
    let Some(playbook) = tools::python_program("ansible-playbook") else { return };
    let world = Plan::new().rooted().without_broker().start();
    let runs = Run::both(&world, "machine.yml");
    for one in &runs {
        let mut ssh = Command::new("ssh");
        ssh.arg("-F").arg(world.lab.folder().ssh_config()).args([one.node, USERS]);
        run(ssh).ok();
        one.write_inventory("ansible_user=natssh-ann");
    }
    world.certify("natssh-ann");
    world.start_broker();
    compare(&world, &runs, &playbook, PATIENCE * 2, 24);
}

/// How often to look whether a play wants its node rebooted.
const LOOK: Duration = Duration::from_millis(20);

/// The users of `machine.yml`.
const USERS: &str = "groupadd natssh-pair && useradd -m -G natssh-pair natssh-ann && useradd -m -G natssh-pair natssh-bob && \
     echo natssh-ann:sesame | chpasswd && echo natssh-bob:swordfish | chpasswd && \
     printf '%s\\n' 'natssh-ann ALL=(root) NOPASSWD: ALL' 'natssh-ann ALL=(natssh-bob) ALL' >/etc/sudoers.d/natssh-story";

/// `much` is the size of the largest file.
fn sixty_tasks(much: usize, limit: Duration) {
    let Some(playbook) = tools::python_program("ansible-playbook") else { return };
    // What is not pipelined has a terminal, with Ansible's own plugin.
    if lacks_terminals() {
        return;
    }
    let world = Plan::new().nodes(3).start();
    let runs = Run::both(&world, "sixty.yml");
    let pattern: Vec<u8> = (0..=250).cycle().take(much).collect();
    for one in &runs {
        fs::write(one.place.join("much"), &pattern).expect("our own folder");
        one.write_inventory("");
    }
    let (world, runs) = (&world, &runs);
    thread::scope(|threads| {
        // Dropped when the plays have ended, or when one has not and this panics.
        let (_playing, over) = channel::<()>();
        threads.spawn(move || {
            while over.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                runs.iter().for_each(|one| one.reboot_if_asked(world));
            }
        });
        compare(world, runs, &playbook, limit, 65);
    });
}

/// Both plugins at the same time, which give at least so many results.
fn compare(world: &World, runs: &[Run; 2], playbook: &Path, limit: Duration, at_least: usize) {
    let running = runs.each_ref().map(|one| Running::start(one.command(world, playbook)));
    let [by_ssh, by_us] = running.map(|one| one.end_within(limit));
    assert_eq!(by_us.code, by_ssh.code, "{}\n{}", by_ssh.text(), by_us.text());
    assert_eq!(by_us.code, Some(0), "{}{}", by_us.text(), by_us.stderr);
    let [expected, found] = [runs[0].results(&by_ssh), runs[1].results(&by_us)];
    let differing: Vec<_> = expected.iter().zip(&found).filter(|(one, other)| one != other).collect();
    let told: Vec<_> =
        differing.iter().map(|(one, other)| format!("ssh:    {one}\nnatssh: {other}\n")).collect();
    assert!(told.is_empty() && expected.len() == found.len(), "{}{}", told.join("\n"), by_us.text());
    assert!(expected.len() >= at_least, "{} results", expected.len());
}

/// [`ansible::command`] or [`collection::command`].
type Make = fn(&World, &Path, &[&str]) -> Command;

/// One play of the two, on a node that is its own.
struct Run {
    place: PathBuf,
    play: PathBuf,
    node: &'static str,
    /// How rsync reaches the node.
    rsh: &'static str,
    make: Make,
}

impl Run {
    /// By the ssh plugin, and by natssh's.
    fn both(world: &World, play: &str) -> [Self; 2] {
        let run = |rsh, node, make: Make| {
            let place = world.path().join(rsh);
            natssh_lab::state::create_private(&place).expect("our own folder");
            Self { place, play: plays().join(play), node, rsh, make }
        };
        [run("ssh", "control-plane", ansible::command), run("natssh", "worker", collection::command)]
    }

    /// The same names for nodes that are not the same.
    fn write_inventory(&self, variables: &str) {
        let hosts = format!("node ansible_host={} {variables}\nother ansible_host=worker-2\n", self.node);
        fs::write(self.place.join("hosts"), hosts).expect("our own folder");
    }

    fn command(&self, world: &World, playbook: &Path) -> Command {
        let place = self.place.display();
        let rsh = format!("{} -F {}", self.rsh, world.path().join("natssh.conf").display());
        let become_by = plays().join("files/become.sh");
        let words = [
            "-i".to_owned(),
            format!("{place}/hosts"),
            self.play.display().to_string(),
            "-e".to_owned(),
            format!("place={place} become_by={} rsh='{rsh}'", become_by.display()),
        ];
        let mut command = (self.make)(world, playbook, &words.each_ref().map(String::as_str));
        command
            .env("ANSIBLE_CALLBACK_PLUGINS", plays().join("callbacks"))
            .env("ANSIBLE_CALLBACKS_ENABLED", "record")
            // The login may be root already.
            .env("ANSIBLE_BECOME_ALLOW_SAME_USER", "1")
            .env("PLAY_RECORD", self.record())
            .env("PLAY_PLACE", &self.place)
            .env("PLAY_NODE", self.node)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .current_dir(plays());
        command
    }

    /// Cuts the power of a rootless node whose play has asked for that, and gives it back.
    fn reboot_if_asked(&self, world: &World) {
        if fs::rename(self.place.join("reboot"), self.place.join("rebooted")).is_ok() {
            world.fault(Fault::Node(NodeFault::Offline { node: self.node.into() }));
            world.fault(Fault::Node(NodeFault::Online { node: self.node.into() }));
        }
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

/// Where the playbooks lie.
fn plays() -> PathBuf {
    tools::workspace().join("tests/plays")
}
