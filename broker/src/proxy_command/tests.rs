//! Tokens, what they may stand for, and ssh's own opinion of both.

use super::*;
use proptest::prelude::*;
use std::process::{Command, Stdio};

const VALUES: Values<'_> = Values { host: "web-1", name: "Web", port: 2222, login: Some("joe") };

fn expanded(text: &str) -> String {
    ProxyCommand::parse(text).unwrap().expand(&VALUES).unwrap()
}

#[test]
fn tokens_stand_for_what_they_stand_for_in_ssh() {
    for (text, command) in [
        ("nc %h %p", "nc web-1 2222"),
        ("%n%k %r@%h", "WebWeb joe@web-1"),
        ("100%% %%h %%%h", "100% %h %web-1"),
        ("no tokens", "no tokens"),
        ("\"quoted %h\"\t'$HOME'", "\"quoted web-1\"\t'$HOME'"),
    ] {
        assert_eq!(expanded(text), command);
        assert_eq!(ProxyCommand::parse(text).unwrap().to_string(), text);
    }
}

#[test]
fn what_ssh_would_not_expand_is_refused_in_words() {
    for (text, words) in [
        ("", "is empty"),
        (" \t ", "is empty"),
        ("nc %C", "holds %C, which is none of %h, %n, %p, %r and %k; write %% for a percent sign"),
        ("nc %H", "holds %H, which is none of %h, %n, %p, %r and %k; write %% for a percent sign"),
        ("nc %", "ends in a single %; write %% for a percent sign"),
        ("nc %%%", "ends in a single %; write %% for a percent sign"),
        ("nc\n%h", "holds '\\n'"),
    ] {
        assert_eq!(ProxyCommand::parse(text).unwrap_err().to_string(), words, "{text:?}");
    }
}

#[test]
fn a_login_is_needed_only_where_it_is_used() {
    let nobody = Values { login: None, ..VALUES };
    let expand = |text| ProxyCommand::parse(text).unwrap().expand(&nobody);
    assert_eq!(expand("nc %h %p").unwrap(), "nc web-1 2222");
    assert_eq!(expand("ssh -l %r").unwrap_err(), Unfit::NoLogin);
    let needs = |text| ProxyCommand::parse(text).unwrap().needs_login();
    assert_eq!([needs("nc %h %%r"), needs("ssh -l %r")], [false, true]);
}

#[test]
fn no_value_becomes_a_command_of_its_own() {
    for host in
        ["a;b", "$(id)", "a`id`", "a b", "-oX", "a&b", "a|b", "a>b", "a*", "~root", "a!b", "(a)", "a\\b"]
    {
        let values = Values { host, name: host, port: 22, login: Some(host) };
        for text in ["%h", "%n", "%k", "'%r'"] {
            let refused = ProxyCommand::parse(text).unwrap().expand(&values);
            assert!(matches!(refused, Err(Unfit::NotPlain { .. })), "{text} {host}");
        }
        assert_eq!(ProxyCommand::parse("nc %p").unwrap().expand(&values).unwrap(), "nc 22");
    }
    for host in ["fe80::1%eth0", "web_1.example.com", "i-0abc", "10.0.0.1"] {
        let values = Values { host, ..VALUES };
        assert_eq!(ProxyCommand::parse("%h").unwrap().expand(&values).unwrap(), host);
    }
}

#[test]
fn natssh_itself_is_recognised_however_it_is_called() {
    for text in [
        "natssh proxy %h %p",
        "/usr/local/bin/natssh proxy %h %p",
        "exec natssh proxy %h %p --login %r",
        "env NATSSH_SOCKET=/run/x natssh proxy %h %p",
        "/usr/bin/env -i A=b ~/.cargo/bin/natssh proxy %h %p",
        "LANG=C 'natssh' \"proxy\" %h %p",
        "natssh -v proxy %h %p",
    ] {
        assert!(ProxyCommand::parse(text).unwrap().is_natssh_itself(), "{text}");
    }
    for text in [
        "nc %h %p",
        "natssh-broker proxy",
        "natssh status",
        "ssh -W %h:%p -o 'ProxyCommand=natssh proxy %%h %%p' bastion",
        "proxy natssh",
        "env",
    ] {
        assert!(!ProxyCommand::parse(text).unwrap().is_natssh_itself(), "{text}");
    }
}

/// What ssh is about to run, by its own word (`ssh -v`). It runs `true` and no more.
fn of_ssh(text: &str) -> Option<String> {
    let said = Command::new("ssh")
        .env("SHELL", "/bin/true")
        .args(["-v", "-F", "none", "-o", &format!("ProxyCommand={text}"), "-o", "HostName=web-1"])
        .args(["-p", "2222", "-l", "joe", "Web"])
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    let line = said.lines().find_map(|line| line.split_once("Executing proxy command: exec ")?.1.into());
    line.map(str::to_owned)
}

#[test]
fn ssh_expands_them_alike() {
    if of_ssh("true").is_none() {
        assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "ssh is not installed");
        eprintln!("SKIPPED: ssh is not installed");
        return;
    }
    // `%k` is younger than the oldest ssh that natssh knows, so it is asked for alone.
    for text in
        ["nc %h %p", "a %n %r %% %%h %%%h b", "\"%h\" '%p'", "x%h%n%p%r", "x%C", "x%", "%%%", "x %d %i %L %u"]
    {
        let ours = ProxyCommand::parse(text).ok().map(|command| command.expand(&VALUES).unwrap());
        assert_eq!(ours, of_ssh(text), "{text}");
    }
    if let Some(theirs) = of_ssh("x %k") {
        assert_eq!(expanded("x %k"), theirs);
    }
}

proptest! {
    #[test]
    fn text_without_percent_signs_stays_as_it_is(text in "[^%\\pC]{1,60}") {
        prop_assume!(!text.trim().is_empty());
        prop_assert_eq!(expanded(&text), text);
    }

    #[test]
    fn a_doubled_percent_sign_is_one_whatever_surrounds_it(text in "[a-z %]{1,40}") {
        prop_assume!(!text.trim().is_empty());
        prop_assert_eq!(expanded(&text.replace('%', "%%")), text);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,60}") {
        if let Ok(command) = ProxyCommand::parse(&text) {
            prop_assert_eq!(command.to_string(), text);
            let _ = (command.expand(&VALUES), command.is_natssh_itself());
        }
    }

    #[test]
    fn what_is_expanded_is_one_word_to_a_shell(host in "\\PC{1,20}") {
        let values = Values { host: &host, ..VALUES };
        if let Ok(word) = ProxyCommand::parse("%h").unwrap().expand(&values) {
            prop_assert_eq!(words(&word), [host]);
        }
    }
}
