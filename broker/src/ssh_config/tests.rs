//! Fragments as printed, and what the real `ssh -G` makes of them.

use super::block;
use super::command::command_words;
use super::derived;
use super::plan::Plan;
use crate::config::{self, Environment, Settings};
use crate::identity::testing::{authority, builder, ed25519, pem, public_line, user_certificate, write};
use crate::identity::{Identity, Source, Watched};
use ssh_key::certificate::CertType;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// A home with a tsh profile, a configuration and natssh's state.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        let key = ed25519(1);
        home.write("tsh/current-profile", "proxy.example.com\n");
        home.write(
            "tsh/proxy.example.com.yaml",
            "web_proxy_addr: proxy.example.com:3080\nssh_proxy_addr: proxy.example.com:3023\nuser: me\ncluster: example\n",
        );
        home.write("tsh/keys/proxy.example.com/me", &pem(&key));
        home.write("tsh/keys/proxy.example.com/me.pub", &public_line(&key));
        let certificate = user_certificate(&key, "me", &["root"]).to_openssh().unwrap();
        home.write("tsh/keys/proxy.example.com/me-ssh/example-cert.pub", &certificate);
        let authority = public_line(&authority());
        let known_hosts =
            format!("@cert-authority proxy.example.com,example,*.example {authority} type=host\n");
        home.write("tsh/known_hosts", &known_hosts);
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        write(&self.path(name), text);
    }

    fn state(&self) -> PathBuf {
        self.path("state")
    }

    fn settings(&self, text: &str) -> Settings {
        self.write("natssh.toml", text);
        let env = Environment {
            natssh_config: Some(self.path("natssh.toml")),
            config_dir: None,
            home: self.0.path().into(),
            teleport_home: Some(self.path("tsh").into()),
            user: "alice".into(),
        };
        config::load(&env).unwrap_or_else(|complaints| panic!("{complaints}"))
    }

    /// The blocks without their head, the home's path written as `HOME`.
    fn fragment(&self, text: &str, hosts: &[&str], sha1: &[&str]) -> String {
        let settings = self.settings(text);
        let view = |(name, source): (&String, &Source)| {
            let view =
                Identity::load(name, source, 0).map(|identity| derived::view(&self.state(), &identity));
            (name.clone(), view.map_err(|error| error.to_string()))
        };
        let views: BTreeMap<_, _> = settings.identities.iter().map(view).collect();
        for view in views.values().flatten() {
            derived::write(&view.files).unwrap();
        }
        let sha1: BTreeSet<String> = sha1.iter().map(|name| (*name).to_owned()).collect();
        let plan =
            Plan { settings: &settings, views: &views, sha1: &sha1, proxy_command: "/bin/natssh proxy" };
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let blocks = if hosts.is_empty() { plan.everything() } else { plan.hosts(&hosts) };
        let fragment = blocks.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        fragment.replace(&self.0.path().display().to_string(), "HOME")
    }

    /// What ssh makes of a fragment for a host; none where there is no ssh.
    fn ssh(&self, fragment: &str, host: &str) -> Option<Answer> {
        self.write("fragment", &fragment.replace("HOME", &self.0.path().display().to_string()));
        let command = Command::new("ssh").arg("-TG").arg("-F").arg(self.path("fragment")).arg(host).output();
        let Ok(output) = command else {
            eprintln!("skipped: there is no ssh here");
            return None;
        };
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && said.is_empty(), "{said}\n{fragment}");
        let stdout =
            String::from_utf8_lossy(&output.stdout).replace(&self.0.path().display().to_string(), "HOME");
        Some(Answer(stdout))
    }
}

struct Answer(String);

impl Answer {
    fn get(&self, keyword: &str) -> &str {
        let line = self.0.lines().find_map(|line| line.strip_prefix(keyword)?.strip_prefix(' '));
        line.unwrap_or_default()
    }
}

