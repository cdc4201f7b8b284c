//! The tools that carry files and start an ssh for it: rsync, git, scp and sftp, with natssh in that place. What they
//! leave behind is compared with what they leave behind by the real ssh.

use natssh_tests::{Plan, Running, World, need, programs, run, until};
use rustix::process::Signal;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// So many small files are many.
const MANY: usize = 2000;
/// And this is a big one.
const BIG: usize = 12 << 20;
/// Any tool is through with them by then, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(180);

/// The programs that are compared, as a tool is told of them.
const PROGRAMS: [&str; 2] = ["ssh", "natssh"];

/// `PROGRAM -F CONFIG`, for a tool that starts it by a shell or parts it at blanks.
fn line(world: &World, program: &str) -> String {
    let program = if program == "ssh" { "ssh".into() } else { programs::path(program).display().to_string() };
    format!("{program} -F {}", world.ssh_config_path().display())
}

/// The same as a program of its own, for a tool that takes no words: it says that its caller was natssh's.
fn script(world: &World, program: &str) -> PathBuf {
    let path = world.path().join(format!("by-{program}"));
    fs::write(&path, format!("#!/bin/sh\nexec {} \"$@\"\n", line(world, program))).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// What a login on the node finds in its folder, as this machine sees it.
fn at_node(world: &World, name: &str) -> PathBuf {
    world.lab.folder().node("worker").join("home").join(name)
}

/// Ends well, or the test does not.
fn done(command: Command) -> String {
    let said = Running::start(command).end_within(PATIENCE);
    said.ok()
}

/// A program of the system with these words, in the user's shell.
fn tool(world: &World, program: &str, words: &[&str]) -> Command {
    let mut command = world.command(program);
    command.args(words);
    command
}

/// A folder with this many small files in some folders, and a big one.
fn tree(world: &World, name: &str, small: usize, big: usize) -> PathBuf {
    let folder = world.path().join(name);
    for n in 0..small {
        let place = folder.join(format!("{}", n % 20));
        fs::create_dir_all(&place).unwrap();
        fs::write(place.join(format!("file {n}")), format!("{n}\n").repeat(n % 50)).unwrap();
    }
    fs::write(folder.join("big"), noise(big)).unwrap();
    folder
}

/// Bytes that do not repeat themselves, the same ones each time.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        // Knuth's constants for a linear congruence.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u32
    };
    (0..length.div_ceil(4)).flat_map(|_| next().to_le_bytes()).take(length).collect()
}

/// Both hold the same, file by file.
#[track_caller]
fn same(world: &World, one: &Path, other: &Path) {
    let said = run(tool(world, "diff", &["-r", one.to_str().unwrap(), other.to_str().unwrap()]));
    assert_eq!(said.ok(), "", "{} and {}", one.display(), other.display());
}

#[test]
fn rsync_carries_many_files_and_deletes_as_it_does_by_ssh() {
    need!("ssh", "sshd", "rsync", "diff");
    let world = Plan::new().start();
    for program in PROGRAMS {
        let here = tree(&world, &format!("from-{program}"), MANY, BIG);
        let (from, to) = (format!("{}/", here.display()), format!("worker:to-{program}/"));
        let rsync = |words: &[&str]| {
            let shell = line(&world, program);
            done(tool(&world, "rsync", &[&["-a", "-e", &shell], words].concat()))
        };
        rsync(&[&from, &to]);
        same(&world, &here, &at_node(&world, &format!("to-{program}")));
        fs::remove_dir_all(here.join("3")).unwrap();
        fs::write(here.join("4/file 4"), "changed").unwrap();
        rsync(&["--delete", &from, &to]);
        same(&world, &here, &at_node(&world, &format!("to-{program}")));
        let back = world.path().join(format!("back-{program}"));
        let mut named = tool(&world, "rsync", &["-a", &to, &format!("{}/", back.display())]);
        named.env("RSYNC_RSH", line(&world, program));
        done(named);
        same(&world, &here, &back);
    }
    assert_eq!(world.status().failures, []);
}

