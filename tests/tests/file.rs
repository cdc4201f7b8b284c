//! Files to nodes and from them, over the broker's door: whole or not at all, and never a part in their place.

use std::ffi::{OsStr, OsString};
use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use natssh_tests::{Files, Plan, Server, Sshd, World, door, need, run, until};
use natssh_wire::FailureKind;
use natssh_wire::status::FailureRecord;

/// Files of the proxy's node `worker`.
fn worker(world: &World) -> Files<'_> {
    Files::of(world, world.ssh_config_path(), "worker")
}

/// A broker that reaches a listening sshd directly. These lines are for sshd's configuration, in which SFTP is a program
/// that does what `first` says in words of the shell and is OpenSSH's SFTP server then.
fn ground(lines: &str, first: &str) -> (World, Sshd) {
    let Server { world, sshd } = Server::start_by(|world| {
        let (sftp, server) = (world.path().join("sftp"), natssh_lab::tools::sftp_server());
        let server = server.expect("OpenSSH's server brings it");
        fs::write(&sftp, format!("#!/bin/sh\n{first}\nexec {}\n", server.display())).expect("our own folder");
        fs::set_permissions(&sftp, Permissions::from_mode(0o755)).expect("our own file");
        lines.replace("SFTP", &sftp.display().to_string())
    });
    (world, sshd)
}

/// Files of that sshd's node.
fn server(world: &World) -> Files<'_> {
    Files::of(world, world.path().join("config"), "server")
}

/// A folder on the node, which is this machine.
fn folder(world: &World) -> PathBuf {
    let folder = world.path().join("files");
    fs::create_dir_all(&folder).expect("our own folder");
    folder
}

fn names(folder: &Path) -> Vec<OsString> {
    let entries = fs::read_dir(folder).expect("our own folder");
    let mut names: Vec<_> = entries.map(|entry| entry.expect("our own folder").file_name()).collect();
    names.sort();
    names
}

/// So many bytes that are no repetition.
fn bytes(count: usize) -> Vec<u8> {
    let mut state = 7u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33).to_le_bytes()
    };
    (0..count.div_ceil(4)).flat_map(|_| next().into_iter().take(4)).take(count).collect()
}

#[test]
fn files_of_every_size_arrive_whole() {
    need!("ssh", "sshd");
    let world = Plan::new().start();
    let (files, folder) = (worker(&world), folder(&world));
    for size in [0, 1, 32 << 10, (1 << 20) - 1, 1 << 20, 3_000_001] {
        let (path, sent) = (folder.join(size.to_string()), bytes(size));
        files.put(&path, &sent).unwrap();
        assert!(fs::read(&path).unwrap() == sent, "{size} bytes arrived otherwise");
        assert!(files.get(&path).unwrap() == sent, "{size} bytes came back otherwise");
    }
    assert_eq!(names(&folder).len(), 6);
    let session = &world.status().sessions[0];
    assert!(session.bytes_to_node > 5_000_000 && session.bytes_from_node > 5_000_000, "{session:?}");
    // Not all of it has a size before it is read.
    assert_eq!(files.get("/proc/self/comm").unwrap().last(), Some(&b'\n'));
    assert_eq!(files.get("/dev/null").unwrap(), b"");
}

#[test]
fn every_name_is_the_name_that_is_meant() {
    need!("ssh", "sshd");
    let world = Plan::new().start();
    let (files, folder) = (worker(&world), folder(&world));
    let names_to_try: [&[u8]; 6] =
        ["ü ñ 漢".as_bytes(), b"it's \"$HOME\" `x` !1", b"two\nlines\n", b"-rf", b"\xff\xfe", b"\\ %s * ?"];
    for name in names_to_try {
        let path = folder.join(OsStr::from_bytes(name));
        files.put(&path, name).unwrap();
        assert_eq!(files.get(&path).unwrap(), name);
        assert_eq!(fs::read(&path).unwrap(), name);
    }
    assert_eq!(names(&folder).len(), names_to_try.len());
    files.put("in the home", b"x").unwrap();
    assert_eq!(files.get("in the home").unwrap(), b"x");
}