#[test]
fn the_tsh_profile_alone_gives_one_block_for_its_cluster() {
    let home = Home::new();
    let fragment = home.fragment("", &[], &[]);
    let expected = "\
# names of upstream proxy.example.com
Host *.example !proxy.example.com
    ProxyCommand /bin/natssh proxy %h %p
    ProxyUseFdpass yes
    Port 3022
    IdentityFile HOME/tsh/keys/proxy.example.com/me
    CertificateFile HOME/tsh/keys/proxy.example.com/me-ssh/example-cert.pub
    IdentitiesOnly yes
    UserKnownHostsFile ~/.ssh/known_hosts HOME/tsh/known_hosts
";
    assert!(fragment == expected, "\n{fragment}");
    let Some(answer) = home.ssh(&fragment, "worker.example") else { return };
    assert_eq!(answer.get("proxycommand"), "/bin/natssh proxy %h %p");
    assert_eq!(answer.get("proxyusefdpass"), "yes");
    assert_eq!(answer.get("identitiesonly"), "yes");
    assert_eq!(answer.get("port"), "3022");
    assert_eq!(home.ssh(&fragment, "github.com").unwrap().get("proxycommand"), "");
    assert_eq!(home.ssh(&fragment, "worker").unwrap().get("proxycommand"), "");
}

#[test]
fn a_named_host_gets_the_alias_that_its_certificate_is_for() {
    let home = Home::new();
    let fragment =
        home.fragment("default = \"proxy.example.com\"", &["worker", "Web.example"], &["proxy.example.com"]);
    let expected = "\
# worker: default (HOME/natssh.toml:1)
# an old cluster, which signs with SHA-1 only
Host worker
    HostKeyAlias worker.example
    ProxyCommand /bin/natssh proxy %h %p
    ProxyUseFdpass yes
    Port 3022
    IdentityFile HOME/tsh/keys/proxy.example.com/me
    CertificateFile HOME/tsh/keys/proxy.example.com/me-ssh/example-cert.pub
    IdentitiesOnly yes
    UserKnownHostsFile ~/.ssh/known_hosts HOME/tsh/known_hosts
    HostKeyAlgorithms +ssh-rsa-cert-v01@openssh.com
    PubkeyAcceptedKeyTypes +ssh-rsa-cert-v01@openssh.com

# Web.example: names of upstream proxy.example.com
";
    assert!(fragment.starts_with(expected), "\n{fragment}");
    let Some(answer) = home.ssh(&fragment, "worker") else { return };
    assert_eq!(answer.get("hostkeyalias"), "worker.example");
    assert!(answer.get("hostkeyalgorithms").ends_with(",ssh-rsa-cert-v01@openssh.com"));
    let accepted = [answer.get("pubkeyacceptedalgorithms"), answer.get("pubkeyacceptedkeytypes")].concat();
    assert!(accepted.ends_with(",ssh-rsa-cert-v01@openssh.com"), "{accepted}");
    // ssh makes %h lower case; the proxy would not find `web`.
    let upper = home.ssh(&fragment, "Web.example").unwrap();
    assert_eq!(upper.get("proxycommand"), "/bin/natssh proxy Web.example %p");
}

#[test]
fn a_default_takes_short_names_and_lets_the_internet_alone() {
    let home = Home::new();
    let fragment = home.fragment("default = \"proxy.example.com\"", &[], &[]);
    for (host, hostname) in
        [("worker", "worker.example"), ("worker.example", "worker.example"), ("web-1", "web-1.example")]
    {
        let Some(answer) = home.ssh(&fragment, host) else { return };
        assert_eq!(answer.get("hostname"), hostname);
        assert_eq!(answer.get("proxycommand"), "/bin/natssh proxy %h %p", "{host}");
    }
    for host in ["github.com", "10.0.0.1", "::1", "localhost", "proxy.example.com"] {
        let answer = home.ssh(&fragment, host).unwrap();
        assert_eq!((answer.get("proxycommand"), answer.get("hostname")), ("", host), "\n{fragment}");
    }
}

#[test]
fn what_an_earlier_rule_takes_whole_gets_no_second_block() {
    let home = Home::new();
    let text = "[upstream.office]\nkind = \"teleport\"\nproxy = \"gate\"\ncluster = \"example\"";
    let fragment = home.fragment(text, &[], &[]);
    assert_eq!(fragment.matches("Host *.example").count(), 1, "{fragment}");
    assert!(fragment.starts_with("# names of upstream office\n"), "{fragment}");
}