#[test]
fn rsync_goes_on_where_it_was_interrupted() {
    need!("ssh", "sshd", "rsync");
    let world = Plan::new().start();
    let file = world.path().join("big");
    fs::write(&file, noise(BIG)).unwrap();
    let shell = line(&world, "natssh");
    let words = ["--partial", "--stats", "-e", &shell, file.to_str().unwrap(), "worker:big"];
    // Slow enough to be met on the way.
    let slow = Running::start(tool(&world, "rsync", &[&["--bwlimit=1m"], &words[..]].concat()));
    let home = at_node(&world, "");
    let written = || {
        let files = fs::read_dir(&home).into_iter().flatten().flatten();
        let sizes = files.filter(|file| file.file_name().to_string_lossy().starts_with(".big."));
        sizes.filter_map(|file| Some(file.metadata().ok()?.len())).max()
    };
    until("some of it is there", || written().filter(|size| *size > 1 << 20));
    slow.signal(Signal::INT);
    assert_ne!(slow.stay().code, Some(0));
    let kept = until("what came is kept", || {
        at_node(&world, "big").metadata().ok().map(|file| file.len()).filter(|size| *size > 0)
    });
    assert!(kept < BIG as u64);
    let stats = done(tool(&world, "rsync", &words));
    let matched = stats.lines().find_map(|line| line.strip_prefix("Matched data: ")).expect("rsync tells");
    assert!(!matched.starts_with("0 "), "nothing of it was used: {stats}");
    assert!(fs::read(at_node(&world, "big")).unwrap() == noise(BIG));
}

#[test]
fn git_clones_pushes_and_fetches_however_it_is_told_of_its_ssh() {
    need!("ssh", "sshd", "git", "diff");
    let world = Plan::new().start();
    let here = tree(&world, "work", MANY, 4 << 20);
    let git = |folder: &Path, words: &[&str]| {
        let folder = folder.to_str().unwrap();
        let name = ["-c", "user.name=me", "-c", "user.email=me@example.com", "-c", "init.defaultBranch=main"];
        tool(&world, "git", &[&["-C", folder][..], &name, words].concat())
    };
    let commit = |folder: &Path| {
        done(git(folder, &["add", "-A"]));
        done(git(folder, &["commit", "-q", "-m", "state"]));
    };
    done(git(&here, &["init", "-q"]));
    commit(&here);
    done(tool(
        &world,
        "ssh",
        &["-F", world.ssh_config_path().to_str().unwrap(), "worker", "git init -q --bare r"],
    ));

    let url = "ssh://worker:22/~/r";
    let mut push = git(&here, &["push", "-q", url, "HEAD:main"]);
    push.env("GIT_SSH_COMMAND", line(&world, "natssh"));
    done(push);
    let mut clones = Vec::new();
    for program in PROGRAMS {
        let clone = world.path().join(format!("clone-{program}"));
        let mut command = git(world.path(), &["clone", "-q", "-b", "main", url, clone.to_str().unwrap()]);
        command.env("GIT_SSH", script(&world, program));
        done(command);
        clones.push(clone);
    }
    same(&world, &here.join("0"), &clones[1].join("0"));
    fs::write(here.join("0/another"), "more").unwrap();
    fs::remove_dir_all(here.join("5")).unwrap();
    commit(&here);
    let mut push = git(&here, &["push", "-q", url, "HEAD:main"]);
    push.env("GIT_SSH", script(&world, "natssh"));
    done(push);
    for (clone, program) in clones.iter().zip(PROGRAMS) {
        done(git(clone, &["config", "core.sshCommand", &line(&world, program)]));
        done(git(clone, &["pull", "-q", "--ff-only"]));
    }
    for what in [&["rev-parse", "HEAD", "HEAD^{tree}"][..], &["fsck", "--full"], &["status", "--short"]] {
        let [theirs, ours] = [&clones[0], &clones[1]].map(|clone| done(git(clone, what)));
        assert_eq!(theirs, ours, "{what:?}");
    }
    assert_eq!(world.status().failures, []);
}

