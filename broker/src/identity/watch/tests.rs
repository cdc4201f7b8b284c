//! What a change of the files means, and what a half-finished one does not.

use super::*;
use crate::identity::Credential;
use crate::identity::testing::{NOW, ed25519, pem, user_certificate, write};
use std::fs;
use std::path::PathBuf;
use std::thread;

/// A key and a certificate as OpenSSH keeps them.
struct Place {
    _folder: tempfile::TempDir,
    key: PathBuf,
    certificate: PathBuf,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (key, certificate) = (folder.path().join("id"), folder.path().join("cert"));
        let place = Self { _folder: folder, key, certificate };
        place.put(1, "alice");
        place
    }

    fn put(&self, seed: u8, user: &str) {
        write(&self.key, pem(&ed25519(seed)));
        write(&self.certificate, certificate(seed, user));
    }

    fn watched(&self) -> Watched {
        let source = Source::Keys { key: self.key.clone(), certificate: Some(self.certificate.clone()) };
        Watched::open("work", source)
    }
}

fn certificate(seed: u8, user: &str) -> String {
    user_certificate(&ed25519(seed), user, &["root"]).to_openssh().unwrap()
}

fn user(snapshot: &Snapshot) -> &str {
    snapshot.identity.as_ref().unwrap().user.as_deref().unwrap()
}

#[test]
fn a_look_does_for_whoever_came_before_it_began() {
    let place = Place::new();
    let watched = place.watched();
    let before = Instant::now();
    assert!(watched.seen_since(before).is_none(), "that look was over when this one came");
    watched.refresh();
    place.put(2, "bob");
    assert_eq!(user(&watched.seen_since(before).unwrap()), "alice");
    assert_eq!(user(&watched.refreshed_since(before)), "alice", "no look of its own");
    let after = Instant::now();
    assert!(watched.seen_since(after).is_none());
    assert_eq!(user(&watched.refreshed_since(after)), "bob");
}

#[test]
fn what_does_not_change_is_not_read_again() {
    let place = Place::new();
    let watched = place.watched();
    let first = watched.current();
    assert_eq!((first.generation, user(&first)), (1, "alice"));
    assert!(Arc::ptr_eq(&first, &watched.refresh()));
    // Once the files have settled, a look at them is enough.
    thread::sleep(Duration::from_millis(150));
    watched.refresh();
    assert!(watched.state.lock().unwrap().files.unchanged());
    // The same again, written anew, is read and is no news.
    let receiver = watched.subscribe();
    place.put(1, "alice");
    assert!(!watched.state.lock().unwrap().files.unchanged());
    assert!(Arc::ptr_eq(&first, &watched.refresh()));
    assert!(!receiver.has_changed().unwrap());
}

#[test]
fn a_new_certificate_is_a_new_generation_at_once() {
    let place = Place::new();
    let watched = place.watched();
    let mut receiver = watched.subscribe();
    let users = ["bob", "eve", "mallory", "alice"];
    for (n, name) in users.into_iter().enumerate() {
        if n % 2 == 0 {
            // In place, as tsh writes, and too soon after the last time for the clock of the file system to tell.
            fs::write(&place.certificate, certificate(1, name)).unwrap();
        } else {
            let beside = place.certificate.with_extension("new");
            write(&beside, certificate(1, name));
            fs::rename(beside, &place.certificate).unwrap();
        }
        let snapshot = watched.refresh();
        assert_eq!((user(&snapshot), snapshot.generation), (name, n as u64 + 2));
        assert_eq!(snapshot.identity.as_ref().unwrap().generation, snapshot.generation);
        assert!(receiver.has_changed().unwrap());
        assert!(Arc::ptr_eq(&receiver.borrow_and_update(), &snapshot));
    }
}

#[test]
fn a_file_caught_half_written_is_waited_for() {
    let place = Place::new();
    let watched = place.watched();
    // The key is new already, the certificate still the old one, then empty, then cut short.
    write(&place.key, pem(&ed25519(2)));
    let (path, whole) = (place.certificate.clone(), certificate(2, "bob"));
    let writer = thread::spawn(move || {
        for (pause, part) in [(10, ""), (10, &whole[..whole.len() / 2]), (10, &*whole)] {
            thread::sleep(Duration::from_millis(pause));
            fs::write(&path, part).unwrap();
        }
    });
    let snapshot = watched.refresh();
    writer.join().unwrap();
    assert_eq!((user(&snapshot), snapshot.generation), ("bob", 2));
}

#[test]
fn a_writer_that_is_held_up_behind_an_empty_file_is_waited_for() {
    let place = Place::new();
    let watched = place.watched();
    fs::write(&place.certificate, "").unwrap();
    let (path, whole) = (place.certificate.clone(), certificate(1, "bob"));
    let writer = thread::spawn(move || {
        thread::sleep(Duration::from_millis(400));
        fs::write(&path, whole).unwrap();
    });
    let snapshot = watched.refresh();
    writer.join().unwrap();
    assert_eq!((user(&snapshot), snapshot.generation), ("bob", 2));
}