const ROUTES: &str = r#"
[upstream.office]
kind = "teleport"
proxy = "gate.example.org"
cluster = "hq"
known_hosts = ["/etc/ssh/office hosts"]
[[route]]
hosts = ["build-*", "nas.hq"]
upstream = "direct"
[[route]]
hosts = ["*.prod.example.com", "db"]
upstream = "office"
strip_suffix = ".prod.example.com"
map = { "web.prod.example.com" = "web-01", other = "x" }
[[route]]
hosts = ["*.web.hq", "web-*", "build-box", "!web-9"]
upstream = "office"
port = 22
[[route]]
hosts = ["*"]
upstream = "office"
"#;

#[test]
fn routes_become_blocks_where_ssh_config_can_say_them() {
    let home = Home::new();
    let fragment = home.fragment(ROUTES, &[], &[]);
    for (host, hostname, alias, port) in [
        ("db", "db", "db.hq", "3022"),
        ("web.prod.example.com", "web.prod.example.com", "web-01.hq", "3022"),
        ("web-1", "web-1.hq", "", "22"),
        ("a.web.hq", "a.web.hq", "", "22"),
        ("web-9", "web-9.hq", "", "3022"),
        ("worker", "worker.hq", "", "3022"),
        ("worker.hq", "worker.hq", "", "3022"),
    ] {
        let Some(answer) = home.ssh(&fragment, host) else { return };
        assert_eq!(answer.get("hostname"), hostname, "{host} in\n{fragment}");
        assert_eq!(answer.get("port"), port, "{host}");
        assert_eq!(answer.get("hostkeyalias").replace("none", ""), alias, "{host}");
        assert_eq!(answer.get("proxycommand"), "/bin/natssh proxy %h %p", "{host} in\n{fragment}");
        let files = "~/.ssh/known_hosts \"/etc/ssh/office hosts\" HOME/tsh/known_hosts";
        assert!(
            answer.get("userknownhostsfile").replace('"', "").ends_with(&files[19..].replace('"', "")),
            "{host}"
        );
    }
    for host in ["build-1", "build-box", "nas.hq", "mail.example.com"] {
        let answer = home.ssh(&fragment, host).unwrap();
        assert_eq!((answer.get("proxycommand"), answer.get("hostname")), ("", host), "{host} in\n{fragment}");
    }
    assert!(fragment.contains("natssh ssh-config x.prod.example.com\n"), "{fragment}");
    assert!(!fragment.contains("Host other"), "a name in the map that no pattern takes:\n{fragment}");
}

#[test]
fn each_host_is_verified_by_the_name_of_the_node_that_the_broker_would_open() {
    let home = Home::new();
    let settings = home.settings(ROUTES);
    let fragment = home.fragment(ROUTES, &[], &[]);
    for host in ["db", "web.prod.example.com", "web-1", "web-9", "worker", "a.hq", "z"] {
        let Some(answer) = home.ssh(&fragment, host) else { return };
        let verified = match answer.get("hostkeyalias") {
            "" | "none" => answer.get("hostname"),
            alias => alias,
        };
        let asked = natssh_wire::NodeAddr::new(answer.get("hostname"), "22").unwrap();
        let node = settings.routes.pick(&asked).node.host;
        assert_eq!(verified, format!("{node}.hq"), "{host}");
    }
}

