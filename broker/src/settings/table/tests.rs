use super::*;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::Command;

fn printed(text: &str) -> Printed {
    Printed::parse(text.as_bytes()).unwrap()
}

/// What the ssh of this machine prints; nothing where there is none.
fn of_this_machine(options: &[&str]) -> Option<Printed> {
    let output = Command::new("ssh").args(["-F", "none"]).args(options).args(["-G", "host"]).output().ok()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(Printed::parse(&output.stdout).unwrap())
}

#[test]
fn every_setting_stands_once_and_in_its_order() {
    let names: Vec<String> = TABLE.iter().map(|setting| setting.name.to_lowercase()).collect();
    let sorted: BTreeSet<String> = names.iter().cloned().collect();
    assert_eq!(names, sorted.into_iter().collect::<Vec<_>>());
}

#[test]
fn every_keyword_of_this_ssh_is_in_the_table() {
    let optional = [
        "-oBindAddress=::1",
        "-oBindInterface=lo",
        "-oCertificateFile=c",
        "-oControlPath=c",
        "-oDynamicForward=1",
        "-oHostKeyAlias=a",
        "-oIdentityAgent=a",
        "-oIgnoreUnknown=a",
        "-oKbdInteractiveDevices=a",
        "-oKnownHostsCommand=/bin/a",
        "-oLocalCommand=a",
        "-oLocalForward=1 a:1",
        "-oPKCS11Provider=/a",
        "-oPreferredAuthentications=publickey",
        "-oProxyJump=a",
        "-oRemoteCommand=a",
        "-oRemoteForward=1 a:1",
        "-oRevokedHostKeys=/a",
        "-oSendEnv=A",
        "-oSetEnv=A=a",
    ];
    let Some(printed) = of_this_machine(&optional) else {
        eprintln!("skipped: there is no ssh here");
        return;
    };
    let unknown: Vec<&str> =
        printed.iter().map(|(keyword, _)| keyword).filter(|keyword| find(keyword).is_none()).collect();
    assert!(unknown.is_empty(), "not in the table: {unknown:?}");
}

#[test]
fn what_ssh_says_unasked_is_native() {
    let Some(usual) = of_this_machine(&[]) else {
        eprintln!("skipped: there is no ssh here");
        return;
    };
    assert_eq!(demands_real_ssh(&usual, &usual, Over::Tcp, For::Command), None);
}

#[test]
fn what_ansible_and_distributions_set_is_native() {
    let Some(usual) = of_this_machine(&[]) else {
        eprintln!("skipped: there is no ssh here");
        return;
    };
    for options in [
        &["-C", "-oControlMaster=auto", "-oControlPersist=60s", "-oControlPath=/tmp/x"][..],
        &["-oKbdInteractiveAuthentication=no", "-oPasswordAuthentication=no", "-oConnectTimeout=10"],
        &[
            "-oPreferredAuthentications=gssapi-with-mic,gssapi-keyex,hostbased,publickey",
            "-oNumberOfPasswordPrompts=1",
        ],
        &[
            "-oGSSAPIAuthentication=yes",
            "-oHashKnownHosts=yes",
            "-oSendEnv=LANG LC_*",
            "-oForwardX11Trusted=yes",
        ],
        &[
            "-oForwardX11=no",
            "-oPermitLocalCommand=no",
            "-oClearAllForwardings=yes",
            "-obatchmode yes",
            "-oForwardAgent=no",
        ],
        &["-oUserKnownHostsFile=/dev/null", "-oStrictHostKeyChecking=no", "-oRekeyLimit=1G 1h", "-T"],
    ] {
        let printed = of_this_machine(options).unwrap();
        assert_eq!(demands_real_ssh(&printed, &usual, Over::Tcp, For::Command), None, "{options:?}");
    }
}

