//! The words of a call of ssh mean to natssh what they mean to the ssh of this machine.
//!
//! Each list goes to `ssh -G` twice, as it is and as natssh would put it, and
//! both must print the same settings, or both refuse. Where the command begins,
//! ssh tells by refusing one beside a RemoteCommand.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use natssh_tests::need;
use natssh_wire::Word;
use natssh_wire::ssh_words::{Invocation, LogLevel, NoCall};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

/// How many lists are made up.
const MADE_UP: usize = 250;

/// Words, parted by blanks; `_` is a blank inside a word, `0` a word of no length.
const WRITTEN: [&str; 95] = [
    "web",
    "web true",
    "web ls -l",
    "-- web",
    "-- web -l root",
    "-4 -- web -4 ls",
    "-4 -- web -4",
    "-p 22 -- web -p 23",
    "web -- ls",
    "web -l root -- -v",
    "web - ls",
    "web -v- ls",
    "-v- web",
    "web -T ls -T",
    "web 0",
    "web 0 0",
    "web a 0 b",
    "0",
    "0 ls",
    "-p -- web -4",
    "-l -- web true",
    "-p 22 -p -- -4 web -4 true",
    "-4 -l x -- web",
    "me@web",
    "me@corp@web",
    "@web",
    "me@",
    "me@-web",
    "-me@web",
    "-- -me@web",
    "-l x -- -me@web",
    "-web",
    "-- -web",
    "a;b",
    "a_b",
    "a'b",
    "a$b",
    "a\\b",
    "a,b",
    "m;e@web",
    "m_-e@web",
    "m\\@web",
    "m$e@web",
    "WEB.Example.COM",
    "::1",
    "me@fe80::1%lo",
    "[::1]",
    "ssh://web",
    "ssh://web/",
    "ssh://web:",
    "ssh://web:/",
    "ssh://web:2022",
    "ssh://web:2022/",
    "ssh://web:2022/path",
    "ssh://web/path",
    "ssh://me@web:2022 id",
    "ssh://me;x=y@web",
    "ssh://;x=y@web",
    "ssh://a%20b@web",
    "ssh://a+b@web",
    "ssh://a%2@web",
    "ssh://a%00@web",
    "ssh://@web",
    "ssh://a@b@web",
    "ssh://web..example",
    "ssh://web.",
    "ssh://-web",
    "ssh://[::1]:22",
    "ssh://[web]:22",
    "ssh://[web]x",
    "ssh://[web",
    "ssh://",
    "ssh:/web",
    "-l first ssh://second@web:1 -p 2",
    "-p 1 ssh://web:2",
    "-oUser=first -l second third@web",
    "third@web -l second -oUser=first",
    "-vTtqCaxkg46 web",
    "-vl root web",
    "-vlroot web -Tp2022 true",
    "-vvvv web",
    "-v -q web",
    "-qv web -v",
    "-oLogLevel=ERROR web -v",
    "-v web -oLogLevel=ERROR",
    "-s web sftp",
    "-s -- web sftp",
    "-s web",
    "-z web",
    "web -z",
    "web true -z",
    "--help",
    "-l",
    "web -o",
    "-x -oPermitLocalCommand=no -oClearAllForwardings=yes -oRemoteCommand=none -oRequestTTY=no -oForwardAgent=no -s -- web sftp",
];

/// Each of these as the value of `-o`, before a host: every spelling, also those that ssh refuses.
const SETTINGS: [&str; 46] = [
    "Port=2022",
    "port=2022",
    "PORT 2022",
    "Port = 2022",
    "Port\t=\t2022 ",
    "  Port 2022",
    "Port 2022\u{c}",
    "Port  =2022",
    "Port== 2022",
    "Port=\"2022\"",
    "Port \"2022\"",
    "Port '2022'",
    "Port=\"2022",
    "\"Port\" 2022",
    "\"Port\"=2022",
    "\"Port 2022",
    "Po\"rt\" 2022",
    "=Port 2022",
    "Port=2022 # and why",
    "Port=2022#",
    "Port=#",
    "#Port=2022",
    "Port",
    "Port=",
    "Port ",
    "",
    " ",
    "=",
    "==",
    "\"",
    "\"\"",
    "Port=2022 22",
    "Nonsense=1",
    "User=\"me\"",
    "User=a b",
    "User=a\\ b",
    "User=\"a\\\"b\"",
    "User='a\\b'",
    "User ''",
    "SendEnv A B*",
    "SetEnv A='x y' B=\\\\",
    "BatchMode=yes",
    "BatchMode=true",
    "RequestTTY force",
    "IdentityFile=\"/a b/%d\"",
    "ProxyCommand=nc '%h' %p",
];