#[test]
fn what_ssh_cannot_read_from_an_identity_file_is_written_for_it() {
    let home = Home::new();
    let key = ed25519(2);
    let certificate = user_certificate(&key, "bot", &["root"]).to_openssh().unwrap();
    let authority = format!("@cert-authority *.example {}", public_line(&authority()));
    home.write("bot", &format!("{}{certificate}\n{authority} type=host\n", pem(&key)));
    let text = format!(
        "[identity.bot]\nfile = {:?}\n[upstream.office]\nkind = \"teleport\"\nproxy = \"gate\"\ncluster = \"example\"",
        home.path("bot")
    );
    let fragment = home.fragment(&text, &["worker.example"], &[]);
    for line in [
        "    IdentityFile HOME/state/ssh/bot/key\n",
        "    CertificateFile HOME/state/ssh/bot/key-cert.pub\n",
        "    UserKnownHostsFile ~/.ssh/known_hosts HOME/bot\n",
    ] {
        assert!(fragment.contains(line), "{line}\n{fragment}");
    }
    assert_eq!(fs::read_to_string(home.path("state/ssh/bot/key-cert.pub")).unwrap(), certificate + "\n");
    for (path, mode) in
        [("state/ssh", 0o700), ("state/ssh/bot", 0o700), ("state/ssh/bot/key-cert.pub", 0o600)]
    {
        assert_eq!(fs::metadata(home.path(path)).unwrap().permissions().mode() & 0o777, mode, "{path}");
    }
    assert_eq!(
        fs::read_link(home.path("state/ssh/bot/key")).unwrap(),
        home.path("bot"),
        "no copy of a secret"
    );
    let public = fs::read_to_string(home.path("state/ssh/bot/key.pub")).unwrap();
    assert_eq!(public.trim_end(), public_line(&key));
}

#[test]
fn authorities_of_an_old_tsh_get_their_marker() {
    let home = Home::new();
    home.write("tsh/known_hosts", &format!("example {}\n", public_line(&authority())));
    let fragment = home.fragment("", &[], &[]);
    let file = home.path("state/ssh/proxy.example.com/known_hosts");
    assert!(fragment.contains("HOME/state/ssh/proxy.example.com/known_hosts\n"), "{fragment}");
    let written = fs::read_to_string(file).unwrap();
    assert_eq!(written, format!("@cert-authority example,*.example {}\n", public_line(&authority())));
    assert!(
        !home.path("state/ssh/proxy.example.com/cert.pub").exists(),
        "tsh's own certificate is read where it is"
    );
}