#[test]
fn scp_and_sftp_carry_folders_both_ways() {
    need!("ssh", "sshd", "scp", "sftp", "diff");
    let world = Plan::new().start();
    let here = tree(&world, "from", 200, BIG);
    let from = here.to_str().unwrap();
    let config = world.ssh_config_path().display().to_string();
    for (name, legacy) in [("sftp", &[][..]), ("scp", &["-O"])] {
        let scp = |words: &[&str]| {
            let words = [&["scp", "-q", "-F", &config, "-r", "-p"], legacy, words].concat();
            done(world.natssh(&words))
        };
        let back = world.path().join(format!("back-{name}"));
        scp(&[from, &format!("worker:by-{name}")]);
        same(&world, &here, &at_node(&world, &format!("by-{name}")));
        scp(&[&format!("worker:by-{name}"), back.to_str().unwrap()]);
        same(&world, &here, &back);
    }
    let batch = world.path().join("batch");
    let back = world.path().join("back");
    let script =
        format!("mkdir by-batch\nput -r {from} by-batch\nget -r by-batch {}\nls nowhere\n", back.display());
    fs::write(&batch, script).unwrap();
    let mut sftp = vec!["sftp", "-q", "-F", &config, "-b", batch.to_str().unwrap(), "worker"];
    // The last line fails, and sftp says so by its status.
    assert_eq!(Running::start(world.natssh(&sftp)).end_within(PATIENCE).code, Some(1));
    same(&world, &here, &back.join("from"));
    // Through natssh all the same where its words name another ssh.
    sftp.insert(1, "-S/nowhere");
    assert_ne!(run(world.natssh(&sftp)).code, Some(1), "the caller's own -S holds");
    assert_eq!(world.status().failures, []);
}

/// What OpenSSH's tools, rsync and git pass to the ssh that they start, by version. `HOST` stands for the host.
const CHILDREN: [(&str, &[&str]); 15] = [
    (
        "sftp 8.0",
        &[
            "-oForwardX11 no",
            "-oForwardAgent no",
            "-oPermitLocalCommand no",
            "-oClearAllForwardings yes",
            "-s",
            "--",
            "HOST",
            "sftp",
        ],
    ),
    (
        "sftp 8.4 to 9.9",
        &[
            "-oForwardX11 no",
            "-oPermitLocalCommand no",
            "-oClearAllForwardings yes",
            "-oForwardAgent no",
            "-s",
            "--",
            "HOST",
            "sftp",
        ],
    ),
    (
        "sftp 9.2 with a batch, a port and a login",
        &[
            "-oForwardX11 no",
            "-oPermitLocalCommand no",
            "-oClearAllForwardings yes",
            "-obatchmode yes",
            "-q",
            "-oPort 22",
            "-oForwardAgent no",
            "-l",
            "LOGIN",
            "-s",
            "--",
            "HOST",
            "sftp",
        ],
    ),
    (
        "sftp 10.0 to 10.5",
        &[
            "-oForwardX11 no",
            "-oPermitLocalCommand no",
            "-oClearAllForwardings yes",
            "-oControlMaster no",
            "-obatchmode yes",
            "-oForwardAgent no",
            "-s",
            "--",
            "HOST",
            "sftp",
        ],
    ),
    (
        "scp 8.0",
        &[
            "-x",
            "-oForwardAgent=no",
            "-oPermitLocalCommand=no",
            "-oClearAllForwardings=yes",
            "-oRemoteCommand=none",
            "-oRequestTTY=no",
            "--",
            "HOST",
            "scp -f there",
        ],
    ),
    (
        "scp 8.4 to 9.9, the old protocol",
        &[
            "-x",
            "-oPermitLocalCommand=no",
            "-oClearAllForwardings=yes",
            "-oRemoteCommand=none",
            "-oRequestTTY=no",
            "-oForwardAgent=no",
            "--",
            "HOST",
            "scp -f there",
        ],
    ),
    (
        "scp 9.0 to 9.9, by sftp",
        &[
            "-x",
            "-oPermitLocalCommand=no",
            "-oClearAllForwardings=yes",
            "-oRemoteCommand=none",
            "-oRequestTTY=no",
            "-oForwardAgent=no",
            "-s",
            "--",
            "HOST",
            "sftp",
        ],
    ),
    (
        "scp 10.0 to 10.5, by sftp",
        &[
            "-x",
            "-oPermitLocalCommand=no",
            "-oClearAllForwardings=yes",
            "-oRemoteCommand=none",
            "-oRequestTTY=no",
            "-oControlMaster=no",
            "-oBatchmode=yes",
            "-4",
            "-C",
            "-p",
            "22",
            "-l",
            "LOGIN",
            "-oForwardAgent=no",
            "-s",
            "--",
            "HOST",
            "sftp",
        ],
    ),
    (
        "scp 10.0 to 10.5, the old protocol",
        &[
            "-x",
            "-oPermitLocalCommand=no",
            "-oClearAllForwardings=yes",
            "-oRemoteCommand=none",
            "-oRequestTTY=no",
            "-oControlMaster=no",
            "-q",
            "-oForwardAgent=no",
            "--",
            "HOST",
            "scp -f there",
        ],
    ),
    ("rsync", &["HOST", "rsync", "--server", "--sender", "-e.LsfxCIvu", ".", "there"]),
    (
        "rsync with a login",
        &["-l", "LOGIN", "HOST", "rsync", "--server", "--sender", "-e.LsfxCIvu", ".", "there"],
    ),
    ("git, protocol 0", &["HOST", "git-upload-pack 'r'"]),
    ("git, protocol 2", &["-o", "SendEnv=GIT_PROTOCOL", "HOST", "git-upload-pack 'r'"]),
    ("git with a port", &["-o", "SendEnv=GIT_PROTOCOL", "-p", "22", "LOGIN@HOST", "git-receive-pack 'r'"]),
    ("git with a family", &["-4", "HOST", "git-receive-pack 'r'"]),
];

