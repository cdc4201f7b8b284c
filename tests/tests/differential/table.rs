//! The calls that are compared.

use super::case::{Case, Meant, Stdin};

/// All of them.
pub(crate) fn cases() -> Vec<Case> {
    [statuses(), inputs(), outputs(), words(), options(), environment(), refused()].concat()
}

fn case(name: &str, command: &str) -> Case {
    Case::new(name, &[], command)
}

fn statuses() -> Vec<Case> {
    let mut cases = Vec::new();
    for status in [0, 1, 2, 64, 125, 126, 127, 128, 129, 130, 137, 143, 200, 254, 255] {
        cases.push(case(&format!("exit {status}"), &format!("exit {status}")));
    }
    for signal in ["HUP", "INT", "QUIT", "ABRT", "KILL", "PIPE", "ALRM", "TERM", "USR1", "USR2", "SEGV"] {
        cases.push(case(&format!("killed by {signal}"), &format!("kill -{signal} $$")));
        cases.push(case(
            &format!("a child killed by {signal}"),
            &format!("exec 2>/dev/null; sh -c 'kill -{signal} $$'; exit $?"),
        ));
    }
    cases.push(case("no such command", "no-such-command-here"));
    cases.push(case("no such file to run", "/nowhere/at/all"));
    cases.push(case("not a program", "/dev/null"));
    cases.push(case("a syntax error", "if then"));
    cases.push(case("exec", "exec sh -c 'exit 7'"));
    cases.push(case("false in a pipe", "true | false"));
    cases
}

fn inputs() -> Vec<Case> {
    let bytes: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    let stdins = [
        ("null", Stdin::Null),
        ("closed", Stdin::Closed),
        ("an empty pipe", Stdin::Pipe(Vec::new())),
        ("a pipe", Stdin::Pipe(bytes[..40_000].to_vec())),
        ("an empty file", Stdin::File(Vec::new())),
        ("a file", Stdin::File(bytes.clone())),
        ("a file from its middle", Stdin::FileFrom(bytes.clone(), 123_456)),
        ("one byte without a line's end", Stdin::Pipe(b"x".to_vec())),
    ];
    let mut cases = Vec::new();
    for (name, stdin) in stdins {
        let of = |what: &str, command: &str| case(&format!("{what} {name}"), command).stdin(stdin.clone());
        cases.push(of("cat of", "cat"));
        cases.push(of("the count of", "wc -c"));
        cases.push(of("nobody reads", "true"));
        cases.push(of("a file made of", "cat >@/made"));
        cases.push(of("half of", "head -c 20000 | sha256sum"));
        cases.push(of("the end of", "cat >/dev/null; echo ended; exit 3"));
        cases.push(Case::new(&format!("-n and {name}"), &["-n"], "cat; echo ended").stdin(stdin.clone()));
    }
    let scripts = ["echo one\nexit 4\n", "cat\nfed to cat\n", "exit", "echo no line's end"];
    for script in scripts {
        let stdin = Stdin::Pipe(script.as_bytes().to_vec());
        for (name, options) in [("-T", &["-T"][..]), ("no option", &[]), ("-q", &["-q"])] {
            let name = format!("a shell with {name}, fed {script:?}");
            cases.push(Case::new(&name, options, "").words(&[]).stdin(stdin.clone()));
        }
    }
    cases
}

fn outputs() -> Vec<Case> {
    vec![
        case("nothing", ":"),
        case("one byte", "printf x"),
        case("no line's end", "printf 'no end'"),
        case("a NUL", r"printf 'a\000b\000'"),
        case("all bytes", "i=0; while [ $i -lt 256 ]; do printf \"\\\\$(printf %03o $i)\"; i=$((i+1)); done"),
        case("carriage returns", r"printf 'a\r\nb\r'"),
        case("UTF-8", "printf 'Größe 漢字 🦀\\n'"),
        case("broken UTF-8", r"printf '\377\376\303'"),
        case("an escape", r"printf '\033[31mred\033[0m'"),
        case("what looks like ssh's escape", r"printf '\n~.\n~?\n'"),
        case("only stderr", "echo wrong >&2"),
        case("both", "echo out; echo err >&2; exit 3"),
        case("both, many times", "for i in $(seq 200); do echo out $i; echo err $i >&2; done"),
        case("stderr without a line's end", "printf 'prompt: ' >&2"),
        case("stdout closed on the node", "exec >&-; echo gone; exit 5"),
        case("both closed on the node", "exec >&- 2>&-; exit 6"),
        case("a megabyte of each", "head -c 1000000 /dev/zero; head -c 1000000 /dev/zero >&2"),
        case("ten megabytes", "seq 2000000 | head -c 10000000"),
        case("what lines look like debug", "echo 'debug1: not really' >&2"),
        case("after a pause", "echo one; sleep 0.3; echo two; sleep 0.3; echo err >&2; exit 9"),
        case("a file", "echo text >@/made; echo more >>@/made; mkdir -p @/d 2>&1; rmdir @/d"),
        case("a link", "ln -s nowhere @/link; readlink @/link"),
    ]
}

