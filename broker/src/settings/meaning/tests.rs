use super::*;
use crate::target::Need;
use natssh_wire::exec::{ExecRequest, Terminals};
use natssh_wire::terminal::Terminal;
use std::sync::Arc;

const PRINTED: &str = "\
host Web
user ops
hostname web.example.com
port 2222
requesttty auto
serveraliveinterval 0
serveralivecountmax 3
identityfile ~/.ssh/id_ed25519
identityfile keys/%r@%h
stricthostkeychecking ask
userknownhostsfile /home/alice/.ssh/known_hosts /home/alice/.ssh/known_hosts2
globalknownhostsfile /etc/ssh/ssh_known_hosts
kexalgorithms a,b
ciphers c,d
connecttimeout none
controlpersist no
identitiesonly no
hashknownhosts no
";
const USUAL: &str = "kexalgorithms a,b\nciphers d\nrequiredrsasize 1024\n";

struct Case {
    printed: Printed,
    call: Call,
    request: ExecRequest,
}

impl Case {
    /// The page above, with lines put in place of others of their keyword.
    fn with(lines: &str) -> Self {
        let replaced: Vec<&str> = lines.lines().filter_map(|line| line.split(' ').next()).collect();
        let kept = PRINTED.lines().filter(|line| !replaced.contains(&line.split(' ').next().unwrap()));
        let text: String = kept.chain(lines.lines()).map(|line| format!("{line}\n")).collect();
        Self {
            printed: Printed::parse(text.as_bytes()).unwrap(),
            call: Call {
                words: vec!["Web".into()],
                typed: "Web".into(),
                command: Some(b"true".to_vec()),
                is_subsystem: false,
                forward: None,
                stdin_is_null: false,
                names_a_login: false,
                names_a_port: false,
                names_a_way: false,
                file: None,
                terminals: Terminals::default(),
            },
            request: ExecRequest {
                directory: "/work".into(),
                environment: vec![
                    ("SSH_AUTH_SOCK".into(), "/agent".into()),
                    ("OTHER".into(), "/other".into()),
                    ("LANG".into(), "C".into()),
                ],
                ..ExecRequest::default()
            },
        }
    }