#[test]
fn what_the_node_refuses_it_refuses_in_its_own_words() {
    need!("ssh", "sshd");
    let world = Plan::new().start();
    let (files, folder) = (worker(&world), folder(&world));
    let peer = format!("{}@worker", world.login());
    let missing = folder.join("no/x");
    let said =
        |path: &Path, verb: &str, words: &str| format!("{peer} cannot {verb} {}: {words}", path.display());
    for (path, words) in [
        (missing.as_path(), "No such file or directory"),
        (folder.as_path(), "Is a directory"),
        (Path::new("/proc/sys/kernel/ostype"), "Permission denied"),
    ] {
        let failure = files.put(path, b"x").unwrap_err();
        assert_eq!((failure.kind, failure.message), (FailureKind::File, said(path, "write", words)));
    }
    for (path, words) in
        [(missing.as_path(), "No such file or directory"), (folder.as_path(), "Is a directory")]
    {
        let failure = files.get(path).unwrap_err();
        assert_eq!((failure.kind, failure.message), (FailureKind::File, said(path, "read", words)));
    }
    assert!(names(&folder).is_empty());
    assert!(world.status().failures.is_empty(), "{:?}", world.status().failures);
    let forward = worker(&world).with(&["-A"]).put(folder.join("x"), b"x").unwrap_err();
    assert_eq!(forward.kind, FailureKind::NeedsSsh);
    assert!(forward.message.contains("-A forwards the agent"), "{forward}");
}

#[test]
fn a_file_that_is_there_is_replaced_at_once_and_keeps_its_mode() {
    need!("ssh", "sshd");
    let world = Plan::new().start();
    let (files, folder) = (worker(&world), folder(&world));
    let path = folder.join("x");
    fs::write(&path, "old").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o751)).unwrap();
    let before = fs::metadata(&path).unwrap();
    let mut put = files.begin_put(&path, None).unwrap();
    put.send(b"new, ");
    until("its temporary file is there", || (names(&folder).len() == 2).then_some(()));
    assert_eq!(fs::read(&path).unwrap(), b"old");
    put.send(b"and whole");
    put.finish();
    put.end().unwrap();
    let after = fs::metadata(&path).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new, and whole");
    assert_eq!((after.mode() & 0o7777, after.uid(), after.gid()), (0o751, before.uid(), before.gid()));
    assert_ne!(after.ino(), before.ino());
    assert_eq!(names(&folder), ["x"]);
}

#[test]
fn links_are_followed_and_devices_written_to() {
    need!("ssh", "sshd");
    let world = Plan::new().start();
    let (files, folder) = (worker(&world), folder(&world));
    fs::create_dir(folder.join("there")).unwrap();
    symlink("there/x", folder.join("link")).unwrap();
    for bytes in [b"one", b"two"] {
        files.put(folder.join("link"), bytes).unwrap();
        assert_eq!(fs::read(folder.join("there/x")).unwrap(), bytes);
    }
    assert!(fs::symlink_metadata(folder.join("link")).unwrap().is_symlink());
    symlink("there", folder.join("folder")).unwrap();
    assert_eq!(files.put(folder.join("folder"), b"x").unwrap_err().kind, FailureKind::File);
    files.put("/dev/null", b"nothing").unwrap();
    assert_eq!((names(&folder).len(), names(&folder.join("there"))), (3, vec!["x".into()]));
}

#[test]
fn a_client_that_leaves_in_the_middle_leaves_nothing_behind() {
    need!("ssh", "sshd");
    let world = Plan::new().start();
    let (files, folder) = (worker(&world), folder(&world));
    let path = folder.join("x");
    fs::write(&path, "old").unwrap();
    let mut put = files.begin_put(&path, None).unwrap();
    put.send(&bytes(200_000));
    until("its temporary file is there", || (names(&folder).len() == 2).then_some(()));
    drop(put);
    until("its temporary file is gone", || (names(&folder) == ["x"]).then_some(()));
    assert_eq!(fs::read(&path).unwrap(), b"old");
    let free = |session: &natssh_wire::status::Session| session.channels == 0;
    world.until_status("its channel is closed", |status| status.sessions.iter().all(free));
    files.put(&path, b"new").unwrap();
}

#[test]
fn a_session_that_is_cut_in_the_middle_is_told_and_leaves_nothing_behind() {
    need!("ssh", "sshd");
    let (world, mut sshd) = ground("Subsystem sftp SFTP", "");
    let (files, folder) = (server(&world), folder(&world));
    let path = folder.join("x");
    fs::write(&path, "old").unwrap();
    let mut put = files.begin_put(&path, None).unwrap();
    put.send(&bytes(200_000));
    // Nothing of it that had not passed would be missed: the file would be put anew.
    let some_passed =
        |name: &OsString| name != "x" && fs::metadata(folder.join(name)).is_ok_and(|file| file.len() > 0);
    until("some of it is there", || names(&folder).iter().any(some_passed).then_some(()));
    sshd.kill();
    sshd.start_again();
    let failure = put.end().unwrap_err();
    assert_eq!(failure.kind, FailureKind::Cut, "{failure}");
    until("its temporary file is gone", || (names(&folder) == ["x"]).then_some(()));
    assert_eq!(fs::read(&path).unwrap(), b"old");

    fs::write(&path, bytes(40_000_000)).unwrap();
    let mut get = files.begin_get(&path).unwrap();
    get.until_some_came();
    sshd.kill();
    assert_eq!(get.end().unwrap_err().kind, FailureKind::Cut);
}