#[test]
fn what_natssh_cannot_do_is_named() {
    let usual = printed("addressfamily any\n");
    for (text, over, reason) in [
        ("forwardagent no\nforwardx11 no\ntunnel false\nstdinnull no\n", Over::Tcp, None),
        ("forwardagent yes\n", Over::Tcp, Some("ForwardAgent is yes")),
        ("forwardagent /run/user/1000/agent\n", Over::Tcp, Some("ForwardAgent is set")),
        ("localforward 8080 [localhost]:80\n", Over::Tcp, Some("LocalForward is set")),
        ("requesttty force\nescapechar x\n", Over::Tcp, None),
        ("addressfamily any\n", Over::Tcp, None),
        ("addressfamily inet6\n", Over::Tcp, Some("AddressFamily is inet6")),
        ("addressfamily inet6\n", Over::Proxy, None),
        ("bindaddress ::1\n", Over::Tcp, Some("BindAddress is ::1")),
        ("controlmaster ask\n", Over::Tcp, Some("ControlMaster is ask")),
        ("preferredauthentications password,publickey\n", Over::Tcp, None),
        ("preferredauthentications password\n", Over::Tcp, Some("PreferredAuthentications is password")),
        ("rekeylimit 0 0\n", Over::Tcp, None),
        ("rekeylimit 1048576 0\n", Over::Tcp, Some("RekeyLimit is 1048576 0")),
        ("rekeylimit 0 60\n", Over::Tcp, Some("RekeyLimit is 0 60")),
        ("revokedhostkeys /krl\n", Over::Tcp, Some("RevokedHostKeys is /krl")),
        ("quantumleap yes\n", Over::Proxy, Some("quantumleap is yes")),
    ] {
        let demand = demands_real_ssh(&printed(text), &usual, over, For::Command);
        let named = demand.as_deref().and_then(|demand| Some(demand.split_once(": ")?.0));
        assert_eq!(named, reason, "{text}");
    }
}

#[test]
fn a_hop_is_no_place_where_something_is_run() {
    let of_a_command = printed("forwardagent yes\nlocalforward 1 [a]:1\n");
    assert_eq!(demands_real_ssh(&of_a_command, &Printed::default(), Over::Proxy, For::Hop), None);
    let of_all = printed("hostbasedauthentication yes\n");
    assert!(demands_real_ssh(&of_all, &Printed::default(), Over::Proxy, For::Hop).is_some());
}

#[test]
fn where_nothing_runs_no_terminal_and_no_agent_is_wanted() {
    let of_a_run = printed("forwardagent yes\nforwardx11 yes\nrequesttty force\n");
    assert_eq!(demands_real_ssh(&of_a_run, &Printed::default(), Over::Tcp, For::Connection), None);
    let forwards = printed("localforward 1 [a]:1\n");
    assert!(demands_real_ssh(&forwards, &Printed::default(), Over::Tcp, For::Connection).is_some());
}

#[test]
fn a_setting_of_another_ssh_is_native_until_somebody_uses_it() {
    let usual = printed("quantumleap no\n");
    assert_eq!(demands_real_ssh(&usual, &usual, Over::Tcp, For::Command), None);
}

#[test]
fn the_docs_show_this_table() {
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/ssh-settings.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    let shown: Vec<&str> = docs.lines().filter(|line| line.starts_with("| `")).collect();
    let rows: Vec<String> = TABLE.iter().map(row).collect();
    assert!(shown == rows, "docs/ssh-settings.md should hold these rows:\n{}", rows.join("\n"));
}

fn row(setting: &Setting) -> String {
    let does = match &setting.does {
        Native => "native".into(),
        Pool => "the pool".into(),
        Nothing => "no effect".into(),
        Only(values) => {
            let mut text = String::from("native:");
            for value in *values {
                write!(text, " `{value}`").unwrap();
            }
            text
        }
        When(_) => "native: some values".into(),
        Default => "native: unset".into(),
        DefaultOverTcp => "native: unset, or behind a proxy".into(),
    };
    format!("| `{}` | {does} | {} |", setting.name, setting.why)
}
