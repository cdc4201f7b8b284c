//! What a story needs before it begins.

use std::path::{Path, PathBuf};
use std::time::Duration;

use natssh_lab::account;
use natssh_lab::ca::KeyKind;
use natssh_lab::credentials::Credentials;
use natssh_lab::proxy::{Face, TlsRouting};
use natssh_lab::relay;
use natssh_lab::state::{Folder, Mode};
use natssh_lab::{Lab, Options};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};

use crate::programs;
use crate::world::{Parts, World};

/// A world that is still to be made: two nodes behind a current proxy, a
/// configuration that sends every host there, and a broker that runs.
#[derive(Debug)]
pub struct Plan {
    mode: Mode,
    nodes: usize,
    rtt: Duration,
    face: Face,
    tls_routing: TlsRouting,
    keys: Option<KeyKind>,
    relay: bool,
    broker: bool,
    upstream: String,
    identity: Option<fn(&Credentials) -> String>,
    more: String,
}

impl Default for Plan {
    fn default() -> Self {
        Self::new()
    }
}

impl Plan {
    /// The usual world.
    pub fn new() -> Self {
        Self {
            mode: Mode::Rootless,
            nodes: 2,
            rtt: Duration::ZERO,
            face: Face::New,
            tls_routing: TlsRouting::Off,
            keys: None,
            relay: false,
            broker: true,
            upstream: String::new(),
            identity: None,
            more: String::new(),
        }
    }

    /// So many nodes: `control-plane`, `worker`, `worker-2` …
    #[must_use]
    pub fn nodes(mut self, nodes: usize) -> Self {
        self.nodes = nodes;
        self
    }

    /// Nodes that are machines of their own, which only root may make: see [`natssh_lab::netns::available`].
    #[must_use]
    pub fn rooted(mut self) -> Self {
        self.mode = Mode::Rooted;
        self
    }

    /// A distant proxy.
    #[must_use]
    pub fn round_trip(mut self, rtt: Duration) -> Self {
        self.rtt = rtt;
        self
    }

    /// A proxy of this age.
    #[must_use]
    pub fn face(mut self, face: Face) -> Self {
        self.face = face;
        self
    }

    /// A proxy with one port for everything, SSH inside TLS.
    #[must_use]
    pub fn tls_routing(self) -> Self {
        self.behind(TlsRouting::On)
    }

    /// A proxy behind this.
    #[must_use]
    pub fn behind(mut self, tls_routing: TlsRouting) -> Self {
        self.tls_routing = tls_routing;
        self
    }

    /// A cluster with keys of this kind. Otherwise they are Ed25519, which is
    /// made in no time, or RSA where an old face must have it.
    #[must_use]
    pub fn keys(mut self, keys: KeyKind) -> Self {
        self.keys = Some(keys);
        self
    }

    /// A relay between broker and proxy, to break the path with: [`World::relay`].
    #[must_use]
    pub fn relay(mut self) -> Self {
        self.relay = true;
        self
    }

    /// No broker is started; whoever needs one starts it, as `natssh` does.
    #[must_use]
    pub fn without_broker(mut self) -> Self {
        self.broker = false;
        self
    }

    /// More lines of `[upstream.lab]`.
    #[must_use]
    pub fn upstream(mut self, lines: &str) -> Self {
        self.upstream = lines.to_owned();
        self
    }

    /// The lines of `[identity.me]`, instead of the tsh profile.
    #[must_use]
    pub fn identity(mut self, lines: fn(&Credentials) -> String) -> Self {
        self.identity = Some(lines);
        self
    }

    /// More tables of the configuration.
    #[must_use]
    pub fn config(mut self, tables: &str) -> Self {
        self.more = tables.to_owned();
        self
    }

    /// Makes it.
    ///
    /// # Panics
    /// When something does not come up; the sentence says what.
    #[track_caller]
    pub fn start(self) -> World {
        let dir = short_folder();
        let path = dir.path().canonicalize().expect("it was just made");
        let folder = Folder::at(&path.join("lab")).expect("a short path");
        let lab = Lab::up(Options {
            mode: self.mode,
            nodes: self.nodes,
            rtt: self.rtt,
            face: self.face,
            tls_routing: self.tls_routing,
            keys: self.keys.unwrap_or(match self.face {
                Face::Old => KeyKind::Rsa,
                Face::New => KeyKind::Ed25519,
            }),
            program: programs::path("natssh-lab"),
            ..Options::rootless(&folder_path(&folder)).expect("the lab's program is built")
        })
        .unwrap_or_else(|error| panic!("the lab does not come up: {error:#}"));
        let runtime = threads();
        let proxy = lab.status().expect("the lab answers").proxy;
        let relay = self.relay.then(|| {
            let _inside = runtime.enter();
            let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a free port");
            relay::start(listener, proxy, Duration::ZERO).expect("a listener has an address")
        });
        let address = relay.as_ref().map_or(proxy, natssh_lab::relay::Relay::address);
        let credentials = Credentials::at(&folder);
        let identity = self.identity.map_or_else(|| "tsh = true".to_owned(), |lines| lines(&credentials));
        let tls = match self.tls_routing {
            TlsRouting::Off => String::new(),
            TlsRouting::On => "tls_routing = true\n".to_owned(),
            TlsRouting::WebSocket | TlsRouting::Frames => format!(
                "tls_routing = true\nconnection_upgrade = true\ntls_ca = [{:?}]\n",
                credentials.web_certificate()
            ),
        };
        let config = format!(
            "default = \"lab\"\n\n[upstream.lab]\nkind = \"teleport\"\nproxy = \"{address}\"\n\
             identity = \"me\"\n{tls}{}\n\n[identity.me]\n{identity}\n\n{}\n",
            self.upstream, self.more
        );
        let login = account::login(self.mode).expect("the lab has found it too");
        let world = World::new(Parts {
            dir,
            path,
            lab,
            runtime,
            relay,
            credentials,
            login,
            tls_routing: self.tls_routing,
        });
        world.write_config(&config);
        world.write_ssh_config("");
        if self.broker {
            world.start_broker();
        }
        world
    }
}

fn folder_path(folder: &Folder) -> PathBuf {
    folder.path().to_owned()
}

/// A folder whose path leaves room for the name of a socket.
fn short_folder() -> TempDir {
    let usual = std::env::temp_dir();
    let parent = if usual.as_os_str().len() < 40 { usual.as_path() } else { Path::new("/tmp") };
    tempfile::Builder::new().prefix("nt").tempdir_in(parent).expect("a folder for the story")
}

fn threads() -> Runtime {
    let built = Builder::new_multi_thread().worker_threads(2).thread_name("story").enable_all().build();
    built.expect("threads for the story")
}