#[test]
fn a_full_disk_is_told_and_leaves_the_old_file() {
    need!("ssh", "sshd", "unshare");
    // A kernel may keep that to itself, and has to be asked.
    if !Command::new("unshare").args(["-rm", "true"]).status().is_ok_and(|status| status.success()) {
        println!("no small disk on this machine: it gives no mount namespace");
        return;
    }
    let small = "[ $1 ] || exec unshare -rm \"$0\" 1; mount -t tmpfs -o size=1m none /mnt || exit";
    let (world, _sshd) = ground("Subsystem sftp SFTP", small);
    let files = server(&world);
    let failure = files.put("/mnt/x", &bytes(3_000_000)).unwrap_err();
    assert_eq!(
        (failure.kind, failure.message),
        (
            FailureKind::File,
            format!("{}@127.0.0.1 cannot write /mnt/x: No space left on device", world.login())
        )
    );
}

#[test]
fn a_write_that_fails_leaves_the_old_file_and_nothing_else() {
    need!("ssh", "sshd");
    let (world, _sshd) = ground("Subsystem sftp SFTP", "trap '' XFSZ; ulimit -f 200");
    let (files, folder) = (server(&world), folder(&world));
    let path = folder.join("x");
    fs::write(&path, "old").unwrap();
    let failure = files.put(&path, &bytes(3_000_000)).unwrap_err();
    assert_eq!(failure.kind, FailureKind::File, "{failure}");
    assert_eq!((names(&folder), fs::read(&path).unwrap()), (vec!["x".into()], b"old".to_vec()));
}

#[test]
fn a_node_without_sftp_is_served_by_commands_and_remembered() {
    need!("ssh", "sshd");
    let (world, sshd) = ground("", "");
    let (files, folder) = (server(&world), folder(&world));
    for size in [0, 1, 3_000_001] {
        let (path, sent) = (folder.join(format!("it's {size}")), bytes(size));
        files.put(&path, &sent).unwrap();
        assert!(fs::read(&path).unwrap() == sent && files.get(&path).unwrap() == sent, "{size} bytes");
    }
    assert_eq!(sshd.log_lines("subsystem not found"), 1);
    let path = folder.join("it's 0");
    fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    files.put(&path, b"new").unwrap();
    assert_eq!(
        (fs::metadata(&path).unwrap().mode() & 0o7777, fs::read(&path).unwrap()),
        (0o640, b"new".to_vec())
    );
    for (path, words) in [(folder.join("no/x"), "/no/"), (folder.clone(), "Is a directory")] {
        for failure in [files.put(&path, b"x").unwrap_err(), files.get(&path).unwrap_err()] {
            assert_eq!(failure.kind, FailureKind::File, "{failure}");
            assert!(failure.message.contains(words), "{failure}");
        }
    }
    let mut put = files.begin_put(&path, None).unwrap();
    put.send(&bytes(200_000));
    until("its temporary file is there", || (names(&folder).len() == 4).then_some(()));
    drop(put);
    until("its temporary file is gone", || (names(&folder).len() == 3).then_some(()));
    assert_eq!(fs::read(&path).unwrap(), b"new");
}

/// As PROTOCOL.md says it.
#[test]
fn curl_puts_and_gets_files() {
    need!("ssh", "sshd", "curl");
    let (world, mut sshd) = ground("Subsystem sftp SFTP", "");
    let folder = folder(&world);
    let functions = format!(
        "ask() {{ printf '{{\"words\": [\"-F\", \"%s\", \"server\"], \"directory\": \"/\", \
         \"environment\": [[\"HOME\", \"%s\"]], \"path\": \"%s\"}}\\n' $CONFIG $HOME {}/$1; }}; \
         file() {{ curl -sS --unix-socket $NATSSH_SOCKET \"$@\" http://natssh/v1/file; }}; ",
        folder.display()
    );
    let curl = |script: &str| {
        let mut shell = world.command("sh");
        shell.env("CONFIG", world.path().join("config")).args(["-c", &(functions.clone() + script)]);
        run(shell)
    };
    assert_eq!(curl("(ask x; echo hello) | file -T -").ok(), "{}");
    assert_eq!(fs::read(folder.join("x")).unwrap(), b"hello\n");
    assert_eq!(curl("ask x | file -X GET -d @-").ok(), "hello\n");
    assert_eq!(curl("ask empty | file -T -; ask empty | file -X GET -d @-").ok(), "{}");
    let much = "(ask no/x; head -c 50000000 /dev/zero) | file -f -T -";
    for script in ["ask no/x | file -f -X GET -d @-", "(ask no/x; echo hello) | file -f -T -", much] {
        let said = curl(script);
        assert!(said.code == Some(22) && said.stderr.contains("422"), "{said:?}");
    }
    fs::write(folder.join("big"), bytes(40_000_000)).unwrap();
    let begun = folder.join("begun");
    let cut = format!("ask big | file -X GET --limit-rate 1M -d @- >{}", begun.display());
    let said = std::thread::scope(|scope| {
        let said = scope.spawn(|| curl(&cut));
        until("some of it came", || fs::metadata(&begun).is_ok_and(|file| file.len() > 0).then_some(()));
        sshd.kill();
        said.join().expect("no panic")
    });
    assert_eq!(said.code, Some(18), "a part is told from the whole: {said:?}");
    let is_told = |failure: &FailureRecord| failure.message.contains("ended under a file");
    assert!(world.status().failures.iter().any(is_told), "{:?}", world.status().failures);
    assert_eq!(names(&folder), ["begun", "big", "empty", "x"]);
}

