use super::*;
use proptest::prelude::*;

/// Words, parted at blanks; `_` is a word of no length.
fn words(text: &str) -> Vec<Word> {
    text.split(' ').map(|word| if word == "_" { "" } else { word }.into()).collect()
}

fn call(text: &str) -> Invocation {
    Invocation::parse(&words(text)).unwrap_or_else(|refused| panic!("{text}: {refused}"))
}

fn said(words: &[Word]) -> String {
    words.iter().map(|word| word.as_str().unwrap()).collect::<Vec<_>>().join(" ")
}

#[test]
fn options_end_where_openssh_ends_them() {
    for (text, options, command) in [
        ("web", "web", None),
        ("web uptime", "web", Some("uptime")),
        ("web ls -l -a", "web", Some("ls -l -a")),
        ("-T web -l root -p22 ls -v", "-T web -l root -p 22", Some("ls -v")),
        ("-- web -l root", "web", Some("-l root")),
        ("-4 -- web", "-4 web", None),
        ("web -- -l root", "web", Some("-l root")),
        ("web -v -- ls", "web -v", Some("ls")),
        ("web - ls", "web", Some("- ls")),
        ("web -v- ls", "web -v", Some("-v- ls")),
        ("-vTl root web", "-v -T -l root web", None),
        ("-vTlroot web", "-v -T -l root web", None),
        ("-p 22 -p -- web -v", "-p 22 -p-- web", Some("-v")),
        ("-p -- -4 web -v ls", "-p-- -4 web -v", Some("ls")),
        ("-l x -- -l@web", "-l x -- -l@web", None),
        ("-o _ web", "-o _ web", None),
        ("-E /log -nfs -- web sftp", "web", Some("sftp")),
        ("-O check web", "web", None),
        ("web _", "web", None),
        ("web _ _", "web", Some(" ")),
        ("web a _ b", "web", Some("a  b")),
        ("-lssh://x ssh://me@web.:2022/ id", "-l ssh://x ssh://me@web.:2022/", Some("id")),
    ] {
        let call = call(text);
        assert_eq!(said(&call.option_words()).replace("-o  ", "-o _ "), options, "{text}");
        assert_eq!(call.command().as_deref(), command.map(str::as_bytes), "{text}");
    }
}

#[test]
fn what_is_no_call_is_told_from_what_is() {
    for (text, refused) in [
        ("", NoCall::NoHost),
        ("-v", NoCall::NoHost),
        ("--", NoCall::NoHost),
        ("-z web", NoCall::UnknownOption('z')),
        ("--help", NoCall::UnknownOption('-')),
        ("web -v-v", NoCall::UnknownOption('-')),
        ("web -:", NoCall::UnknownOption(':')),
        ("-l", NoCall::MissingValue('l')),
        ("web -p", NoCall::MissingValue('p')),
        ("-V -z", NoCall::Prints('V')),
        ("-vV", NoCall::Prints('V')),
        ("-Q cipher", NoCall::Prints('Q')),
        ("-Q", NoCall::MissingValue('Q')),
        ("web -1", NoCall::OldProtocol),
        ("@web", NoCall::BadDestination),
        ("- ls", NoCall::BadHost),
        ("-v- web", NoCall::BadHost),
        ("a;b", NoCall::BadHost),
        ("-- -oProxyCommand=x", NoCall::BadHost),
        ("-- -x@web", NoCall::BadLogin),
        ("web -l a;b", NoCall::BadLogin),
        ("-oUser=`id` web", NoCall::BadLogin),
        ("-s web", NoCall::NoSubsystem),
        ("ssh://web/path", NoCall::BadDestination),
        ("ssh://@web", NoCall::BadDestination),
        ("ssh://a%0gb@web", NoCall::BadDestination),
        ("ssh://a%00b@web", NoCall::BadDestination),
        ("ssh://web:/", NoCall::BadDestination),
        ("ssh://a..b", NoCall::BadDestination),
        ("ssh://[::1]", NoCall::BadDestination),
        ("ssh://[web]x", NoCall::BadDestination),
    ] {
        let words = if text.is_empty() { Vec::new() } else { words(text) };
        assert_eq!(Invocation::parse(&words).map(|call| call.option_words()), Err(refused), "{text}");
    }
}

