//! natssh in ssh's place: by whatever name it is called, what it leaves to the
//! real ssh is the real ssh's to the letter, and goes through natssh where that
//! is the way.

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use natssh_tests::node::Listening;
use natssh_tests::{Plan, Running, World, need, programs, run, until};

/// What every host is reached through, as far as the ssh of these stories knows.
const NO_WAY: &str = "Host *\n  ProxyCommand none\n";

#[test]
fn what_connects_to_nothing_is_answered_by_the_real_ssh() {
    need!("ssh", "sshd");
    let world = Plan::new().without_broker().start();
    let links = folder(&world, "links");
    symlink(programs::path("natssh"), links.join("ssh")).unwrap();
    let copies = folder(&world, "copies");
    fs::copy(programs::path("natssh"), copies.join("ssh")).unwrap();
    let config = world.ssh_config_path().display().to_string();
    for words in [
        &["-V"][..],
        &["-Q", "kex"],
        &["-Q", "nonsense"],
        &["-F", &config, "-G", "worker"],
        &["-F", &config, "worker", "-vG", "true"],
        &["-F", "/no/such/file", "-G", "worker"],
        &["-F", &config, "-oControlPath=/no/such/socket", "-O", "check", "worker"],
        &[],
        &["-E", "/no/such/log", "worker", "true"],
        &["-z", "worker"],
        &["-p"],
        &["@worker"],
        &["-1", "worker"],
        &["-s", "worker"],
    ] {
        let with = |mut command: Command| {
            command.args(words);
            let said = run(command);
            (said.code, said.text(), said.stderr)
        };
        let real = with(world.command("ssh"));
        assert_eq!(with(world.natssh(&["ssh"])), real, "natssh ssh {words:?}");
        for place in [&links, &copies] {
            assert_eq!(with(first_in_path(&world, place, "ssh")), real, "{}/ssh {words:?}", place.display());
        }
        if words.len() > 1 {
            assert_eq!(with(world.natssh(&[])), real, "natssh {words:?}");
        }
    }
    assert!(!world.socket().exists(), "none of that needs a broker");
}

#[test]
fn a_forwarded_port_goes_through_the_tunnel_in_the_process_that_was_started() {
    need!("ssh", "sshd");
    let world = world();
    let server = Listening::start(world.runtime(), |mut stream| {
        std::io::Write::write_all(&mut stream, b"SSH-2.0-beyond\r\n").unwrap();
    });
    let socket = world.path().join("forwarded");
    let forward = format!("{}:127.0.0.1:{}", socket.display(), server.address().port());
    let words = ["-v", "-oExitOnForwardFailure=yes", "-NL", &forward, "worker"];
    let ssh = Running::start(natssh_with_config(&world, &words));
    let banner = until("the forwarded socket leads to a banner", || {
        let mut banner = String::new();
        let mut stream = UnixStream::connect(&socket).ok()?;
        stream.read_to_string(&mut banner).ok().filter(|count| *count > 0)?;
        Some(banner)
    });
    assert_eq!(banner, "SSH-2.0-beyond\r\n");
    assert_eq!(world.upstream().streams, 1, "the connection goes through natssh");
    let program = fs::read_link(format!("/proc/{}/exe", ssh.pid().as_raw_nonzero())).unwrap();
    assert_eq!(program.file_name().unwrap(), "ssh", "natssh has become ssh");
    ssh.signal(rustix::process::Signal::TERM);
    let said = ssh.end();
    assert!(
        said.stderr.contains("debug1: natssh: the real ssh runs this: -L forwards a port\r\n"),
        "{}",
        said.stderr
    );
}

/// As kubectl and browsers are taken to what a node reaches: natssh becomes an ssh that knows of no node by itself.
#[test]
fn a_socks_proxy_on_a_cluster_s_node_needs_no_configuration_of_ssh() {
    need!("ssh", "sshd", "curl");
    let world = Plan::new().start();
    let server = Listening::start(world.runtime(), |mut stream| {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nbeyond";
        let mut asked = [0; 1024];
        let _ = stream.read(&mut asked).unwrap();
        std::io::Write::write_all(&mut stream, answer).unwrap();
    });
    // Where nobody listens yet.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (socks, control) = (format!("127.0.0.1:{port}"), world.path().join("control").display().to_string());
    let mut natssh = world.natssh(&["-F", "none", "-fN", "-D", &socks, "-M", "-S", &control]);
    natssh.args(["-oBatchMode=yes", "-oStrictHostKeyChecking=yes", "-oExitOnForwardFailure=yes", "worker"]);
    run(natssh).ok();
    let mut curl = world.command("curl");
    curl.args(["-sS", "--socks5-hostname", &socks, &format!("http://{}/", server.address())]);
    assert_eq!(run(curl).ok(), "beyond");
    assert_eq!(world.upstream().streams, 1, "the connection goes through natssh");
    run(world.natssh(&["-F", "none", "-S", &control, "-O", "exit", "worker"])).ok();
    world.until_upstream("it has ended", |upstream| upstream.streams == 0);
}

