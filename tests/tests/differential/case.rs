//! One call of ssh, run through a program, and what was seen of it.

use natssh_tests::{Running, World, programs};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Any case ends within this, on a machine that does much else.
const LIMIT: Duration = Duration::from_secs(90);

/// What a call's standard input is.
#[derive(Debug, Clone)]
pub(crate) enum Stdin {
    /// `/dev/null`.
    Null,
    /// Nothing at all: the descriptor is closed.
    Closed,
    /// A pipe that carries these bytes and then ends.
    Pipe(Vec<u8>),
    /// A file with these bytes.
    File(Vec<u8>),
    /// The same, at so many bytes from its start.
    FileFrom(Vec<u8>, u64),
}

/// What is expected to be different, with the reason.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Meant {
    /// Nothing.
    Same,
    /// What the program itself says on stderr.
    OwnWords(&'static str),
}

/// One call.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    name: String,
    options: Vec<String>,
    words: Vec<Vec<u8>>,
    stdin: Stdin,
    environment: Vec<(&'static str, &'static str)>,
    meant: Meant,
}

/// What was seen.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The exit status; none when a signal ended it.
    pub(crate) code: Option<i32>,
    /// Standard output.
    pub(crate) stdout: Vec<u8>,
    /// Standard error.
    pub(crate) stderr: String,
    /// The files left in the folder, with their contents.
    files: BTreeMap<String, Vec<u8>>,
    /// How long it ran.
    pub(crate) took: Duration,
}

/// A program with the world's configuration, before any word of a case.
pub(crate) fn call(world: &World, program: &str, words: &[&str]) -> Command {
    let mut command = match program {
        "ssh" => world.command("ssh"),
        other => world.command(programs::path(other)),
    };
    command.arg("-F").arg(world.ssh_config_path()).args(words);
    command
}

impl Case {
    /// A command on a node, with options before the host. `@` in it is the folder that the case may write to.
    pub(crate) fn new(name: &str, options: &[&str], command: &str) -> Self {
        let options = options.iter().map(|word| (*word).to_owned()).collect();
        Self {
            name: name.to_owned(),
            options,
            words: vec![command.as_bytes().to_vec()],
            stdin: Stdin::Null,
            environment: Vec::new(),
            meant: Meant::Same,
        }
    }

    /// The command as several words, some of them perhaps empty, or none at all.
    pub(crate) fn words(mut self, words: &[&[u8]]) -> Self {
        self.words = words.iter().map(|word| word.to_vec()).collect();
        self
    }

    /// With this input.
    pub(crate) fn stdin(mut self, stdin: Stdin) -> Self {
        self.stdin = stdin;
        self
    }

    /// With this variable in the caller's environment.
    pub(crate) fn env(mut self, name: &'static str, value: &'static str) -> Self {
        self.environment.push((name, value));
        self
    }

    /// Not the same in this.
    pub(crate) fn meant(mut self, meant: Meant) -> Self {
        self.meant = meant;
        self
    }

    /// Runs it.
    ///
    /// # Panics
    /// When it does not end.
    pub(crate) fn run(&self, world: &World, program: &str) -> Seen {
        static RUNS: AtomicUsize = AtomicUsize::new(0);
        let run = RUNS.fetch_add(1, Ordering::Relaxed);
        let folder = world.path().join(format!("case-{run}"));
        fs::create_dir(&folder).expect("our own folder");
        let mut command = self.prepared(world, program, &folder, run);
        command.envs(self.environment.iter().copied());
        let mut running = Running::interactive(command);
        if let Stdin::Pipe(bytes) = &self.stdin {
            running.write(bytes);
        }
        let said = running.end_within(LIMIT);
        let files = fs::read_dir(&folder).expect("our own folder").map(|entry| {
            let path = entry.expect("our own folder").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            (name, fs::read(path).unwrap_or_default())
        });
        let folder = folder.display().to_string();
        let stdout = replace(&said.stdout, folder.as_bytes());
        let stderr = said.stderr.replace(&folder, "@");
        Seen { code: said.code, stdout, stderr, files: files.collect(), took: said.took }
    }

    /// The command, with its input where that is no pipe: a shell sets it up, and becomes the program.
    fn prepared(&self, world: &World, program: &str, folder: &Path, run: usize) -> Command {
        let input = world.path().join(format!("input-{run}"));
        let redirection = match &self.stdin {
            Stdin::Null => "</dev/null".to_owned(),
            Stdin::Closed => "<&-".to_owned(),
            Stdin::Pipe(_) => String::new(),
            Stdin::File(bytes) | Stdin::FileFrom(bytes, _) => {
                fs::File::create(&input).and_then(|mut file| file.write_all(bytes)).expect("our own folder");
                format!("<{}", input.display())
            }
        };
        let skip = match &self.stdin {
            Stdin::FileFrom(_, at) => format!("head -c {at} >/dev/null; "),
            _ => String::new(),
        };
        let inner = call(world, program, &[]);
        let mut command = world.command("sh");
        command.args(["-c", &format!("{{ {skip}exec \"$@\"; }} {redirection}"), "sh"]);
        command.arg(inner.get_program()).args(inner.get_args());
        let place = |word: &[u8]| put(word, folder.display().to_string().as_bytes());
        command.args(self.options.iter().map(|word| word.replace('@', &folder.display().to_string())));
        command.arg("control-plane");
        for word in &self.words {
            use std::os::unix::ffi::OsStringExt;
            command.arg(std::ffi::OsString::from_vec(place(word)));
        }
        command
    }

    /// Whether both are as they should be.
    pub(crate) fn judge(&self, theirs: &Seen, ours: &Seen) -> Result<(), String> {
        let (stderr, but) = match self.meant {
            Meant::Same => (theirs.stderr == ours.stderr, ""),
            Meant::OwnWords(reason) => (true, reason),
        };
        let same =
            theirs.code == ours.code && theirs.stdout == ours.stdout && theirs.files == ours.files && stderr;
        let (name, theirs, ours) = (&self.name, short(theirs), short(ours));
        if same { Ok(()) } else { Err(format!("{name} ({but})\n  ssh:    {theirs}\n  natssh: {ours}")) }
    }
}

fn short(seen: &Seen) -> String {
    let cut = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned();
        format!("{} bytes {text:?}", bytes.len())
    };
    let files: Vec<_> = seen.files.iter().map(|(name, bytes)| format!("{name}: {}", cut(bytes))).collect();
    format!("{:?}; {}; stderr {}; files {files:?}", seen.code, cut(&seen.stdout), cut(seen.stderr.as_bytes()))
}

/// `word` with `@` as the folder.
fn put(word: &[u8], folder: &[u8]) -> Vec<u8> {
    word.iter().flat_map(|byte| if *byte == b'@' { folder.to_vec() } else { vec![*byte] }).collect()
}

/// The reverse, so that the two folders look alike.
fn replace(text: &[u8], folder: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix(folder) {
            out.push(b'@');
            rest = after;
        } else {
            out.push(rest[0]);
            rest = &rest[1..];
        }
    }
    out
}
