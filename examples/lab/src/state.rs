//! The lab's folder: where each thing lies in it, whose it is at the moment,
//! and how it is emptied again.

use std::env;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};

mod plan;

pub use plan::{MARK, Mode, Plan, node_names};

/// How long a socket's path may be (`sun_path`, with its closing zero), less
/// the longest name that the lab puts into its folder.
const LONGEST_FOLDER: usize = 107 - "/broker/broker.sock".len();

/// A lab's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder(PathBuf);

impl Folder {
    /// `--state`, else `NATSSH_LAB`, else `natssh-lab` in the user's state folder.
    ///
    /// # Errors
    /// When there is no home, or the path is too long to hold sockets.
    pub fn choose(asked: Option<PathBuf>) -> Result<Self> {
        let variable = |name| env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let path = asked
            .or_else(|| variable("NATSSH_LAB"))
            .or_else(|| Some(variable("XDG_STATE_HOME")?.join("natssh-lab")))
            .or_else(|| Some(variable("HOME")?.join(".local/state/natssh-lab")))
            .context("no folder for the lab: HOME is not set; type: natssh-lab up --state DIR")?;
        Self::at(&path)
    }

    /// The lab in this folder, whether it exists yet or not.
    ///
    /// # Errors
    /// When the path is too long to hold sockets, or holds what a quoted word
    /// of a configuration file cannot.
    pub fn at(path: &Path) -> Result<Self> {
        let path = std::path::absolute(path).context("find the current folder")?;
        let shown = path.display();
        if path.as_os_str().len() > LONGEST_FOLDER {
            bail!(
                "the lab's folder {shown} has too long a path for sockets; type: natssh-lab up --state /tmp/lab"
            );
        }
        let plain = path.to_str().is_some_and(|text| {
            text.chars().all(|c| !c.is_control() && !c.is_whitespace() && !"\"'\\%$`#,:".contains(c))
        });
        if !plain {
            bail!(
                "the lab's folder {shown} has blanks, quotes or punctuation in its path; type: natssh-lab up --state /tmp/lab"
            );
        }
        Ok(Self(path))
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// [`MARK`] as an environment entry.
    pub fn mark(&self) -> String {
        format!("{MARK}={}", self.0.display())
    }

    /// The plan.
    pub fn plan(&self) -> PathBuf {
        self.0.join("lab.json")
    }

    /// Locked as long as a supervisor runs.
    pub fn lock(&self) -> PathBuf {
        self.0.join("lab.lock")
    }

    /// Where the supervisor takes orders.
    pub fn control(&self) -> PathBuf {
        self.0.join("lab.sock")
    }

    /// What the supervisor and the agents say.
    pub fn log(&self) -> PathBuf {
        self.0.join("lab.log")
    }

    /// The shell lines that `natssh-lab env` prints; there when the lab is ready.
    pub fn env(&self) -> PathBuf {
        self.0.join("env")
    }

    /// The authorities and what they issued.
    pub fn credentials(&self) -> PathBuf {
        self.0.join("credentials")
    }

    /// The folder for the socket of a broker of the lab's own.
    pub fn broker(&self) -> PathBuf {
        self.0.join("broker")
    }

    /// The configuration of stock ssh.
    pub fn ssh_config(&self) -> PathBuf {
        self.0.join("ssh_config")
    }

    /// The configuration of natssh.
    pub fn natssh_toml(&self) -> PathBuf {
        self.0.join("natssh.toml")
    }

    /// All nodes' folders.
    pub fn nodes(&self) -> PathBuf {
        self.0.join("nodes")
    }

    /// One node's folder.
    pub fn node(&self, name: &str) -> PathBuf {
        self.nodes().join(name)
    }

    /// Creates the folder and takes it for this process, for as long as the
    /// returned lock lives.
    ///
    /// # Errors
    /// When another lab runs in it, or left something behind in it.
    pub fn claim(&self) -> Result<Claim> {
        create_private(&self.0)?;
        let path = self.lock();
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("open {}", path.display()))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            bail!("a lab is already up in {}; type: natssh-lab down", self.0.display());
        }
        if self.plan().exists() {
            bail!("a lab that ended badly left things behind in {}; type: natssh-lab down", self.0.display());
        }
        Ok(Claim(lock))
    }

    /// Whether a supervisor holds the folder.
    pub fn is_claimed(&self) -> bool {
        File::open(self.lock()).is_ok_and(|lock| flock(&lock, FlockOperation::NonBlockingLockShared).is_err())
    }

    /// Writes the plan, whole or not at all.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn save(&self, plan: &Plan) -> Result<()> {
        let text = serde_json::to_string_pretty(plan).context("encode the plan")?;
        let fresh = self.0.join("lab.json.new");
        let target = self.plan();
        fs::write(&fresh, text)
            .and_then(|()| fs::rename(&fresh, &target))
            .with_context(|| format!("write {}", target.display()))
    }

    /// Reads the plan; none when no lab was begun here.
    ///
    /// # Errors
    /// When it is there and cannot be understood.
    pub fn load(&self) -> Result<Option<Plan>> {
        let path = self.plan();
        let shown = path.display();
        match fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text).map(Some).with_context(|| format!("understand {shown}")),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).with_context(|| format!("read {shown}")),
        }
    }

    /// Removes everything that a lab puts into its folder, the plan last, and
    /// the folder too unless something else is in it.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn clear(&self) -> Result<()> {
        for folder in [self.nodes(), self.credentials(), self.broker()] {
            gone(fs::remove_dir_all(&folder), &folder)?;
        }
        let new_plan = self.0.join("lab.json.new");
        let files = [
            self.env(),
            self.ssh_config(),
            self.natssh_toml(),
            self.control(),
            self.log(),
            new_plan,
            self.plan(),
            self.lock(),
        ];
        for file in files {
            gone(fs::remove_file(&file), &file)?;
        }
        // Not empty: the folder is the user's own.
        let _ = fs::remove_dir(&self.0);
        Ok(())
    }
}

