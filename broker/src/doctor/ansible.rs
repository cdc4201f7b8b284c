//! Ansible's settings, where there is an ansible.cfg in reach or Ansible is installed.
//!
//! The first file of Ansible's own list counts, and a variable beats the file
//! (lib/ansible/config/base.yml; "Ansible Configuration Settings"). What is judged is
//! what decides how many connections a playbook makes, and whether they go through natssh.

use super::Finding;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// natssh answers within 9 s at most, by default within 5; a patience below that hides the reason.
const PATIENCE: u32 = 6;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Ansible {
    /// Whether `ansible-playbook` is in PATH.
    installed: bool,
    /// The file that counts, and its text; none of it where it cannot be read.
    pub(super) file: Option<(PathBuf, Option<String>)>,
    /// An `ansible.cfg` here that Ansible does not look at, because anybody may write in its folder.
    ignored: Option<PathBuf>,
    /// The variables that beat the file.
    variables: BTreeMap<String, String>,
}

pub(super) fn gather(home: &Path) -> Ansible {
    let here = std::env::current_dir().ok();
    let others_write =
        |folder: &Path| folder.metadata().is_ok_and(|meta| meta.permissions().mode() & 0o002 != 0);
    let beside = here.as_ref().map(|folder| folder.join("ansible.cfg")).filter(|path| path.is_file());
    let ignored = beside.clone().filter(|_| here.as_deref().is_some_and(others_write));
    let named =
        std::env::var_os("ANSIBLE_CONFIG").filter(|value| !value.is_empty()).map(|value| named(value, home));
    let candidates = [
        named,
        beside.filter(|_| ignored.is_none()),
        Some(home.join(".ansible.cfg")),
        Some("/etc/ansible/ansible.cfg".into()),
    ];
    let path = candidates.into_iter().flatten().find(|path| path.is_file());
    let search = std::env::var_os("PATH").unwrap_or_default();
    Ansible {
        installed: std::env::split_paths(&search).any(|folder| folder.join("ansible-playbook").is_file()),
        file: path.map(|path| {
            let text = std::fs::read(&path).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            (path, text)
        }),
        ignored,
        variables: std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name.starts_with("ANSIBLE_"))
            .collect(),
    }
}

/// `ANSIBLE_CONFIG` may name a folder.
fn named(value: OsString, home: &Path) -> PathBuf {
    let path = PathBuf::from(value);
    let path = path.strip_prefix("~").map(|rest| home.join(rest)).unwrap_or(path);
    if path.is_dir() { path.join("ansible.cfg") } else { path }
}

pub(super) fn judge(ansible: &Ansible) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(path) = &ansible.ignored {
        let folder = path.parent().unwrap_or(Path::new("/")).display();
        let text = format!("Ansible ignores {}: anybody may write in its folder", path.display());
        findings.push(Finding::warning("ansible", text, format!("chmod o-w {folder}")));
    }
    let (place, text) = match &ansible.file {
        Some((path, Some(text))) => (path.display().to_string(), text.as_str()),
        Some((path, None)) => {
            let text = format!("{} cannot be read", path.display());
            findings.push(Finding::warning("ansible", text, format!("ls -l {}", path.display())));
            return findings;
        }
        None if ansible.installed || !findings.is_empty() => ("ansible.cfg".into(), ""),
        None => return findings,
    };
    let settings = Chosen { file: read(text), variables: &ansible.variables };
    let told = findings.len();
    findings.extend(settings.judge(&place));
    if findings.len() == told {
        let what = if ansible.file.is_some() { place } else { "the defaults".into() };
        findings.push(Finding::ok("ansible", format!("{what}: pipelining and shared connections are on")));
    }
    findings
}

