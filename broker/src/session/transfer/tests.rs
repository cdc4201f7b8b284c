//! Files to and from servers with other habits than the newest OpenSSH's, which the stories have.

mod fake;

use super::put::Unfinished;
use super::*;
use crate::session::{Event, Gone};
use fake::{File, Habits, Server};
use proptest::prelude::*;
use std::collections::VecDeque;
use tokio::time::Instant;

const PATH: &str = "/x";
/// Somebody's file.
const OLD: &[u8] = b"old";

/// A client with parts to give, each after a while.
struct Giver {
    parts: VecDeque<Vec<u8>>,
    pause: Duration,
    taken: usize,
}

impl Giver {
    fn of(parts: impl IntoIterator<Item = Vec<u8>>) -> Self {
        Self { parts: parts.into_iter().collect(), pause: Duration::ZERO, taken: 0 }
    }
}

impl Source for Giver {
    async fn next(&mut self) -> Result<Option<Bytes>, Left> {
        if !self.pause.is_zero() {
            tokio::time::sleep(self.pause).await;
        }
        self.taken += 1;
        Ok(self.parts.pop_front().map(Bytes::from))
    }

    fn is_there(&self) -> bool {
        true
    }
}

#[derive(Default)]
struct Taker(Vec<u8>);

impl Sink for Taker {
    async fn write(&mut self, bytes: Bytes) -> Result<(), Left> {
        self.0.extend_from_slice(&bytes);
        Ok(())
    }
}

/// A node where only one thing happens.
struct Odd(std::sync::Mutex<VecDeque<Event>>);

impl Odd {
    fn says(events: impl IntoIterator<Item = Event>) -> Self {
        Self(std::sync::Mutex::new(events.into_iter().collect()))
    }
}

impl Remote for Odd {
    async fn next(&self) -> Event {
        let next = self.0.lock().unwrap().pop_front();
        match next {
            Some(event) => event,
            None => std::future::pending().await,
        }
    }

    async fn write(&self, _: Bytes) -> Result<(), Gone> {
        Ok(())
    }

    async fn finish_writing(&self) -> Result<(), Gone> {
        Ok(())
    }
}

fn order() -> Order {
    Order { path: PATH.into(), mode: Mode::new(0o666).unwrap(), number: 7 }
}

fn old() -> File {
    (OLD.to_vec(), 0o640, (5, 6))
}

async fn put_to(server: &Server, parts: Vec<Vec<u8>>) -> Result<(), Unfinished> {
    put(server, &mut Talk::default(), &order(), &mut Giver::of(parts)).await
}

async fn get_from(server: &Server) -> Result<Vec<u8>, Stopped> {
    let mut taker = Taker::default();
    get(server, &mut Talk::default(), PATH.as_bytes(), |_| true, &mut taker).await.map(|_| taker.0)
}