/// Letters with a value that ssh takes, and one that it does not.
const WITH_VALUES: [(&str, [&str; 2]); 20] = [
    ("B", ["lo", "lo"]),
    ("D", ["1080", "x:y"]),
    ("I", ["/lib.so", "none"]),
    ("J", ["hop,me@hop:22", "-x"]),
    ("L", ["1:a:2", "1"]),
    ("O", ["check", "nonsense"]),
    ("R", ["1:a:2", "::"]),
    ("S", ["/socket", "none"]),
    ("W", ["a:1", "a"]),
    ("b", ["127.0.0.1", "nowhere"]),
    ("c", ["aes128-ctr", "nonsense"]),
    ("e", ["^[", "too-long"]),
    ("i", ["/no/key", "--"]),
    ("l", ["root", "a;b"]),
    ("l", ["--", "-x"]),
    ("m", ["hmac-sha2-256", "nonsense"]),
    ("o", ["User=him", "Port"]),
    ("o", ["batchmode yes", "LogLevel=debug2"]),
    ("p", ["2022", "0"]),
    ("p", ["ssh", "--"]),
];

#[test]
fn some_hundred_lists_mean_to_ssh_what_they_mean_here() {
    need!("ssh");
    let folder = tempfile::tempdir().unwrap();
    let written = WRITTEN.iter().map(|text| {
        let word = |word: &str| if word == "0" { String::new() } else { word.replace('_', " ") };
        text.split(' ').map(word).collect()
    });
    let settings = SETTINGS.iter().flat_map(|line| {
        let list = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        [list(&["-o", line, "web"]), list(&["web", &format!("-o{line}"), "true"])]
    });
    let lists: Vec<Vec<String>> = written.chain(settings).chain(made_up()).collect();
    let mut taken = 0;
    for list in &lists {
        taken += usize::from(compare(list, folder.path()));
    }
    println!("{} lists, {taken} of them taken", lists.len());
    let fair = lists.len() / 4..lists.len() * 4 / 5;
    assert!(fair.contains(&taken), "{taken} of {} were taken: that compares too little", lists.len());
}

/// The same ones each time.
fn made_up() -> Vec<Vec<String>> {
    let flags = "[46ACKMNTXYagkqtvx]{1,3}";
    let value = prop::sample::select(&WITH_VALUES[..]).prop_flat_map(|(letter, values)| {
        // What ssh refuses ends a list, so it is rare.
        let value = prop_oneof![9 => Just(values[0]), 1 => Just(values[1])];
        (Just(letter), value, any::<bool>(), prop_oneof![3 => Just(""), 1 => Just("v"), 1 => Just("nT")])
    });
    let option = prop_oneof![
        6 => flags.prop_map(|flags| vec![format!("-{flags}")]),
        6 => value.prop_map(|(letter, value, apart, flags)| match apart {
            true => vec![format!("-{flags}{letter}"), value.to_owned()],
            false => vec![format!("-{flags}{letter}{value}")],
        }),
        1 => prop::sample::select(vec!["--", "-", "-v-", "-n", "-s", "-E", "-z"]).prop_map(|word| match word {
            "-E" => vec!["-ELOG".to_owned()],
            word => vec![word.to_owned()],
        }),
    ];
    let options = |most| prop::collection::vec(option.clone(), 0..most).prop_map(|words| words.concat());
    let host = prop::sample::select(vec!["web", "me@web", "ssh://you@web:2222", "web.example.com"]);
    let command = prop::collection::vec(prop::sample::select(vec!["ls", "-l", "--", "", "-n"]), 0..3);
    let end = prop::sample::select(vec![None, None, None, Some("--")]);
    let list = (options(4), end.clone(), host, options(3), end, command);
    let list = list.prop_map(|(before, end, host, after, other_end, command)| {
        let owned = |words: Vec<&str>| words.into_iter().map(str::to_owned).collect::<Vec<_>>();
        let host = end.into_iter().chain([host]).collect();
        [before, owned(host), after, owned(other_end.into_iter().chain(command).collect())].concat()
    });
    let mut runner = TestRunner::deterministic();
    (0..MADE_UP).map(|_| list.new_tree(&mut runner).expect("nothing is filtered").current()).collect()
}