/// Exclusive use of a lab's folder; given back when dropped.
#[derive(Debug)]
pub struct Claim(#[expect(dead_code, reason = "held for its lock")] File);

/// Creates a folder that only its owner may enter, and those above it.
pub fn create_private(folder: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("create {}", folder.display()))
}

/// Opens a file to write on at its end.
pub fn append(path: &Path) -> Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("open {}", path.display()))
}

/// Writes a file that only its owner may read.
pub fn write_private(path: &Path, text: &str) -> Result<()> {
    OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("write {}", path.display()))
}

fn gone(removed: std::io::Result<()>, path: &Path) -> Result<()> {
    match removed {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::python::Python;

    #[test]
    fn a_folder_is_one_labs_alone_and_is_left_as_found() {
        let parent = tempfile::tempdir().expect("a folder");
        let folder = Folder::at(&parent.path().join("lab")).expect("a short path");
        let claim = folder.claim().expect("nobody is there");
        assert!(folder.is_claimed());
        let second = folder.claim().expect_err("taken").to_string();
        assert!(second.contains("already up"), "{second}");

        let plan = Plan {
            mode: Mode::Rootless,
            nodes: node_names(1),
            topology: None,
            python: Python::default(),
            supervisor: None,
        };
        folder.save(&plan).expect("writable");
        drop(claim);
        assert!(!folder.is_claimed());
        let after_crash = folder.claim().expect_err("a plan is left").to_string();
        assert!(after_crash.contains("left things behind"), "{after_crash}");
        assert_eq!(folder.load().expect("readable").expect("there").nodes, plan.nodes);

        folder.clear().expect("removable");
        assert!(!folder.path().exists());
        folder.clear().expect("twice does no harm");
    }

    #[test]
    fn a_path_that_sockets_or_ssh_config_cannot_take_is_refused() {
        let long = format!("/{}", "x".repeat(120));
        for path in [long.as_str(), "/tmp/my lab", "/tmp/100%"] {
            assert!(Folder::at(Path::new(path)).is_err(), "{path}");
        }
    }
}