    fn ask<T>(&self, ask: impl FnOnce(&Meaning<'_>) -> T) -> T {
        let request = Arc::new(self.request.clone());
        let around = Around::of(&request);
        let whom = Whom::of(&self.printed, "Web").unwrap();
        let tokens = Tokens {
            host: whom.host,
            typed: "Web".into(),
            port: whom.port,
            user: whom.user,
            alias: self.printed.one("hostkeyalias").map(str::to_owned),
            home: "/home/alice".into(),
            account: "alice".into(),
            uid: 1000,
            machine: "desk".into(),
            jump: None,
        };
        let usual = Printed::parse(USUAL.as_bytes()).unwrap();
        ask(&Meaning { printed: &self.printed, usual: &usual, call: &self.call, around: &around, tokens })
    }

    fn target(&self) -> Result<Target, String> {
        self.ask(|meaning| meaning.target(Whom::of(&self.printed, "Web").unwrap(), Way::Route))
    }

    fn wishes(&self) -> Result<Wishes, String> {
        self.ask(|meaning| meaning.wishes())
    }
}

fn paths(paths: &[&str]) -> Vec<PathBuf> {
    paths.iter().map(PathBuf::from).collect()
}

#[test]
fn a_plain_call_means_what_ssh_would_do() {
    let target = Case::with("").target().unwrap();
    assert_eq!(
        target,
        Target {
            host: "web.example.com".into(),
            typed: "Web".into(),
            port: 2222,
            user: "ops".into(),
            bind_address: None,
            way: Way::Route,
            proof: Proof {
                keys: paths(&["/home/alice/.ssh/id_ed25519", "/work/keys/ops@web.example.com"]),
                certificates: vec![],
                only_these: false,
                agent: Some("/agent".into()),
                other_ways: vec!["gssapi-with-mic", "hostbased", "keyboard-interactive", "password"],
            },
            trust: Trust {
                alias: None,
                user_files: paths(&["/home/alice/.ssh/known_hosts", "/home/alice/.ssh/known_hosts2"]),
                global_files: paths(&["/etc/ssh/ssh_known_hosts"]),
                command: None,
                strict: Strict::Ask,
                hash: false,
            },
            algorithms: Algorithms { ciphers: vec!["c".into(), "d".into()], ..Algorithms::default() },
        }
    );
    assert_eq!(
        Case::with("").wishes().unwrap(),
        Wishes { run: Run::Command(b"true".to_vec()), ..Wishes::default() }
    );
}

#[test]
fn a_name_that_ssh_made_lower_case_keeps_its_case() {
    let printed =
        |host: &str| Printed::parse(format!("user u\nport 22\nhostname {host}\n").as_bytes()).unwrap();
    assert_eq!(Whom::of(&printed("web"), "Web").unwrap().host, "Web");
    assert_eq!(Whom::of(&printed("web.org"), "Web").unwrap().host, "web.org");
    for bad in ["user u\nport 22\n", "user u\nport 0\nhostname a\n", "port 22\nhostname a\n"] {
        assert!(Whom::of(&Printed::parse(bad.as_bytes()).unwrap(), "a").is_err(), "{bad}");
    }
}

#[test]
fn the_agent_is_the_one_that_is_named() {
    for (line, agent) in [
        ("identityagent SSH_AUTH_SOCK", Ok(Some("/agent"))),
        ("identityagent none", Ok(None)),
        ("identityagent $OTHER", Ok(Some("/other"))),
        ("identityagent $UNSET", Ok(None)),
        ("identityagent /run/agent", Ok(Some("/run/agent"))),
        ("identityagent ~/agent", Ok(Some("/home/alice/agent"))),
        ("identityagent sock", Ok(Some("/work/sock"))),
        ("identityagent %d/sock", Err(())),
        ("identityagent ${X}/sock", Err(())),
    ] {
        let found = Case::with(line).target().map(|target| target.proof.agent).map_err(drop);
        assert_eq!(found, agent.map(|path| path.map(PathBuf::from)), "{line}");
    }
}

#[test]
fn lists_of_files_are_read_only_where_they_read_one_way() {
    for (list, files) in [
        ("none", Ok(paths(&[]))),
        ("/dev/null", Ok(paths(&["/dev/null"]))),
        ("known", Ok(paths(&["/work/known"]))),
        ("/a /b ~/c", Ok(paths(&["/a", "/b", "/home/alice/c"]))),
        ("/Library/Application Support/known", Err(())),
        ("a b", Err(())),
        ("/a/%h", Err(())),
    ] {
        let case = Case::with(&format!("userknownhostsfile {list}"));
        assert_eq!(case.target().map(|target| target.trust.user_files).map_err(drop), files, "{list}");
    }
}

#[test]
fn keys_are_what_is_written_and_none_is_none() {
    let proof = |lines: &str| Case::with(lines).target().map(|target| target.proof);
    assert_eq!(proof("identityfile none").unwrap().keys, paths(&[]));
    let both = proof("identityfile a b\ncertificatefile ${OTHER}/c\nidentitiesonly yes").unwrap();
    assert_eq!(
        (both.keys, both.certificates, both.only_these),
        (paths(&["/work/a b"]), paths(&["/other/c"]), true)
    );
    let refused = proof("identityfile %x").unwrap_err();
    assert_eq!(refused, "IdentityFile holds %x, which nothing stands for there");
    assert!(proof("certificatefile ${UNSET}").unwrap_err().contains("UNSET"));
}

#[test]
fn trust_is_as_strict_as_was_asked_for() {
    for (word, strict) in [
        ("true", Strict::Yes),
        ("false", Strict::No),
        ("ask", Strict::Ask),
        ("accept-new", Strict::AcceptNew),
    ] {
        let trust = Case::with(&format!("stricthostkeychecking {word}")).target().unwrap().trust;
        assert_eq!(trust.strict, strict);
    }
    assert!(Case::with("stricthostkeychecking maybe").target().is_err());
    let lines =
        "hostkeyalias alias\nhashknownhosts yes\nknownhostscommand /bin/echo %H\nglobalknownhostsfile none";
    let trust = Case::with(lines).target().unwrap().trust;
    assert_eq!(trust.alias.as_deref(), Some("alias"));
    assert_eq!(trust.command.as_deref(), Some("/bin/echo %H"));
    assert!(trust.hash && trust.global_files.is_empty());
}

#[test]
fn wishes_hold_where_they_were_uttered() {
    let seconds = Duration::from_secs;
    let lines = "connecttimeout 10\nserveraliveinterval 20\nserveralivecountmax 2\ncontrolpersist 60\nsendenv LA*\nsetenv A=b c\nloglevel ERROR";
    let wishes = Case::with(lines).wishes().unwrap();
    assert_eq!(wishes.connect_timeout, Some(seconds(10)));
    assert_eq!(wishes.alive, Some((seconds(20), 2)));
    assert_eq!(wishes.keep, Some(seconds(60)));
    assert_eq!(wishes.level, LogLevel::Error);
    let pair = |name: &str, value: &str| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
    assert_eq!(wishes.environment, [pair("LANG", "C"), pair("A", "b c")]);
    assert_eq!(Case::with("controlpersist yes").wishes().unwrap().keep, Some(FOR_EVER));
    assert_eq!(Case::with("connecttimeout 0").wishes().unwrap().connect_timeout, None);
    assert_eq!(Case::with("serveraliveinterval 5\nserveralivecountmax 0").wishes().unwrap().alive, None);
}

#[test]
fn what_is_run_is_a_command_a_subsystem_or_a_shell() {
    let run = |lines: &str, change: fn(&mut Call)| {
        let mut case = Case::with(lines);
        change(&mut case.call);
        case.wishes().map(|wishes| wishes.run)
    };
    let none = |call: &mut Call| call.command = None;
    assert_eq!(run("", none), Ok(Run::Shell));
    assert_eq!(run("remotecommand uptime", none), Ok(Run::Command(b"uptime".to_vec())));
    let sftp = |call: &mut Call| (call.command, call.is_subsystem) = (Some(b"sftp".to_vec()), true);
    assert_eq!(run("", sftp), Ok(Run::Subsystem("sftp".into())));
}

#[test]
fn a_terminal_is_wished_for_or_missed() {
    let mut case = Case::with("requesttty force");
    case.request.terminal = Some(Terminal::default());
    let pty = case.wishes().unwrap().terminal.unwrap();
    assert_eq!((pty.like, pty.need), (Terminal::default(), Need::Must));
    case.request.terminal = None;
    assert!(case.wishes().is_err(), "an older shim leaves it to the real ssh");
    let lacking = Case::with("requesttty true").wishes().unwrap();
    assert_eq!((lacking.terminal, lacking.lacks_terminal), (None, true));
}

#[test]
fn older_names_of_algorithm_lists_count_too() {
    let algorithms = Case::with("pubkeyacceptedkeytypes x,y").target().unwrap().algorithms;
    assert_eq!(algorithms.public_keys, ["x", "y"]);
    assert_eq!(algorithms.least_rsa, 0);
}

#[test]
fn a_least_size_of_keys_is_the_one_that_somebody_set() {
    let least = |lines: &str| Case::with(lines).target().unwrap().algorithms.least_rsa;
    assert_eq!(least("requiredrsasize 2048"), 2048);
    assert_eq!(least("requiredrsasize all"), u32::MAX);
    assert_eq!(least("requiredrsasize 1024"), 0, "ssh says so unasked");
}

#[test]
fn what_is_left_beside_keys_is_what_ssh_would_try() {
    let ways = |lines: &str| Case::with(lines).target().unwrap().proof.other_ways;
    let usual = "gssapiauthentication yes\nhostbasedauthentication no\nkbdinteractiveauthentication yes\npasswordauthentication yes";
    assert_eq!(ways(usual), ["gssapi-with-mic", "keyboard-interactive", "password"]);
    assert_eq!(ways(&format!("{usual}\nbatchmode yes")), ["gssapi-with-mic"]);
    // What Ansible says where it has no password.
    let ansible = "gssapiauthentication yes\nhostbasedauthentication no\nkbdinteractiveauthentication no\npasswordauthentication no\n\
        preferredauthentications gssapi-with-mic,gssapi-keyex,hostbased,publickey";
    assert_eq!(ways(ansible), ["gssapi-with-mic"]);
    assert_eq!(ways(&format!("{usual}\npreferredauthentications publickey,password")), ["password"]);
}