fn here<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// However the client cuts it, however little the server gives at a time and in whichever order: the same bytes.
    #[test]
    fn bytes_come_back_as_they_went(
        parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..90_000), 0..6),
        reads in prop_oneof![1_000..200_000usize, Just(32usize << 10)],
        replaces: bool, turns: bool, there: bool,
    ) {
        let habits = Habits { replaces, reads, turns, ..Habits::default() };
        let server = Server::new(habits);
        let server = if there { server.with(PATH, old()) } else { server };
        here(async {
            put_to(&server, parts.clone()).await.unwrap();
            assert_eq!(server.files(), 1);
            let (bytes, mode, owner) = server.file(PATH).unwrap();
            assert_eq!((mode, owner), if there { (0o640, (5, 6)) } else { (0o644, (0, 0)) });
            assert!(bytes == parts.concat(), "other bytes arrived");
            let again = Server::new(habits).with(PATH, (bytes, mode, owner));
            assert!(get_from(&again).await.unwrap() == parts.concat(), "other bytes came back");
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// One conversation carries one file after the other, whatever is still on its way from the last one.
    #[test]
    fn one_conversation_carries_many_files(
        files in prop::collection::vec((any::<bool>(), 0..100_000usize, any::<u8>()), 1..8),
        reads in prop_oneof![1_000..200_000usize, Just(32usize << 10)],
        turns: bool,
    ) {
        let server = Server::new(Habits { reads, turns, ..Habits::default() }).with(PATH, old());
        here(async {
            let (mut talk, mut expected) = (Talk::default(), OLD.to_vec());
            for (is_put, length, byte) in files {
                if is_put {
                    expected = vec![byte; length];
                    let mut giver = Giver::of([expected.clone()]);
                    put(&server, &mut talk, &order(), &mut giver).await.unwrap();
                    assert!(server.file(PATH).unwrap().0 == expected && server.files() == 1);
                } else {
                    let mut taker = Taker::default();
                    let got = get(&server, &mut talk, PATH.as_bytes(), |_| true, &mut taker).await;
                    assert!(got == Ok(Got::Whole) && taker.0 == expected);
                }
                talk = talk.rest().expect("nothing is left to be said");
                assert!(!talk.is_new());
            }
        });
    }
}

#[tokio::test]
async fn a_conversation_that_failed_or_never_began_does_not_rest() {
    assert!(Talk::default().rest().is_none());
    let server = Server::new(Habits { room: 100_000, ..Habits::default() });
    let mut talk = Talk::default();
    let mut giver = Giver::of([vec![7; 300_000]]);
    put(&server, &mut talk, &order(), &mut giver).await.unwrap_err();
    assert!(talk.rest().is_none(), "answers to writes are to come");
}

#[tokio::test]
async fn a_full_disk_leaves_the_old_file_alone() {
    for turns in [false, true] {
        let server = Server::new(Habits { room: 100_000, turns, ..Habits::default() }).with(PATH, old());
        let unfinished = put_to(&server, vec![vec![7; 300_000]]).await.unwrap_err();
        let why = Stopped::File("cannot write /x: Failure".into());
        assert_eq!(unfinished, Unfinished { why, left: None, harm: Harm::None });
        assert_eq!((server.files(), server.file(PATH)), (1, Some(old())));
    }
}

#[tokio::test]
async fn a_file_whose_owner_cannot_be_kept_is_written_in_place() {
    let server = Server::new(Habits { owns: false, ..Habits::default() }).with(PATH, old());
    put_to(&server, vec![b"new".to_vec()]).await.unwrap();
    assert_eq!((server.files(), server.file(PATH)), (1, Some((b"new".to_vec(), 0o640, (5, 6)))));
    let full = Server::new(Habits { owns: false, room: 2, ..Habits::default() }).with(PATH, old());
    assert_eq!(put_to(&full, vec![b"new".to_vec()]).await.unwrap_err().harm, Harm::Part);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_does_nothing_is_given_up_and_what_it_may_keep_is_told() {
    for answers in 1..5 {
        let server = Server::new(Habits { answers, ..Habits::default() });
        let begun = Instant::now();
        let unfinished = put_to(&server, vec![vec![7; 100]]).await.unwrap_err();
        let left = Some(b"/.natssh-0000000000000007".to_vec());
        assert_eq!(unfinished, Unfinished { why: Stopped::Stalled, left, harm: Harm::None }, "{answers}");
        assert_eq!(begun.elapsed(), STALLED);
    }
    let server = Server::new(Habits { answers: 3, ..Habits::default() }).with(PATH, old());
    assert_eq!(get_from(&server).await, Err(Stopped::Stalled));
}

#[tokio::test(start_paused = true)]
async fn a_client_may_take_its_time() {
    let server = Server::new(Habits::default());
    let mut giver = Giver::of([b"one ".to_vec(), b"two".to_vec()]);
    giver.pause = Duration::from_secs(3600);
    put(&server, &mut Talk::default(), &order(), &mut giver).await.unwrap();
    assert_eq!(server.file(PATH).unwrap().0, b"one two");
}

#[tokio::test]
async fn a_large_file_is_told_from_a_small_one_before_any_of_it_is_read() {
    let server = || Server::new(Habits::default()).with(PATH, (vec![7; 1000], 0o644, (0, 0)));
    for (most, got, read) in [(1000, Got::TooLarge, 0), (1001, Got::Whole, 1000)] {
        let mut taker = Taker::default();
        let fits = |size| size < most;
        let ended = get(&server(), &mut Talk::default(), PATH.as_bytes(), fits, &mut taker).await;
        assert_eq!(ended, Ok(got));
        assert_eq!(taker.0.len(), read);
    }
}

#[tokio::test]
async fn what_is_no_sftp_is_told_apart_and_nothing_of_the_clients_is_read() {
    let noise =
        Event::Output(natssh_wire::frame::Output::Stdout, Bytes::from_static(b"Welcome to node 7!\n"));
    for (events, why) in [
        (vec![Event::Refused], Stopped::NoSftp(Lacking::Surely)),
        (vec![Event::Started, Event::Exit(127)], Stopped::NoSftp(Lacking::Surely)),
        (vec![Event::Started, Event::Exit(1)], Stopped::NoSftp(Lacking::ForNow)),
        (vec![Event::Started, noise], Stopped::NotSftp("Welcome to node 7!".into())),
        (vec![Event::Started, Event::Cut("cut".into())], Stopped::Cut("cut".into())),
    ] {
        let mut giver = Giver::of([b"bytes".to_vec()]);
        let unfinished = put(&Odd::says(events.clone()), &mut Talk::default(), &order(), &mut giver).await;
        let unfinished = unfinished.unwrap_err();
        assert_eq!((unfinished.why, giver.taken), (why.clone(), 0));
        let got = get(&Odd::says(events), &mut Talk::default(), b"/x", |_| true, &mut Taker::default()).await;
        assert_eq!(got, Err(why));
    }
}