#[tokio::test]
async fn the_broker_refreshes_what_was_derived_and_nothing_else() {
    let home = Home::new();
    let write_identity = |logins: &[&str]| {
        let key = ed25519(2);
        let certificate = user_certificate(&key, "bot", logins).to_openssh().unwrap();
        home.write("bot", &format!("{}{certificate}\n", pem(&key)));
        certificate + "\n"
    };
    let first = write_identity(&["root"]);
    let source = Source::File(home.path("bot"));
    let watched = Arc::new(Watched::open("bot", source.clone()));
    let follower = tokio::spawn(derived::follow(home.state(), watched.clone()));
    write_identity(&["root", "admin"]);
    watched.refresh();
    tokio::task::yield_now().await;
    assert!(!home.state().exists(), "nobody has asked for a fragment");

    write_identity(&["root"]);
    derived::write(&derived::view(&home.state(), &Identity::load("bot", &source, 0).unwrap()).files).unwrap();
    let (file, public) = (home.path("state/ssh/bot/key-cert.pub"), home.path("state/ssh/bot/key.pub"));
    assert_eq!(fs::read_to_string(&file).unwrap(), first);
    let inode = |path: &Path| fs::metadata(path).unwrap().ino();
    let unchanged = inode(&public);
    let second = write_identity(&["root", "backup"]);
    let seen = watched.current().generation;
    watched.refresh();
    // The files' dates may hide a change for a moment; refreshing again is what the broker does too.
    let deadline = std::time::Instant::now() + Duration::from_secs(5);
    while fs::read_to_string(&file).unwrap() != second {
        assert!(std::time::Instant::now() < deadline, "generation {seen} → {}", watched.current().generation);
        watched.refresh();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(inode(&public), unchanged, "an unchanged file is left alone");
    assert_eq!(fs::read_dir(home.path("state/ssh/bot")).unwrap().count(), 3, "no half-written file is left");
    follower.abort();
}

#[test]
fn no_name_of_an_identity_leads_out_of_the_folder() {
    let home = Home::new();
    let key = ed25519(2);
    home.write(
        "bot",
        &format!("{}{}\n", pem(&key), user_certificate(&key, "bot", &["root"]).to_openssh().unwrap()),
    );
    for name in ["..", "../../x", "/etc", "a/b", ".", ""] {
        let identity = Identity::load(name, &Source::File(home.path("bot")), 0).unwrap();
        let folder = derived::view(&home.state(), &identity).files[0].path.clone();
        assert_eq!(folder.parent().unwrap().parent(), Some(home.path("state/ssh").as_path()), "{name}");
        assert!(!folder.to_string_lossy().contains("/../"), "{name}");
    }
}

#[test]
fn an_identity_that_cannot_be_read_is_said_and_the_way_stays() {
    let home = Home::new();
    fs::remove_file(home.path("tsh/keys/proxy.example.com/me")).unwrap();
    let fragment = home.fragment("", &["worker.example"], &[]);
    assert!(fragment.contains("\n# identity proxy.example.com is missing here: there is no "), "{fragment}");
    assert!(fragment.contains("    ProxyCommand "), "{fragment}");
    assert!(!fragment.contains("IdentityFile"), "{fragment}");
}

#[test]
fn without_a_cluster_the_fragment_says_what_is_missing() {
    let home = Home::new();
    let text = "default = \"office\"\n[upstream.office]\nkind = \"teleport\"\nproxy = \"gate\"\nidentity = \"a\"\n[identity.a]\nagent = true";
    let fragment = home.fragment(text, &["worker"], &[]);
    assert!(fragment.contains("# the cluster of upstream office is unknown"), "{fragment}");
    assert!(
        home.fragment(text, &[], &[])
            .contains("# default (HOME/natssh.toml:1): the cluster of upstream office is unknown")
    );
}

#[test]
fn the_cluster_is_learned_from_the_certificate() {
    let home = Home::new();
    let key = ed25519(2);
    let mut certificate = builder(&key, CertType::User, &["root"]);
    certificate.extension("teleport-route-to-cluster", "leaf").unwrap();
    home.write("id", &pem(&key));
    home.write("id-cert.pub", &certificate.sign(&authority()).unwrap().to_openssh().unwrap());
    let text = format!(
        "[identity.id]\nkey = {:?}\n[upstream.office]\nkind = \"teleport\"\nproxy = \"gate\"",
        home.path("id")
    );
    assert_eq!(home.settings(&text).upstreams["office"].cluster.as_deref(), Some("leaf"));
}

#[test]
fn paths_with_blanks_quotes_and_percents_arrive_whole() {
    let home = Home::new();
    for name in ["plain", "with blank", "50%h", "it's", "ümlaut", "dollar$HOME"] {
        let path = Path::new("/x").join(name);
        let natssh = command_words(&path, |_| None::<String>);
        let fragment = format!(
            "Host a\n    ProxyCommand {natssh} %h %p\n    UserKnownHostsFile {}\n",
            block::path(&path)
        );
        let Some(answer) = home.ssh(&fragment, "a") else { return };
        assert!(
            answer.get("userknownhostsfile").trim_matches('"').replace("%%", "%").ends_with(name),
            "{name}: {}",
            answer.0
        );
        let words = answer.get("proxycommand").replace("%h %p", "").replace("%%", "%");
        let said = Command::new("sh").arg("-c").arg(format!("printf %s\\\\n {words}")).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&said.stdout), format!("/x/{name}\nproxy\n"));
    }
}

#[test]
fn the_surroundings_that_found_this_broker_are_kept() {
    let command = command_words(Path::new("/opt/natssh"), |name| match name {
        "NATSSH_SOCKET" => Some("/run/a b"),
        "TELEPORT_HOME" => Some(""),
        _ => None,
    });
    assert_eq!(command, "env 'NATSSH_SOCKET=/run/a b' /opt/natssh proxy");
}

#[test]
fn the_example_is_read_by_ssh() {
    let home = Home::new();
    let example = include_str!("../../../examples/ssh_config");
    let Some(answer) = home.ssh(example, "worker.example.com") else { return };
    assert_eq!(answer.get("proxycommand"), "natssh proxy %h %p");
    assert_eq!(home.ssh(example, "web").unwrap().get("hostkeyalias"), "web-01.example.com");
    assert_eq!(home.ssh(example, "teleport.example.com").unwrap().get("proxycommand"), "");
}