#[test]
fn after_a_logout_nothing_is_usable() {
    let place = Place::new();
    let watched = place.watched();
    fs::remove_file(&place.key).unwrap();
    let gone = watched.refresh();
    let failure = gone.usable(NOW).unwrap_err().to_failure();
    assert_eq!(failure.message, format!("there is no private key at {}", place.key.display()));
    assert_eq!(gone.generation, 1);
    assert!(Arc::ptr_eq(&gone, &watched.refresh()), "the same trouble is no news");

    place.put(1, "alice");
    assert_eq!(watched.refresh().generation, 1, "the same identity once more: its trunks may go on");
    place.put(1, "bob");
    assert_eq!(watched.refresh().generation, 2);
}

#[test]
fn a_chmod_is_enough() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new();
    fs::set_permissions(&place.key, fs::Permissions::from_mode(0o644)).unwrap();
    let watched = place.watched();
    assert!(watched.current().identity.is_err());
    fs::set_permissions(&place.key, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(user(&watched.refresh()), "alice");
}

#[test]
fn status_says_how_it_stands_and_what_to_do() {
    let place = Place::new();
    let watched = place.watched();
    let valid = watched.status(NOW);
    assert_eq!(valid.state, status::IdentityState::Valid);
    assert_eq!((valid.name.as_str(), valid.user.as_deref(), valid.generation), ("work", Some("alice"), 1));
    assert_eq!((valid.valid_from, valid.valid_until), (Some(NOW - 3600), Some(NOW + 3600)));
    assert_eq!(valid.source, format!("key {}", place.key.display()));
    assert_eq!((valid.message, valid.hint), (None, None));
    let expiring = watched.status(NOW + 3500);
    assert_eq!(expiring.state, status::IdentityState::Expiring);
    assert_eq!(expiring.message.unwrap(), "the certificate of alice expires in 1 minute");
    assert!(expiring.hint.is_some());
    let expired = watched.status(NOW + 3601);
    assert_eq!(expired.state, status::IdentityState::Expired);
    assert_eq!(expired.message.unwrap(), "the certificate of alice expired 1 second ago");
    assert_eq!(watched.status(0).state, status::IdentityState::NotYetValid);
    fs::remove_file(&place.certificate).unwrap();
    assert_eq!(watched.status(NOW).state, status::IdentityState::Valid, "status itself looks at no file");
    watched.refresh();
    let unusable = watched.status(NOW);
    assert_eq!((unusable.state, unusable.user), (status::IdentityState::Unusable, None));
    assert!(unusable.message.unwrap().starts_with("there is no certificate at "));
}

#[test]
fn an_end_is_announced_once_and_after_a_renewal_again() {
    let place = Place::new();
    let watched = place.watched();
    let lines = |now| watched.announce(now);
    assert_eq!([NOW, NOW + 3500, NOW + 3501, NOW + 3600, NOW + 9999].map(lines), [0, 1, 0, 1, 0]);
    place.put(2, "alice");
    watched.refresh();
    assert_eq!([NOW, NOW + 3500, NOW + 3501].map(lines), [0, 1, 0]);
    fs::remove_file(&place.key).unwrap();
    watched.refresh();
    assert_eq!(lines(NOW + 3600), 0, "of a logout the log has told already");
}

#[tokio::test]
async fn a_slow_clock_notices_by_itself() {
    let place = Place::new();
    let watched = Arc::new(place.watched());
    let mut receiver = watched.subscribe();
    let clock = tokio::spawn(watched.clone().keep_fresh(Duration::from_millis(20)));
    fs::write(&place.certificate, certificate(1, "bob")).unwrap();
    tokio::time::timeout(Duration::from_secs(10), receiver.changed()).await.unwrap().unwrap();
    assert_eq!(user(&receiver.borrow()), "bob");
    clock.abort();
}

#[test]
fn a_key_is_never_paired_with_the_certificate_of_another() {
    let place = Place::new();
    let watched = place.watched();
    let (key_path, certificate_path) = (place.key.clone(), place.certificate.clone());
    let writer = thread::spawn(move || {
        for n in 0..40_u8 {
            fs::write(&key_path, pem(&ed25519(n % 7))).unwrap();
            fs::write(&certificate_path, certificate(n % 7, "alice")).unwrap();
            thread::sleep(Duration::from_millis(5));
        }
    });
    let mut seen = 0;
    while !writer.is_finished() {
        let Ok(Identity { credential: Credential::Key { key, certificate }, .. }) =
            &watched.refresh().identity
        else {
            continue;
        };
        assert_eq!(certificate.as_ref().unwrap().public_key(), key.public_key().key_data());
        seen += 1;
    }
    writer.join().unwrap();
    assert!(seen > 0 && watched.refresh().identity.is_ok());
}

#[test]
fn what_could_not_be_read_for_want_of_something_else_is_read_again_though_no_file_has_changed() {
    let place = Place::new();
    // Files that were written a moment ago are read again in any case.
    thread::sleep(Duration::from_millis(150));
    let watched = place.watched();
    assert!(watched.state.lock().unwrap().files.unchanged());
    let generation = watched.current().generation;
    let identity = Err(IdentityError::Unreadable { path: place.key, why: "too many open files".into() });
    watched.published.send_replace(Arc::new(Snapshot { generation, identity }));
    let healed = watched.refresh();
    assert_eq!((user(&healed), healed.generation), ("alice", generation));
}