#[test]
fn reasons_go_where_ssh_logs() {
    need!("ssh", "sshd");
    let world = world();
    let log = world.path().join("log").display().to_string();
    let said = run(natssh_with_config(&world, &["-vE", &log, "-oProxyCommand=false", "-A", "worker"]));
    assert_eq!(said.unreachable(), "");
    let log = fs::read_to_string(log).unwrap();
    assert!(log.starts_with("debug1: natssh: the real ssh runs this: -A forwards the agent"), "{log}");
    let quiet = run(natssh_with_config(&world, &["-q", "-oProxyCommand=false", "-A", "worker"]));
    assert_eq!(quiet.unreachable(), "");
}

#[test]
fn any_name_and_any_folder_of_natssh_work_as_a_proxy_command() {
    need!("ssh", "sshd");
    let world = world();
    for name in ["o'dd %h \"folder\\/natssh", "o'dd %h \"folder\\/ssh", "$(touch owned);/ssh"] {
        let natssh = world.path().join(name);
        fs::create_dir_all(natssh.parent().unwrap()).unwrap();
        fs::copy(programs::path("natssh"), &natssh).unwrap();
        let mut command = world.command(&natssh);
        command.arg("-F").arg(world.ssh_config_path()).args(["-A", "worker", "echo hello"]);
        let before = world.upstream().streams_total;
        assert_eq!(run(command).ok(), "hello\n", "{name}");
        assert_eq!(world.upstream().streams_total, before + 1, "{name}");
    }
    let told = ["--natssh", "status", "--json"];
    let mut status = world.command(world.path().join("o'dd %h \"folder\\/ssh"));
    status.args(told);
    assert!(run(status).ok().starts_with('{'));
}

#[test]
fn a_way_that_the_caller_names_holds() {
    need!("ssh", "sshd");
    let world = world();
    let own = "-oProxyCommand=echo mine >&2; exit 1";
    let said = run(natssh_with_config(&world, &[own, "-A", "worker", "true"]));
    assert!(said.unreachable().starts_with("mine\n"), "{}", said.stderr);
    // The jump is refused by our own ssh before anything is dialled: it would be a loop.
    let said = run(natssh_with_config(&world, &["-J", "worker", "-A", "worker", "true"]));
    assert!(said.unreachable().contains("jumphost loop"), "{}", said.stderr);
    assert_eq!(world.upstream().streams_total, 0);
}

#[test]
fn passphrases_are_asked_for_as_ssh_asks() {
    need!("ssh", "sshd", "ssh-keygen", "sshpass");
    let world = world();
    let key = locked_key(&world, "open sesame");
    let key = key.display().to_string();
    let words = ["-oBatchMode=no", "-i", &key, "worker", "echo hello"];

    let askpass = script(world.path(), "askpass", "echo open sesame");
    let mut asked = natssh_with_config(&world, &words);
    asked.env("SSH_ASKPASS", &askpass).env("SSH_ASKPASS_REQUIRE", "force").env("DISPLAY", "-");
    assert_eq!(run(asked).ok(), "hello\n");

    let mut told = world.command("sshpass");
    told.args(["-P", "assphrase", "-p", "open sesame"]).arg(programs::path("natssh"));
    told.arg("-F").arg(world.ssh_config_path()).args(words);
    assert_eq!(run(told).ok(), "hello\n");
}

