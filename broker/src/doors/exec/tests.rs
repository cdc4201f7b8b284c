use super::pump::{Client, Command, Over};
use crate::session::{Event, Gone, Remote};
use crate::target::Need;
use bytes::Bytes;
use natssh_wire::frame::pieces::{Piece, Pieces};
use natssh_wire::frame::{FromBroker, FromClient, Output};
use natssh_wire::terminal::Size;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::time::timeout;

/// Longer than anything takes here that is not stuck.
const SOON: Duration = Duration::from_secs(10);

/// A command that does as the test says.
struct Played {
    events: tokio::sync::Mutex<mpsc::Receiver<Event>>,
    heard: Mutex<Heard>,
    news: Notify,
    /// Writes that it takes.
    takes: Semaphore,
}

#[derive(Debug, Default, Clone, PartialEq)]
struct Heard {
    stdin: Vec<u8>,
    has_ended: bool,
    signals: Vec<String>,
    sizes: Vec<(u32, u32)>,
    rekeyed: u32,
}

impl Played {
    fn new() -> (Self, mpsc::Sender<Event>) {
        let (say, events) = mpsc::channel(100);
        let (events, heard) = (tokio::sync::Mutex::new(events), Mutex::default());
        (Self { events, heard, news: Notify::new(), takes: Semaphore::new(1000) }, say)
    }

    fn hear(&self, change: impl FnOnce(&mut Heard)) {
        change(&mut self.heard.lock().unwrap_or_else(PoisonError::into_inner));
        self.news.notify_one();
    }

    async fn until(&self, wanted: impl Fn(&Heard) -> bool) -> Heard {
        let looked = timeout(SOON, async {
            loop {
                let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone();
                if wanted(&heard) {
                    return heard;
                }
                self.news.notified().await;
            }
        });
        looked.await.unwrap_or_else(|_| panic!("heard {:?}", self.heard))
    }
}

impl Remote for Played {
    async fn next(&self) -> Event {
        match self.events.lock().await.recv().await {
            Some(event) => event,
            None => std::future::pending().await,
        }
    }

    async fn write(&self, bytes: Bytes) -> Result<(), Gone> {
        self.takes.acquire().await.unwrap().forget();
        self.hear(|heard| heard.stdin.extend_from_slice(&bytes));
        Ok(())
    }

    async fn finish_writing(&self) -> Result<(), Gone> {
        self.hear(|heard| heard.has_ended = true);
        Ok(())
    }
}

impl Command for Played {
    async fn signal(&self, name: &str) -> Result<(), Gone> {
        self.hear(|heard| heard.signals.push(name.to_owned()));
        Ok(())
    }

    async fn resize(&self, size: Size) -> Result<(), Gone> {
        self.hear(|heard| heard.sizes.push((size.columns, size.rows)));
        Ok(())
    }

    async fn rekey(&self) -> Result<(), Gone> {
        self.hear(|heard| heard.rekeyed += 1);
        Ok(())
    }
}

fn client() -> (UnixStream, Client) {
    let (far, near) = UnixStream::pair().unwrap();
    (far, Client::new(near, Bytes::new()))
}

