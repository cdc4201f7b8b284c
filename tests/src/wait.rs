//! Waiting for something to become true, and no longer than that.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long anything may take that has no limit of its own: generous, because
/// it is only ever used up by a failure.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(5);

/// Looks until `look` has found something.
///
/// # Panics
/// When it has found nothing within [`PATIENCE`]; `what` says what was waited for.
pub fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, look).unwrap_or_else(|| panic!("waited {} s for this: {what}", PATIENCE.as_secs()))
}

/// Waits until somebody listens at a socket: its name is there a little before.
///
/// # Panics
/// When nobody does within [`PATIENCE`].
pub fn until_heard_at(socket: &Path) {
    until("somebody listens at the socket", || UnixStream::connect(socket).ok());
}

/// What `look` finds within `limit`, if anything.
pub fn within<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(LOOK);
    }
}