#[test]
fn what_starts_an_ssh_can_start_natssh() {
    need!("ssh", "sshd", "rsync", "scp", "sftp", "git");
    let world = world();
    let natssh = programs::path("natssh").display().to_string();
    let config = world.ssh_config_path().display().to_string();
    let (file, back) = (world.path().join("file"), world.path().join("back"));
    let bytes: Vec<u8> = (0..300_000u32).flat_map(u32::to_le_bytes).collect();
    fs::write(&file, &bytes).unwrap();
    let (file, back) = (file.display().to_string(), back.display().to_string());
    let came_back = |by: &str| {
        assert!(fs::read(&back).unwrap() == bytes, "by {by}");
        fs::remove_file(&back).unwrap();
    };
    let with = |program: &str, words: &[&str]| {
        let mut command = world.command(program);
        command.args(words);
        run(command).ok()
    };

    for legacy in [&[][..], &["-O"]] {
        let scp =
            |words: &[&str]| with("scp", &[&["-q", "-S", &natssh, "-F", &config], legacy, words].concat());
        scp(&[&file, "worker:by-scp"]);
        scp(&["worker:by-scp", &back]);
        came_back("scp");
    }
    let batch = world.path().join("batch");
    fs::write(&batch, format!("put {file} by-sftp\nget by-sftp {back}\n")).unwrap();
    with("sftp", &["-q", "-S", &natssh, "-F", &config, "-b", &batch.display().to_string(), "worker"]);
    came_back("sftp");
    let shell = format!("{natssh} -F {config}");
    with("rsync", &["-e", &shell, &file, "worker:by-rsync"]);
    with("rsync", &["-e", &shell, "worker:by-rsync", &back]);
    came_back("rsync");

    run(natssh_with_config(&world, &["worker", "git init -q --bare repository"])).ok();
    let mut git = world.command("git");
    // git asks its ssh what it is, by `-G`.
    git.args(["ls-remote", "ssh://worker:22/~/repository"]).env("GIT_SSH_COMMAND", shell);
    assert_eq!(run(git).ok(), "");
}

#[test]
fn an_ssh_that_is_natssh_in_disguise_ends() {
    need!("sshd");
    let world = Plan::new().without_broker().start();
    let place = folder(&world, "disguise");
    script(&place, "ssh", &format!("exec {} ssh \"$@\"", programs::path("natssh").display()));
    let mut command = world.natssh(&["-V"]);
    command.env("PATH", &place);
    let said = run(command);
    assert_eq!(
        said.unreachable(),
        "natssh: every ssh in PATH leads back to natssh (8 times) (export NATSSH_REAL_SSH=/usr/bin/ssh)\r\n"
    );

    let mut nowhere = world.natssh(&["-V"]);
    nowhere.env("PATH", "/nowhere");
    let said = run(nowhere);
    assert!(
        said.unreachable().starts_with("natssh: no ssh but natssh is in PATH (export "),
        "{}",
        said.stderr
    );
}

#[test]
fn a_host_may_be_called_as_a_command_is() {
    need!("ssh", "sshd");
    let world = Plan::new().without_broker().start();
    let place = folder(&world, "echo");
    let real = script(&place, "real", "printf '%s\\n' \"$@\"");
    for (words, given) in [
        (&["ssh", "-G", "status"][..], "-G\nstatus\n"),
        (&["-G", "status"], "-G\nstatus\n"),
        (&["status.example.com", "-G"], "status.example.com\n-G\n"),
        (&["ssh", "ssh", "-G"], "ssh\n-G\n"),
        (&["-G", "--", "worker", "a b", "", "\u{e4}"], "-G\n--\nworker\na b\n\n\u{e4}\n"),
    ] {
        let mut command = world.natssh(words);
        command.env("NATSSH_REAL_SSH", &real);
        assert_eq!(run(command).ok(), given, "{words:?}");
    }
    assert_eq!(run(world.natssh(&["--version"])).ok(), format!("natssh {}\n", natssh_wire::VERSION));
    assert!(run(world.natssh(&["--help"])).ok().contains("Say what is open"));
}

/// A lab and a broker, and an ssh that knows of neither.
fn world() -> World {
    let world = Plan::new().start();
    world.write_ssh_config(NO_WAY);
    world
}

/// `natssh` with the configuration file of [`world`], as ssh.
fn natssh_with_config(world: &World, words: &[&str]) -> Command {
    let mut command = world.natssh(&["-F"]);
    command.arg(world.ssh_config_path()).args(words);
    command
}

/// A program, looked for in `place` first.
fn first_in_path(world: &World, place: &Path, program: &str) -> Command {
    let mut command = world.command(place.join(program));
    let usual = command.get_envs().find(|(name, _)| *name == "PATH").and_then(|(_, value)| value).unwrap();
    let path = format!("{}:{}", place.display(), usual.to_string_lossy());
    command.env("PATH", path);
    command
}

fn folder(world: &World, name: &str) -> PathBuf {
    let folder = world.path().join(name);
    fs::create_dir(&folder).unwrap();
    folder
}

fn script(folder: &Path, name: &str, line: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, format!("#!/bin/sh\n{line}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// The user's key and certificate, behind a passphrase.
fn locked_key(world: &World, passphrase: &str) -> PathBuf {
    let (open, locked) = (world.credentials.openssh_key(), world.path().join("locked"));
    fs::copy(&open, &locked).unwrap();
    fs::copy(format!("{}-cert.pub", open.display()), format!("{}-cert.pub", locked.display())).unwrap();
    let mut keygen = world.command("ssh-keygen");
    keygen.args(["-q", "-p", "-P", "", "-N", passphrase, "-f"]).arg(&locked);
    run(keygen).ok();
    locked
}