/// What each of them is told first by its tool, so that it says something: sftp's INIT of version 3, scp's "go on".
fn greeting(words: &[&str]) -> &'static [u8] {
    match words.last() {
        Some(&"sftp") => b"\0\0\0\x05\x01\0\0\0\x03",
        Some(&"scp -f there") => b"\0\0\0",
        // The version of rsync's protocol, and no more.
        Some(&"there") => b"\x1f\0\0\0",
        _ => b"0000",
    }
}

#[test]
fn what_the_tools_of_any_version_pass_is_run_as_ssh_runs_it() {
    need!("ssh", "sshd", "rsync", "git");
    let world = Plan::new().start();
    fs::write(at_node(&world, "there"), "there\n").unwrap();
    done(tool(&world, "git", &["init", "-q", "--bare", at_node(&world, "r").to_str().unwrap()]));
    let config = world.ssh_config_path().display().to_string();
    for (name, words) in CHILDREN {
        let written: Vec<_> =
            words.iter().map(|word| word.replace("HOST", "worker").replace("LOGIN", world.login())).collect();
        let [theirs, ours] = PROGRAMS.map(|program| {
            let mut command =
                world.command(if program == "ssh" { "ssh".into() } else { programs::path(program) });
            command.args(["-F", &config]).args(&written).env("GIT_PROTOCOL", "version=2");
            let mut running = Running::interactive(command);
            running.write(greeting(words));
            // A server that sees the end of its input at once may leave without an answer.
            until(&format!("{program} answers {name}"), || (running.bytes_said() > 0).then_some(()));
            let said = running.end();
            (said.code, String::from_utf8_lossy(&said.stdout).into_owned(), said.stderr)
        });
        if name.starts_with("rsync") {
            // It tells how much was written, and where in its source it gave up.
            assert_eq!((theirs.0, theirs.1.get(..4)), (ours.0, ours.1.get(..4)), "{name}: {ours:?}");
        } else {
            assert_eq!(theirs, ours, "{name}");
        }
    }
    let metrics =
        natssh_tests::door::ask(&world.socket(), "GET", "/metrics").expect("the broker answers").body;
    let leased = format!("natssh_command_wait_seconds_count {}", CHILDREN.len());
    assert!(metrics.lines().any(|line| line == leased), "the real ssh ran some: {metrics}");
}