#[test]
fn a_destination_has_parts() {
    for (text, login, host, port) in [
        ("web", None, "web", None),
        ("me@web", Some("me"), "web", None),
        ("me@corp@web", Some("me@corp"), "web", None),
        ("me@", Some("me"), "", None),
        ("fe80::1%eth0", None, "fe80::1%eth0", None),
        ("ssh://web", None, "web", None),
        ("ssh://web:", None, "web", None),
        ("ssh://[web]:22", None, "web", Some("22")),
        ("ssh://me;fingerprint=x@web.example.com.:2022/", Some("me"), "web.example.com", Some("2022")),
        ("ssh://a%20b+c@web:ssh", Some("a b c"), "web", Some("ssh")),
        ("SSH://web", None, "SSH://web", None),
    ] {
        let call = call(text);
        let parts = call.destination();
        assert_eq!(parts.login.as_deref(), login.map(str::as_bytes), "{text}");
        assert_eq!(parts.host, host.as_bytes(), "{text}");
        assert_eq!(parts.port.as_deref(), port.map(str::as_bytes), "{text}");
    }
}

#[test]
fn the_first_login_holds() {
    for (text, login) in [
        ("web", None),
        ("me@web -l you", Some("me")),
        ("-l you me@web", Some("you")),
        ("-oUser=him -l you me@web", Some("him")),
        ("web -o user=him -l you", Some("him")),
    ] {
        assert_eq!(call(text).login().as_deref(), login.map(str::as_bytes), "{text}");
    }
}

#[test]
fn every_spelling_of_a_setting_is_one() {
    for line in [
        "BatchMode=yes",
        "batchmode yes",
        "BATCHMODE = yes",
        "  BatchMode\t=\tyes  ",
        "BatchMode \"yes\"",
        "BatchMode='yes' # and why",
        "\"BatchMode\" yes",
        "=BatchMode yes\x0c",
    ] {
        let call = Invocation::parse(&["-o".into(), line.into(), "web".into()]).unwrap();
        let setting = call.setting("batchmode").unwrap_or_else(|| panic!("{line:?}"));
        assert_eq!(setting.arguments(), [b"yes"], "{line:?}");
        assert!(setting.is_yes());
    }
    for line in ["", " ", "BatchMode", "BatchMode=", "BatchMode 'yes", "\"BatchMode yes", "#BatchMode yes"] {
        let call = Invocation::parse(&["-o".into(), line.into(), "web".into()]).unwrap();
        assert_eq!(call.setting("batchmode"), None, "{line:?}");
    }
}