/// A real sshd stands where the stream would lead; all else is the fragment's doing.
#[test]
fn stock_ssh_logs_in_with_an_identity_file_by_the_fragment_alone() {
    let home = Home::new();
    if !Path::new("/usr/sbin/sshd").exists() {
        eprintln!("skipped: there is no sshd here");
        return;
    }
    let login = Command::new("id").arg("-un").output().unwrap();
    let login = String::from_utf8_lossy(&login.stdout).trim().to_owned();
    let script = format!(
        "set -e; cd '{}'
        for key in hostca userca hostkey; do ssh-keygen -q -t ed25519 -N '' -f $key; done
        ssh-keygen -q -t rsa -b 2048 -m PEM -N '' -f me
        ssh-keygen -q -s hostca -h -I '' -n worker,worker.example,localhost hostkey.pub
        ssh-keygen -q -s userca -I me -n {login} -O extension:teleport-route-to-cluster=example me.pub
        (cat me me-cert.pub; echo \"@cert-authority *.example $(cat hostca.pub)\") > identity
        chmod 600 identity; rm me*
        echo \"HostKey $PWD/hostkey\nHostCertificate $PWD/hostkey-cert.pub\nTrustedUserCAKeys $PWD/userca.pub\" > sshd_config
        echo 'StrictModes no\nUsePAM no\nPermitRootLogin yes\nPasswordAuthentication no' >> sshd_config",
        home.0.path().display()
    );
    let prepared = Command::new("sh").arg("-c").arg(script).output().unwrap();
    assert!(prepared.status.success(), "{}", String::from_utf8_lossy(&prepared.stderr));
    let text = format!(
        "default = \"office\"\n[identity.id]\nfile = {:?}\n[upstream.office]\nkind = \"teleport\"\nproxy = \"gate\"",
        home.path("identity")
    );
    for (hosts, host) in [(vec![], "worker"), (vec![], "worker.example"), (vec!["worker"], "worker")] {
        let fragment = home.fragment(&text, &hosts, &[]).replace("ProxyUseFdpass yes", "ProxyUseFdpass no");
        let stream = format!("/usr/sbin/sshd -i -e -f {}", home.path("sshd_config").display());
        let fragment = fragment.replace("/bin/natssh proxy %h %p", &stream);
        home.write("fragment", &fragment.replace("HOME", &home.0.path().display().to_string()));
        let output = Command::new("ssh")
            .arg("-F")
            .arg(home.path("fragment"))
            .args([
                "-o",
                "BatchMode=yes",
                "-o",
                "StrictHostKeyChecking=yes",
                "-o",
                "ConnectTimeout=10",
                "-l",
                &login,
            ])
            .args([host, "echo reached; exit 7"])
            .env_remove("SSH_AUTH_SOCK")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        if said.contains("privilege separation directory") {
            eprintln!("skipped: sshd was never started here: {said}");
            return;
        }
        assert_eq!(output.status.code(), Some(7), "{host}: {said}\n{fragment}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "reached\n");
    }
}

#[test]
fn a_command_that_needs_the_login_is_told_it() {
    let home = Home::new();
    let text = "[upstream.aws]\nkind = \"command\"\ncommand = \"tunnel %r@%h\"\n\
                [upstream.plain]\nkind = \"command\"\ncommand = \"tunnel %h\"\n\
                [[route]]\nhosts = [\"i-*\"]\nupstream = \"aws\"\n[[route]]\nhosts = [\"j-1\"]\nupstream = \"plain\"\n";
    let fragment = home.fragment(text, &[], &[]);
    let Some(told) = home.ssh(&fragment, "i-0abc") else { return };
    assert_eq!(told.get("proxycommand"), "/bin/natssh proxy %h %p --login %r");
    assert_eq!(home.ssh(&fragment, "j-1").unwrap().get("proxycommand"), "/bin/natssh proxy %h %p");
}