#[test]
fn one_server_serves_one_file_after_the_other() {
    need!("ssh", "sshd");
    let (world, _sshd) = ground("Subsystem sftp SFTP", "echo $$ >>\"$0.starts\"");
    let (files, folder) = (server(&world), folder(&world));
    let starts = || -> Vec<String> {
        let starts =
            fs::read_to_string(world.path().join("sftp.starts")).expect("the server has been started");
        starts.lines().map(Into::into).collect()
    };
    for n in 0..6 {
        // Of small ones and large ones.
        let (path, sent) = (folder.join(n.to_string()), bytes(n * 300_000));
        files.put(&path, &sent).unwrap();
        assert!(files.get(&path).unwrap() == sent, "file {n}");
    }
    // A machine that takes half a minute over one of them starts another.
    assert!(starts().len() < 6, "{:?}", starts());
    let free = |session: &natssh_wire::status::Session| session.channels == 0;
    assert!(world.status().sessions.iter().all(free), "a server that waits is nobody's use");

    // One that dies meanwhile is not missed, and none outlives a reset.
    let mut kill = Command::new("kill");
    kill.args(["-KILL".into(), starts().pop().expect("one at least")]);
    run(kill).ok();
    let before = starts().len();
    files.put(folder.join("x"), b"x").unwrap();
    assert!(starts().len() > before);
    door::ask(&world.socket(), "DELETE", "/v1/sessions").expect("the broker answers");
    let before = starts().len();
    assert_eq!(files.get(folder.join("x")).unwrap(), b"x");
    assert!(starts().len() > before);
}

#[test]
fn a_client_that_listens_only_when_it_has_sent_all_hears_why_not() {
    need!("ssh", "sshd");
    let world = Plan::new().start();
    let line = format!(
        "{{\"words\": [\"-F\", \"{}\", \"worker\"], \"directory\": \"/\", \
         \"environment\": [[\"HOME\", \"/\"]], \"path\": \"{}\"}}\n",
        world.ssh_config_path().display(),
        folder(&world).join("no/x").display()
    );
    let much = vec![0; 20_000_000];
    let mut client = door::knock(&world.socket()).expect("a broker listens");
    let length = line.len() + much.len();
    write!(
        client,
        "PUT /v1/file HTTP/1.1\r\nHost: natssh\r\nNatssh-Protocol: 1\r\nContent-Length: {length}\r\n\r\n{line}"
    )
    .unwrap();
    client.write_all(&much).expect("the broker reads on");
    let (status, head) = door::head(&mut client).expect("a whole head");
    assert_eq!(status, 422, "{head}");
    // The connection serves the next request.
    client.write_all(b"GET /v1/status HTTP/1.1\r\nHost: natssh\r\nConnection: close\r\n\r\n").unwrap();
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut client, &mut rest).unwrap();
    assert!(rest.contains("HTTP/1.1 200"), "{rest}");
}

#[test]
fn a_node_with_one_place_a_session_takes_many_files() {
    need!("ssh", "sshd");
    let (world, _sshd) = ground("MaxSessions 1\nSubsystem sftp SFTP", "");
    let folder = folder(&world);
    std::thread::scope(|scope| {
        for n in 0..8 {
            let (files, path) = (server(&world), folder.join(n.to_string()));
            scope.spawn(move || {
                let sent = bytes(n * 300_000);
                files.put(&path, &sent).unwrap();
                assert!(files.get(&path).unwrap() == sent, "file {n}");
            });
        }
    });
    assert_eq!(names(&folder).len(), 8);
}

#[test]
#[ignore = "half a minute: make test-long"]
fn two_hundred_megabytes_arrive_whole() {
    need!("ssh", "sshd");
    let world = Plan::new().start();
    let (files, path) = (worker(&world), folder(&world).join("x"));
    let sent = bytes(200_000_000);
    files.put(&path, &sent).unwrap();
    assert!(fs::read(&path).unwrap() == sent);
    assert!(files.get(&path).unwrap() == sent);
}