#[test]
fn quotes_and_backslashes_part_arguments_as_openssh_does() {
    for (line, arguments) in [
        (r#"SendEnv LANG LC_*"#, vec!["LANG", "LC_*"]),
        (r#"ControlPath "/a b/%C""#, vec!["/a b/%C"]),
        (r#"ControlPath /a\ b/'c d'"#, vec!["/a b/c d"]),
        (r#"SetEnv A="x \" y" B='\\' C=\n"#, vec![r#"A=x " y"#, r"B=\", r"C=\n"]),
        (r#"User == me"#, vec!["=", "me"]),
        (r#""User"=me"#, vec!["=me"]),
        (r#"User ''"#, vec![""]),
        (r#"User me#you #him"#, vec!["me#you"]),
    ] {
        let setting = Setting::parse(line.as_bytes()).unwrap_or_else(|| panic!("{line}"));
        let expected: Vec<Vec<u8>> = arguments.into_iter().map(|word| word.as_bytes().to_vec()).collect();
        assert_eq!(setting.arguments(), expected, "{line}");
    }
}

#[test]
fn the_first_setting_of_a_key_holds() {
    let call = call("-oPort=1 web -o port=2 -oPORT=3");
    assert_eq!(call.setting("Port").unwrap().first(), Some(&b"1"[..]));
    assert_eq!(call.setting("Por"), None);
}

#[test]
fn how_much_is_said_depends_on_the_order() {
    for (text, level) in [
        ("web", None),
        ("-v web", Some(LogLevel::Debug1)),
        ("-vvvv web", Some(LogLevel::Debug3)),
        ("-v -q web", Some(LogLevel::Quiet)),
        ("-q web -v", Some(LogLevel::Debug1)),
        ("-vqv web", Some(LogLevel::Fatal)),
        ("-oLogLevel=error web", Some(LogLevel::Error)),
        ("-oLogLevel=ERROR web -oLogLevel=DEBUG", Some(LogLevel::Error)),
        ("-oLogLevel=ERROR web -v", Some(LogLevel::Debug1)),
        ("-v web -oLogLevel=ERROR", Some(LogLevel::Debug1)),
        ("-oLogLevel=none -oLogLevel=debug2 web", Some(LogLevel::Debug2)),
    ] {
        assert_eq!(call(text).log_level(), level, "{text}");
    }
    assert_eq!(call("-vv web").log_level().map(LogLevel::debug), Some(2));
}

#[test]
fn flags_say_how_a_call_runs() {
    let quiet = call("-E one web -n -E two -tt cat");
    assert!(quiet.stdin_is_null() && !quiet.is_subsystem());
    assert_eq!(quiet.log_file().and_then(Word::as_str), Some("two"));
    assert_eq!((quiet.count('t'), quiet.has('T')), (2, false));
    assert!(call("-f web x").stdin_is_null());
    assert!(call("-s web sftp").is_subsystem());
    assert_eq!(call("-O check web").value('O').and_then(Word::as_str), Some("check"));
    for way in ["-J hop web", "-oProxyJump=none web", "web -oproxycommand=none"] {
        assert!(call(way).names_a_way(), "{way}");
    }
    assert!(!call("-oProxyUseFdpass=yes web").names_a_way());
}

#[test]
fn some_words_alone_demand_the_real_ssh() {
    for native in [
        "web true",
        "-246CTagknqvx -e none web true",
        "-b 127.0.0.1 -c aes256-ctr -m hmac-sha2-256 -F none -i key -J hop -l me -p 22 -S none -o BatchMode=yes web",
        "-s web sftp",
        "web -W a:1",
        "-N web",
        "-NT web true",
        "-nN -W [::1]:22 web",
    ] {
        assert_eq!(call(native).demands_real_ssh(), None, "{native}");
    }
    for (text, tunnel, start) in [
        ("-G web", Tunnel::Never, "-G "),
        ("-L 1:a:2 -G web", Tunnel::Never, "-G "),
        ("-O check web", Tunnel::Never, "-O "),
        ("-O forward -L 1:a:2 web", Tunnel::Never, "-O "),
        ("_", Tunnel::Never, "the host"),
        ("-NL 1:a:2 web", Tunnel::AsRouted, "-L "),
        ("web -W a:ssh", Tunnel::AsRouted, "-W "),
        ("-Ns web sftp", Tunnel::Never, "-s "),
        ("-W a:1 -s web sftp", Tunnel::Never, "-s "),
    ] {
        let demand = call(text).demands_real_ssh().unwrap_or_else(|| panic!("{text} is native"));
        assert_eq!(demand.tunnel, tunnel, "{text}");
        assert!(demand.reason.starts_with(start), "{text}: {}", demand.reason);
    }
}

#[test]
fn what_is_asked_of_a_kept_connection_is_told_from_what_only_ssh_can_answer() {
    for (text, control) in [
        ("-O check web", Some(Control::Check)),
        ("web -Ostop", Some(Control::Stop)),
        ("-o ControlPath=/x -O exit -- web", Some(Control::Exit)),
        ("web", None),
        ("-O forward -L 1:a:2 web", None),
        ("-O cancel web", None),
        ("-O proxy web", None),
        ("-O conninfo web", None),
        ("-O Check web", None),
        ("-O check -O check web", None),
        ("-O check -W a:1 web", None),
        ("-G -O check web", None),
        ("-O check _", None),
    ] {
        assert_eq!(call(text).control(), control, "{text}");
    }
}

#[test]
fn the_documentation_tells_of_every_option() {
    let text = include_str!("../../../../docs/ssh.md");
    let mut told = Vec::new();
    for row in text.lines().filter(|line| line.starts_with("| `-")) {
        let cells: Vec<_> = row.split(" | ").collect();
        for letter in cells[0].split('`').filter_map(|word| word.strip_prefix('-')?.chars().next()) {
            let demand = demand::TABLE.iter().any(|(known, ..)| *known == letter) || "1QV".contains(letter);
            assert_eq!(cells[1], if demand { "real ssh" } else { "natssh" }, "-{letter}");
            told.push(u8::try_from(letter).unwrap());
        }
    }
    let mut known = [getopt::FLAGS, getopt::VALUES].concat();
    known.sort_unstable();
    told.sort_unstable();
    assert_eq!(String::from_utf8(told), String::from_utf8(known));
}

proptest! {
    /// What `ssh -G` is given means the same call, without what it should not know.
    #[test]
    fn option_words_say_the_same_again(
        words in prop::collection::vec("[-vnslopTE]{0,4}|--|a@b|-oUser=a|ssh://h:1|web", 0..9)
    ) {
        let words: Vec<Word> = words.iter().map(|word| word.as_str().into()).collect();
        if let Ok(call) = Invocation::parse(&words) {
            let options = call.option_words();
            let again = Invocation::parse(&options).unwrap();
            prop_assert_eq!(again.option_words(), options);
            prop_assert_eq!(again.destination(), call.destination());
            prop_assert_eq!(again.login(), call.login());
            prop_assert_eq!(again.log_level(), call.log_level());
            prop_assert_eq!(again.command(), None);
        }
    }

    #[test]
    fn any_bytes_are_read(words in prop::collection::vec(prop::collection::vec(1u8.., 0..12), 0..6)) {
        for word in &words {
            let _ = Setting::parse(word);
        }
        let words: Vec<Word> = words.into_iter().map(Word::from).collect();
        let _ = Invocation::parse(&words);
    }
}