async fn send(socket: &mut UnixStream, frames: &[FromClient<'_>]) {
    let mut bytes = Vec::new();
    frames.iter().for_each(|frame| frame.encode(&mut bytes));
    socket.write_all(&bytes).await.unwrap();
}

/// Everything that a client gets until the end: stdout, stderr, and the last frame as text.
async fn all(mut socket: UnixStream) -> (Vec<u8>, Vec<u8>, String) {
    let mut bytes = Vec::new();
    timeout(SOON, socket.read_to_end(&mut bytes)).await.unwrap().unwrap();
    let (mut rest, mut pieces) = (&bytes[..], Pieces::default());
    let (mut stdout, mut stderr, mut last) = (Vec::new(), Vec::new(), String::new());
    while let Some(piece) = pieces.next(&mut rest).unwrap() {
        assert_eq!(last, "", "nothing follows the last frame");
        match piece {
            Piece::Output(Output::Stdout, bytes) => stdout.extend_from_slice(bytes),
            Piece::Output(Output::Stderr, bytes) => stderr.extend_from_slice(bytes),
            Piece::Frame(frame) => last = format!("{frame:?}"),
        }
    }
    (stdout, stderr, last)
}

#[tokio::test]
async fn input_goes_in_output_comes_out_and_the_end_is_told_last() {
    let (mut far, mut near) = client();
    let (command, say) = Played::new();
    let said = b"in\0put".repeat(50_000);
    let story = async {
        send(&mut far, &[FromClient::Stdin(&said[..100_000]), FromClient::Signal("TERM")]).await;
        send(&mut far, &[FromClient::Stdin(&said[100_000..]), FromClient::StdinEnd]).await;
        let heard = command.until(|heard| heard.has_ended).await;
        assert!(heard.stdin == said);
        assert_eq!(heard.signals, ["TERM"]);
        let output = |output, text: &'static [u8]| Event::Output(output, Bytes::from_static(text));
        for event in [Event::Started, output(Output::Stdout, b"out"), output(Output::Stderr, b"err")] {
            say.send(event).await.unwrap();
        }
        say.send(output(Output::Stdout, b"put")).await.unwrap();
        say.send(Event::Exit(3)).await.unwrap();
        all(far).await
    };
    let carried = async {
        let over = near.carry(&command, Need::Must).await;
        drop(near);
        over
    };
    let (over, came) = tokio::join!(carried, story);
    assert_eq!(over, Over::Told);
    assert_eq!(came, (b"output".to_vec(), b"err".to_vec(), "Exit(3)".to_owned()));
}

#[tokio::test]
async fn a_client_that_leaves_ends_it_even_while_its_input_is_stuck() {
    let (mut far, mut near) = client();
    let (command, _say) = Played::new();
    command.takes.forget_permits(usize::MAX);
    send(&mut far, &[FromClient::Stdin(b"nobody takes this"), FromClient::Stdin(b"nor this")]).await;
    drop(far);
    assert_eq!(timeout(SOON, near.carry(&command, Need::Must)).await, Ok(Over::ClientGone));

    let (far, mut near) = client();
    assert!(!near.has_left());
    drop(far);
    assert!(near.has_left());
    assert_eq!(timeout(SOON, near.carry(&command, Need::Must)).await, Ok(Over::ClientGone));
}

#[tokio::test]
async fn what_is_no_frame_ends_it_and_says_so() {
    let (mut far, mut near) = client();
    let (command, _say) = Played::new();
    far.write_all(b"\x01\0\0\0\x02hi\x77").await.unwrap();
    let Over::BadFrame(bad) = near.carry(&command, Need::Must).await else { panic!() };
    assert_eq!(bad.to_string(), "there is no frame of kind 0x77");
    assert_eq!(command.until(|_| true).await.stdin, b"hi");
}

#[tokio::test]
async fn a_refused_command_has_all_its_input_again() {
    let (mut far, mut near) = client();
    let (first, say) = Played::new();
    send(&mut far, &[FromClient::Stdin(b"one "), FromClient::Stdin(b"two")]).await;
    let refusal = async {
        first.until(|heard| heard.stdin == b"one two").await;
        say.send(Event::Refused).await.unwrap();
    };
    let (over, ()) = tokio::join!(near.carry(&first, Need::Must), refusal);
    assert_eq!(over, Over::Refused);
    assert!(near.could_start_again());

    let (second, say) = Played::new();
    let story = async {
        send(&mut far, &[FromClient::Stdin(b" three"), FromClient::StdinEnd]).await;
        let heard = second.until(|heard| heard.has_ended).await;
        assert_eq!(heard.stdin, b"one two three");
        say.send(Event::Exit(0)).await.unwrap();
    };
    let (over, ()) = tokio::join!(near.carry(&second, Need::Must), story);
    assert_eq!(over, Over::Told);
}

#[tokio::test]
async fn input_of_a_command_that_had_started_is_not_sent_again() {
    let (mut far, mut near) = client();
    let (command, say) = Played::new();
    let story = async {
        say.send(Event::Started).await.unwrap();
        say.send(Event::Output(Output::Stdout, Bytes::from_static(b"x"))).await.unwrap();
        far.read_exact(&mut [0; 6]).await.unwrap();
        send(&mut far, &[FromClient::Stdin(b"late")]).await;
        command.until(|heard| heard.stdin == b"late").await;
        say.send(Event::Cut("the wire broke".into())).await.unwrap();
    };
    let (over, ()) = tokio::join!(near.carry(&command, Need::Must), story);
    assert_eq!(over, Over::Cut("the wire broke".into()));
    assert!(!near.could_start_again());
}

#[tokio::test]
async fn a_command_that_prints_to_nobody_is_told_and_then_left() {
    let (mut far, mut near) = client();
    let (command, say) = Played::new();
    let story = async {
        send(&mut far, &[FromClient::Closed(Output::Stdout), FromClient::Stdin(b"x")]).await;
        command.until(|heard| heard.stdin == b"x").await;
        let many = Bytes::from(vec![0; 5 << 20]);
        say.send(Event::Output(Output::Stdout, many.clone())).await.unwrap();
        assert_eq!(command.until(|heard| !heard.signals.is_empty()).await.signals, ["PIPE"]);
        say.send(Event::Output(Output::Stderr, Bytes::from_static(b"broken pipe"))).await.unwrap();
        say.send(Event::Output(Output::Stdout, many)).await.unwrap();
        all(far).await
    };
    let carried = async {
        let over = near.carry(&command, Need::Must).await;
        drop(near);
        over
    };
    let (over, came) = tokio::join!(carried, story);
    assert_eq!(over, Over::Told);
    assert_eq!(came, (Vec::new(), b"broken pipe".to_vec(), "Killed(\"PIPE\")".to_owned()));
}

#[tokio::test]
async fn frames_to_tell_are_told() {
    let (far, mut near) = client();
    assert!(near.tell(&[FromBroker::Debug(1, "a line"), FromBroker::Exit(1)]).await);
    drop(near);
    let mut bytes = Vec::new();
    let mut far = far;
    far.read_to_end(&mut bytes).await.unwrap();
    assert_eq!(bytes, b"\x13\0\0\0\x07\x01a line\x14\0\0\0\x04\0\0\0\x01");
}

#[tokio::test]
async fn a_terminal_changes_its_size_and_may_be_refused() {
    let (mut far, mut near) = client();
    let (command, say) = Played::new();
    let story = async {
        let size = Size { columns: 132, rows: 43, ..Size::default() };
        send(&mut far, &[FromClient::Window(size), FromClient::Rekey]).await;
        let heard = command.until(|heard| heard.rekeyed == 1).await;
        assert_eq!(heard.sizes, [(132, 43)]);
        say.send(Event::NoTerminal).await.unwrap();
    };
    let (over, ()) = tokio::join!(near.carry(&command, Need::Must), story);
    assert_eq!(over, Over::NoTerminal);
    assert!(far.try_read(&mut [0; 1]).is_err(), "that is for the call to tell");

    let story = async {
        say.send(Event::NoTerminal).await.unwrap();
        say.send(Event::Output(Output::Stdout, Bytes::from_static(b"x"))).await.unwrap();
        say.send(Event::Exit(0)).await.unwrap();
    };
    let (over, ()) = tokio::join!(near.carry(&command, Need::May), story);
    assert_eq!(over, Over::Told);
    drop(near);
    let mut bytes = Vec::new();
    far.read_to_end(&mut bytes).await.unwrap();
    assert_eq!(bytes, b"\x17\0\0\0\0\x11\0\0\0\x01x\x14\0\0\0\x04\0\0\0\0");
}
