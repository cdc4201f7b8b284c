use super::*;
use std::os::unix::fs::PermissionsExt as _;

struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(home.path(".ssh/conf.d")).unwrap();
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn start(&self) -> Start {
        Start {
            file: None,
            home: self.0.path().to_owned(),
            home_variable: Some(self.0.path().to_owned()),
            ssh: self.path("bin/ssh"),
        }
    }

    fn scan(&self) -> Scan {
        Scan::of(&self.start())
    }
}

#[test]
fn every_file_that_could_have_a_say_is_watched() {
    let home = Home::new();
    let config = "Host *\n  include conf.d/*.conf ~/elsewhere /no/such\nInclude=\"with blank\"\n";
    let included = "Include b\nUser ${WHO}";
    home.write(".ssh/config", config);
    home.write(".ssh/conf.d/a.conf", included);
    home.write(".ssh/conf.d/ignored", "");
    let scan = home.scan();
    assert_eq!(scan.unsteady, None);
    assert!(scan.still_holds());
    assert_eq!(scan.variables, ["WHO".to_owned()].into());
    assert!(["host", "include", "user"].iter().all(|keyword| scan.keywords.contains(*keyword)));
    fs::create_dir_all(home.path("etc/ssh")).unwrap();
    for (what, file) in [
        ("the file itself", ".ssh/config"),
        ("an included file", ".ssh/conf.d/a.conf"),
        ("another file in the folder", ".ssh/conf.d/z.conf"),
        ("a file that was not there", "elsewhere"),
        ("one with a blank in its name", ".ssh/with blank"),
        ("one relative to the folder of ssh", ".ssh/b"),
        ("the system's file", "etc/ssh/ssh_config"),
    ] {
        home.write(".ssh/config", config);
        home.write(".ssh/conf.d/a.conf", included);
        let scan = home.scan();
        assert!(scan.still_holds(), "{what}");
        home.write(file, "Host x");
        assert!(!scan.still_holds(), "{what}");
    }
}

#[test]
fn a_changed_mode_and_a_replaced_file_are_noticed() {
    let home = Home::new();
    home.write(".ssh/config", "Host a");
    let scan = home.scan();
    fs::set_permissions(home.path(".ssh/config"), fs::Permissions::from_mode(0o666)).unwrap();
    assert!(!scan.still_holds());
    let scan = home.scan();
    home.write(".ssh/new", "Host a");
    fs::rename(home.path(".ssh/new"), home.path(".ssh/config")).unwrap();
    assert!(!scan.still_holds());
}

#[test]
fn what_may_answer_otherwise_next_time_is_not_kept() {
    for (text, unsteady) in [
        ("Match exec \"test -f /vpn\"", true),
        ("  match host a !exec=true", true),
        ("Match localnetwork 10.0.0.0/8", true),
        ("\"Match\" exec true", true),
        ("Match host a user b", false),
        ("# Match exec true", false),
        ("Include ${X}/config", true),
        ("Include %d/config", true),
        ("Include ~bob/config", true),
        ("Include [ab]", true),
        ("Include config.d/*", false),
    ] {
        let home = Home::new();
        home.write(".ssh/config", text);
        let scan = home.scan();
        assert_eq!(scan.unsteady.is_some(), unsteady, "{text}");
        assert_eq!(scan.still_holds(), !unsteady, "{text}");
    }
}

#[test]
fn a_file_that_includes_itself_ends() {
    let home = Home::new();
    home.write(".ssh/config", "Include config config");
    assert!(home.scan().unsteady.is_some());
}

#[test]
fn the_file_of_the_caller_is_the_only_one() {
    let home = Home::new();
    home.write("mine", "Include theirs");
    let scan = Scan::of(&Start { file: Some(home.path("mine")), ..home.start() });
    let watched: Vec<_> = scan.stamps.iter().map(|(path, _)| path.clone()).collect();
    assert_eq!(watched, [home.path("mine"), home.path(".ssh/theirs")]);
    assert_eq!(Scan::of(&Start { file: Some("none".into()), ..home.start() }), Scan::default());
}

#[test]
fn a_question_about_the_command_is_seen() {
    let home = Home::new();
    home.write(".ssh/config", "Match command \"rsync *\"\n");
    assert!(home.scan().asks_for_command);
}

#[test]
fn what_was_just_written_is_not_trusted_to_show_its_next_change() {
    let home = Home::new();
    home.write(".ssh/config", "Host a");
    let scan = home.scan();
    assert!(scan.is_fresh(SystemTime::now()));
    assert!(!scan.is_fresh(SystemTime::now() + Duration::from_secs(5)));
}