/// Holds one list against ssh; true where ssh takes it.
fn compare(list: &[String], folder: &Path) -> bool {
    let words: Vec<Word> = list.iter().map(|word| word.as_str().into()).collect();
    let theirs = settings(&words, &[], folder);
    let call = match Invocation::parse(&words) {
        Ok(call) => call,
        Err(NoCall::Prints(_)) => panic!("{list:?}: -V and -Q are compared elsewhere"),
        Err(refused) => {
            assert!(theirs.is_none(), "{list:?}: natssh says that {refused}, and ssh takes it");
            return false;
        }
    };
    let mut ours = call.option_words();
    if call.command().is_some() {
        ours.push("true".into());
    }
    let ours = settings(&ours, &[], folder);
    let Some(theirs) = theirs else {
        // What is left out for `-G` may be what ssh refuses; then the real ssh gets to say so.
        let told = ours.is_none() || call.demands_real_ssh().is_some();
        assert!(told, "{list:?}: ssh refuses it, and takes {:?}", call.option_words());
        return false;
    };
    let Some(ours) = ours else { panic!("{list:?}: ssh refuses {:?}", call.option_words()) };

    let value = |key: &str| theirs.get(key).and_then(|values| values.first()).map(String::as_str);
    let is = |key: &str, wanted: &str| value(key) == Some(wanted);
    assert_eq!(is("stdinnull", "yes"), call.stdin_is_null(), "{list:?}");
    assert_eq!(is("sessiontype", "subsystem"), call.is_subsystem(), "{list:?}");
    if let Some(login) = call.login() {
        assert_eq!(value("user").map(str::as_bytes), Some(&*login), "{list:?}");
    }
    assert_eq!(value("host").unwrap_or_default().as_bytes(), call.host(), "{list:?}");
    if let Some(level) = call.log_level() {
        assert_eq!(value("loglevel").and_then(LogLevel::named), Some(level), "{list:?}");
    }
    if let Some(setting) = call.setting("BatchMode") {
        assert_eq!(is("batchmode", "yes"), setting.is_yes(), "{list:?}");
    }
    let of_the_call = ["forkafterauthentication", "sessiontype", "stdinnull"];
    let without = |mut settings: BTreeMap<String, Vec<String>>| {
        settings.retain(|key, _| !of_the_call.contains(&key.as_str()));
        settings
    };
    assert_eq!(without(ours), without(theirs), "{list:?}");
    command_begins_there(&words, &call, folder);
    true
}

/// ssh refuses a command beside a RemoteCommand: so it has none up to where natssh says that it begins.
fn command_begins_there(words: &[Word], call: &Invocation, folder: &Path) {
    let has_command = |words: &[Word]| settings(words, &["-oRemoteCommand=x"], folder).is_none();
    let Some(command) = call.command() else {
        assert!(!has_command(words), "{words:?} has a command");
        return;
    };
    let joined = |from: usize| words[from..].iter().map(Word::as_bytes).collect::<Vec<_>>().join(&b' ');
    let begin =
        (0..words.len()).find(|from| joined(*from) == command).expect("the command is the list's end");
    assert!(has_command(words), "{words:?} has no command");
    // Without its name, a subsystem is refused for another reason.
    if !call.is_subsystem() && !command.starts_with(b" ") {
        assert!(!has_command(&words[..begin]), "the command of {words:?} begins before word {begin}");
        assert!(has_command(&words[..=begin]), "the command of {words:?} begins after word {begin}");
    }
}

/// What `ssh -G` prints, by key; none where it refuses.
fn settings(words: &[Word], first: &[&str], folder: &Path) -> Option<BTreeMap<String, Vec<String>>> {
    let output = Command::new("ssh")
        .args(["-G", "-F", "none"])
        .args(first)
        .args(words.iter().map(Word::as_os_str))
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .expect("ssh starts");
    let mut settings = BTreeMap::<_, Vec<_>>::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let (key, value) = line.split_once(' ').unwrap_or((line, ""));
        settings.entry(key.to_owned()).or_default().push(value.to_owned());
    }
    output.status.success().then_some(settings)
}