/// `[section] key`, in lower case, and its value: the part of Python's configparser that Ansible's files use.
fn read(text: &str) -> BTreeMap<(String, String), String> {
    let (mut section, mut values) = (String::new(), BTreeMap::new());
    let mut last: Option<(String, String)> = None;
    for line in text.lines() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            continue;
        }
        if let (Some(key), true) = (&last, line.starts_with([' ', '\t'])) {
            // A value goes on where its line is indented.
            values.entry(key.clone()).and_modify(|value: &mut String| *value += &format!(" {trimmed}"));
            continue;
        }
        if let Some(name) = trimmed.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            (section, last) = (name.0.trim().to_owned(), None);
        } else if let Some((key, value)) = trimmed.split_once(['=', ':']) {
            let key = (section.clone(), key.trim().to_lowercase());
            // Ansible allows remarks behind a semicolon.
            let value = value.split(" ;").next().unwrap_or_default().trim();
            values.insert(key.clone(), value.to_owned());
            last = Some(key);
        }
    }
    values
}

/// The settings in force.
struct Chosen<'v> {
    file: BTreeMap<(String, String), String>,
    variables: &'v BTreeMap<String, String>,
}

impl Chosen<'_> {
    fn get(&self, variables: &[&str], places: &[(&str, &str)]) -> Option<&str> {
        let variable = variables.iter().find_map(|name| self.variables.get(*name));
        let of_file =
            || places.iter().find_map(|(section, key)| self.file.get(&((*section).into(), (*key).into())));
        variable.or_else(of_file).map(|value| value.trim_matches(['"', '\'']))
    }

    fn judge(&self, place: &str) -> Vec<Finding> {
        [
            self.pipelining(place),
            self.sharing(place),
            self.way(place),
            self.executable(place),
            self.patience(place),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn pipelining(&self, place: &str) -> Option<Finding> {
        let places =
            [("connection", "pipelining"), ("ssh_connection", "pipelining"), ("defaults", "pipelining")];
        let value = self.get(&["ANSIBLE_PIPELINING", "ANSIBLE_SSH_PIPELINING"], &places);
        if value.is_some_and(|value| {
            ["true", "yes", "on", "1", "y", "t"].contains(&value.to_lowercase().as_str())
        }) {
            return None;
        }
        let text = "pipelining is off: each task is several connections instead of one";
        Some(Finding::warning("ansible", text, format!("in {place}:\n[connection]\npipelining = True")))
    }

    /// Without `ssh_args`, Ansible shares connections for a minute.
    fn sharing(&self, place: &str) -> Option<Finding> {
        let args = self.get(&["ANSIBLE_SSH_ARGS"], &[("ssh_connection", "ssh_args")])?;
        let lower = args.to_lowercase();
        let off = ["controlpersist=no", "controlpersist no", "controlmaster=no", "controlmaster no"];
        if lower.contains("controlpersist") && !off.iter().any(|off| lower.contains(off)) {
            return None;
        }
        let text = format!(
            "ssh_args = {args:?} leaves out ControlPersist: each task authenticates to the host anew"
        );
        let fix =
            format!("in {place}:\n[ssh_connection]\nssh_args = -o ControlMaster=auto -o ControlPersist=60s");
        Some(Finding::warning("ansible", text, fix))
    }

    /// Options on ssh's command line beat its configuration.
    fn way(&self, place: &str) -> Option<Finding> {
        let keys = [
            ("ANSIBLE_SSH_ARGS", "ssh_args"),
            ("ANSIBLE_SSH_COMMON_ARGS", "ssh_common_args"),
            ("ANSIBLE_SSH_EXTRA_ARGS", "ssh_extra_args"),
        ];
        let leads = |args: &str| {
            let lower = args.to_lowercase();
            let jumps = args.split_whitespace().any(|word| word.starts_with("-J"));
            (jumps || lower.contains("proxyjump") || lower.contains("proxycommand"))
                && !args.contains("natssh")
        };
        keys.into_iter().find_map(|(variable, key)| {
            let args = self.get(&[variable], &[("ssh_connection", key)]).filter(|args| leads(args))?;
            let text = format!("{key} = {args:?} leads around natssh");
            Some(Finding::warning("ansible", text, format!("in {place}, take the proxy out of {key}")))
        })
    }

    fn executable(&self, place: &str) -> Option<Finding> {
        let program = self.get(&["ANSIBLE_SSH_EXECUTABLE"], &[("ssh_connection", "ssh_executable")])?;
        (Path::new(program).file_name()? == "natssh").then(|| {
            let text = format!("ssh_executable = {program}: natssh opens the way and runs no commands");
            Finding::failure("ansible", text, format!("take ssh_executable out of {place}"))
        })
    }

    fn patience(&self, place: &str) -> Option<Finding> {
        let places = [("ssh_connection", "timeout"), ("defaults", "timeout")];
        let seconds: u32 = self.get(&["ANSIBLE_SSH_TIMEOUT", "ANSIBLE_TIMEOUT"], &places)?.parse().ok()?;
        (1..PATIENCE).contains(&seconds).then(|| {
            let text = format!("timeout = {seconds}: Ansible gives up before the reason is known");
            Finding::warning("ansible", text, format!("in {place}:\n[defaults]\ntimeout = 10"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn judged(text: &str, variables: &[(&str, &str)]) -> Vec<(Verdict, String)> {
        let ansible = Ansible {
            file: Some(("/p/ansible.cfg".into(), Some(text.into()))),
            variables: variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
            ..Ansible::default()
        };
        judge(&ansible).into_iter().map(|finding| (finding.verdict, finding.message)).collect()
    }

    const GOOD: &str = "[connection]\npipelining = True\n";

    #[test]
    fn the_projects_own_example_is_as_it_should_be() {
        let findings = judged(include_str!("../../../examples/ansible.cfg"), &[]);
        assert!(findings.iter().all(|(verdict, _)| *verdict == Verdict::Ok), "{findings:?}");
    }

    #[test]
    fn what_costs_connections_or_leads_around_is_told() {
        assert_eq!(judged(GOOD, &[]).len(), 1);
        for (text, word) in [
            ("[defaults]\nforks = 5\n", "pipelining is off"),
            ("[connection]\npipelining = no\n", "pipelining is off"),
            (
                "[ssh_connection]\npipelining = True\nssh_args = -o ServerAliveInterval=15\n",
                "leaves out ControlPersist",
            ),
            (
                "[ssh_connection]\npipelining = yes\nssh_args = -o ControlPersist=no\n",
                "leaves out ControlPersist",
            ),
            (
                "[ssh_connection]\npipelining=on\nssh_common_args =\n  -o ForwardAgent=no\n  -o ProxyJump=bastion\n",
                "leads around natssh",
            ),
            ("[defaults]\ntimeout: 3\n[connection]\npipelining: 1\n", "gives up before"),
            (
                "[connection]\npipelining = True\n[ssh_connection]\nssh_executable = /usr/bin/natssh\n",
                "runs no commands",
            ),
        ] {
            let findings = judged(text, &[]);
            assert!(findings.len() == 1 && findings[0].1.contains(word), "{text}: {findings:?}");
        }
        assert_eq!(
            judged(&format!("{GOOD}[ssh_connection]\nssh_executable = natssh\n"), &[])[0].0,
            Verdict::Failure
        );
    }

    #[test]
    fn a_variable_beats_the_file_and_remarks_are_no_settings() {
        assert_eq!(judged("", &[("ANSIBLE_PIPELINING", "1")])[0].0, Verdict::Ok);
        assert_eq!(judged(GOOD, &[("ANSIBLE_PIPELINING", "0")])[0].0, Verdict::Warning);
        assert_eq!(
            judged("[connection]\n# pipelining = True\n;pipelining = True\n", &[])[0].0,
            Verdict::Warning
        );
        assert_eq!(judged("[connection]\npipelining = True ; faster\n", &[])[0].0, Verdict::Ok);
    }

    proptest::proptest! {
        #[test]
        fn whatever_the_file_holds_it_is_read_to_its_end(text in "([\\[\\]=:;# \\ta-z]{0,12}\n){0,8}|\\PC{0,60}") {
            let _ = judged(&text, &[]);
        }
    }

    #[test]
    fn nobody_is_told_of_an_ansible_they_do_not_have() {
        assert!(judge(&Ansible::default()).is_empty());
        let installed = judge(&Ansible { installed: true, ..Ansible::default() });
        assert!(installed.len() == 1 && installed[0].message.contains("pipelining is off"));
        let ignored = judge(&Ansible { ignored: Some("/tmp/p/ansible.cfg".into()), ..Ansible::default() });
        assert_eq!(ignored[0].fix.as_deref(), Some("chmod o-w /tmp/p"));
    }
}