fn words() -> Vec<Case> {
    let several: [(&str, &[&[u8]]); 14] = [
        ("two words", &[b"echo", b"a b"]),
        ("a word with quotes", &[b"echo", b"'a  b'", b"\"c  d\""]),
        ("an empty word", &[b"echo", b"", b"x"]),
        ("only an empty word", &[b""]),
        ("words that look like options", &[b"echo", b"-n", b"--", b"-x"]),
        ("two dashes first", &[b"--", b"echo", b"x"]),
        ("an option behind the host", &[b"-T", b"echo", b"x"]),
        ("options behind the host and two dashes", &[b"-T", b"-n", b"--", b"echo", b"x"]),
        ("a new line", &[b"echo one\necho two"]),
        ("a tab and a backslash", &[b"printf", b"'%s\\n'", b"'a\tb\\c'"]),
        ("a dollar", &[b"x=5; echo $x \"$((x+1))\" '$x'"]),
        ("bytes that are no text", &[b"printf %s '\xff\xfe' | od -An -tx1"]),
        ("UTF-8 in the command", &["echo Größe".as_bytes(), "漢字".as_bytes()]),
        ("what -t would be, in the command", &[b"echo", b"-tt"]),
    ];
    let mut cases: Vec<_> = several.into_iter().map(|(name, words)| case(name, "").words(words)).collect();
    let long = format!("echo {} | wc -c", "x".repeat(100_000));
    cases.push(case("a long command", &long));
    cases
}

fn options() -> Vec<Case> {
    let one: [(&str, &[&str]); 22] = [
        ("-q", &["-q"]),
        ("-T", &["-T"]),
        ("-x -a", &["-x", "-a"]),
        ("bundled", &["-Tqn"]),
        ("-o in two words", &["-o", "BatchMode=yes"]),
        ("-o in one word", &["-oBatchMode=yes"]),
        ("-o with a blank", &["-o", "BatchMode yes"]),
        ("-o in one word with a blank", &["-oBatchMode yes"]),
        ("-o quoted", &["-o", "ConnectTimeout=\"10\""]),
        ("-o ConnectTimeout", &["-o", "ConnectTimeout=10"]),
        (
            "-o ControlMaster and its friends",
            &["-o", "ControlMaster=auto", "-o", "ControlPersist=60s", "-o", "ControlPath=none"],
        ),
        ("-o IdentityFile none", &["-o", "IdentityAgent=none"]),
        ("-o LogLevel", &["-o", "LogLevel=ERROR"]),
        ("-o SetEnv", &["-o", "SetEnv=LC_STORY=set"]),
        ("-o SendEnv", &["-o", "SendEnv=LC_*"]),
        ("-o ServerAlive", &["-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=2"]),
        ("-C", &["-C"]),
        ("-4", &["-4"]),
        ("-e none", &["-e", "none"]),
        ("-p 22", &["-p", "22"]),
        ("-E", &["-E", "/dev/null"]),
        ("-o StrictHostKeyChecking", &["-o", "StrictHostKeyChecking=yes"]),
    ];
    let mut cases = Vec::new();
    for (name, options) in one {
        cases.push(
            Case::new(name, options, "echo \"$LC_STORY\"; echo err >&2; exit 3").env("LC_STORY", "sent"),
        );
    }
    cases.push(Case::new("-o RemoteCommand", &["-o", "RemoteCommand=echo remote; exit 4"], "").words(&[]));
    cases.push(
        Case::new("-s with no such subsystem", &["-s"], "no-such-subsystem")
            .meant(Meant::OwnWords("natssh's own sentence")),
    );
    cases.push(Case::new("-o LogLevel, where ssh has a remark", &["-o", "LogLevel=ERROR"], "").words(&[]));
    for level in ["-v", "-vv", "-vvv"] {
        cases.push(
            Case::new(level, &[level], "echo out; exit 3")
                .meant(Meant::OwnWords("what is told of the connection")),
        );
    }
    cases
}

fn environment() -> Vec<Case> {
    let show = "echo \"$LANG|$LC_ALL|$LC_STORY|$OTHER|$TERM|$SSH_TTY|$SSH_ORIGINAL_COMMAND\"";
    vec![
        case("the environment as it is", show),
        Case::new("SendEnv", &["-o", "SendEnv=LC_STORY OTHER"], show)
            .env("LC_STORY", "a b")
            .env("OTHER", "x"),
        Case::new("SendEnv by pattern", &["-o", "SendEnv=LC_*"], show)
            .env("LC_STORY", "ä")
            .env("LC_ALL", "C"),
        Case::new("SendEnv taken back", &["-o", "SendEnv=LC_*", "-o", "SendEnv=-LC_S*"], show)
            .env("LC_STORY", "hidden"),
        Case::new("SetEnv", &["-o", "SetEnv=LC_STORY=1 LC_ALL=C"], show),
        Case::new("SetEnv with blanks", &["-o", "SetEnv=LC_STORY=\"a b\""], show),
        case("a tty there is not", "tty; test -t 0; echo $?"),
        case("the folder", "pwd"),
        case("the shell's name", "echo $0"),
        case("the umask", "umask"),
        case("which signals are ignored", "trap"),
    ]
}

fn refused() -> Vec<Case> {
    let ours = Meant::OwnWords("natssh says what failed and what to type");
    vec![
        Case::new("a login that is not there", &["-l", "nobody-of-that-name"], "true").meant(ours),
        Case::new(
            "a key that is not there",
            &["-o", "IdentityFile=/nowhere", "-o", "CertificateFile=/nowhere"],
            "true",
        )
        .meant(Meant::OwnWords("the files of the configuration follow")),
        Case::new("no known host", &["-o", "UserKnownHostsFile=/dev/null"], "true").meant(ours),
        Case::new("an unknown option", &["-o", "NoSuchOption=yes"], "true"),
        Case::new("a bad value", &["-o", "BatchMode=perhaps"], "true"),
        Case::new("a bad port", &["-p", "99999"], "true"),
        Case::new("a bad flag", &["-Z"], "true"),
    ]
}
