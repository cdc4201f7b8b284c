//! One broker a user: the lock, the socket, and leaving both in good order.

use listenfd::ListenFd;
use natssh_wire::paths::Paths;
use rustix::fs::{FlockOperation, flock};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::time::interval;

/// The claim to be the user's broker. Nobody can call it yet.
pub(super) struct Claim {
    socket: PathBuf,
    /// Held for as long as the claim; the file itself stays, or two brokers
    /// could hold locks on two files of one name.
    lock: File,
}

/// The user's broker, which can be called.
pub(super) struct Instance {
    socket: PathBuf,
    lock: File,
    activated: bool,
    listener: StdListener,
    /// Device and inode of the socket, to know it again.
    identity: (u64, u64),
}

impl Claim {
    /// Takes the lock; none if another broker holds it.
    pub(super) fn take(paths: &Paths) -> Result<Option<Self>, String> {
        let folder = paths.socket.parent().unwrap_or(Path::new("/"));
        private_folder(folder)?;
        private_folder(&paths.state_dir)?;
        let mut lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&paths.lock)
            .map_err(|error| format!("the lock {} cannot be opened: {error}", paths.lock.display()))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(format!("the lock {} cannot be taken: {error}", paths.lock.display())),
        }
        // For people; natssh itself asks the lock.
        drop(lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id())));
        Ok(Some(Self { socket: paths.socket.clone(), lock }))
    }

    /// Makes the socket. This comes last: whoever connects is to be answered by a
    /// broker, and not dropped by one that has just found its configuration wrong.
    pub(super) fn open(self) -> Result<Instance, String> {
        let Self { socket, lock } = self;
        let cannot =
            |what: &str, error: &dyn std::fmt::Display| format!("{what} {}: {error}", socket.display());
        let (listener, activated) = match inherited()? {
            Some(listener) => (listener, true),
            None => (bind(&socket).map_err(|error| cannot("the socket cannot be made:", &error))?, false),
        };
        let named = listener.local_addr().ok().and_then(|addr| addr.as_pathname().map(Path::to_owned));
        let place = named.unwrap_or_else(|| socket.clone());
        let found =
            std::fs::symlink_metadata(&place).map_err(|error| cannot("the socket is not there:", &error))?;
        let identity = (found.dev(), found.ino());
        Ok(Instance { socket: place, lock, activated, listener, identity })
    }
}

impl Instance {
    /// The socket to serve.
    pub(super) fn listener(&self) -> Result<UnixListener, String> {
        let listener = self.listener.try_clone().and_then(|listener| {
            listener.set_nonblocking(true)?;
            UnixListener::from_std(listener)
        });
        listener.map_err(|error| format!("{} cannot be listened to: {error}", self.socket.display()))
    }

    /// Waits until the socket is no longer there, or is another one: nobody could reach this broker then.
    pub(super) async fn vanished(&self, every: Duration) {
        let mut ticks = interval(every);
        while self.is_mine() {
            ticks.tick().await;
        }
    }

    /// Leaves the name to the next broker. A socket that systemd made is systemd's.
    pub(super) fn give_up(self) {
        if !self.activated && self.is_mine() {
            drop(std::fs::remove_file(&self.socket));
        }
        drop(self.lock);
    }

    fn is_mine(&self) -> bool {
        std::fs::symlink_metadata(&self.socket).is_ok_and(|found| (found.dev(), found.ino()) == self.identity)
    }
}

/// A listener handed over by systemd (sd_listen_fds(3)).
fn inherited() -> Result<Option<StdListener>, String> {
    let taken = ListenFd::from_env().take_unix_listener(0);
    taken.map_err(|error| format!("the socket handed over by the service manager is no unix socket: {error}"))
}

/// Binds in place of a socket that a dead broker left: the lock says that it is dead.
fn bind(socket: &Path) -> io::Result<StdListener> {
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = StdListener::bind(socket)?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// A folder that only this user can enter, made if need be.
fn private_folder(folder: &Path) -> Result<(), String> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| format!("the folder {} cannot be made: {error}", folder.display()))?;
    let found = std::fs::metadata(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let uid = rustix::process::geteuid().as_raw();
    if found.uid() != uid {
        return Err(format!(
            "the folder {} belongs to user {} and not to {uid}",
            folder.display(),
            found.uid()
        ));
    }
    if found.mode() & 0o022 != 0 {
        let text = "lets others write in it";
        return Err(format!("the folder {} {text} (chmod 700 {})", folder.display(), folder.display()));
    }
    Ok(())
}

/// Lets go of the starter's pipe: it waits for this end, and takes it as "ready".
pub(super) fn release_stderr() {
    if let Ok(null) = OpenOptions::new().write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stderr(&null);
    }
}
