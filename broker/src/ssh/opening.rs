//! Opening channels of a connection.

use super::ahead::KEPT;
use super::channel::Channel;
use super::command::CommandChannel;
use super::connect::Connection;
use super::early::Early;
use super::half::Half;
use super::mailbox::Mailbox;
use super::refused_open::RefusedOpen;
use super::words::describe;
use natssh_wire::NodeAddr;
use russh::client::Msg;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::oneshot;
use tokio::time::sleep;

/// What a server is asked to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A host and port, resolved and dialled by the server.
    Tcp(NodeAddr),
    /// A unix socket on the server.
    Socket(String),
}

/// Why a stream was not opened. Nothing has run on the node.
#[derive(Debug, PartialEq, Eq)]
pub enum OpenError {
    /// The server said no; the text it gave, which may be empty.
    Refused(String),
    /// The server gave no channel at all.
    NoChannel(RefusedOpen),
    /// The connection ended under it.
    Lost(String),
}

impl Connection {
    /// Opens a session channel with a subsystem on it; `agent` offers the agent first. What there is `early` goes to the
    /// subsystem without waiting for the answer, and is lost where that is no. Beside the channel: how many bytes that was.
    /// If the caller stops waiting, the channel is closed, also when its confirmation comes late.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn subsystem(
        self: &Arc<Self>,
        name: &str,
        agent: bool,
        early: Early,
    ) -> Result<(Channel, usize), OpenError> {
        let (connection, name) = (self.clone(), name.to_owned());
        see_through(|mut caller| async move {
            let opened = connection.open_subsystem(&name, agent, &early, &mut caller).await;
            drop(caller.send(opened));
        })
        .await
    }

    /// Opens a session channel for the [`Self::subsystem`] that comes next, where one is likely to come soon. Returns
    /// at once. Nobody counts it among the channels until it is used.
    pub fn open_ahead(self: &Arc<Self>) {
        if !self.ahead.wants_one() {
            return;
        }
        let connection = self.clone();
        tokio::spawn(async move {
            let half = connection.open_session().await.ok();
            let id = half.as_ref().map(Half::id);
            connection.ahead.put(half);
            let ahead = connection.ahead.clone();
            // Its owner alone decides how long it lives.
            drop(connection);
            let Some(id) = id else { return };
            sleep(KEPT).await;
            ahead.give_up(id);
        });
    }

    /// Asks the server to connect to `target` and opens a channel to it (RFC 4254, 7.2;
    /// `direct-streamlocal` is in OpenSSH's PROTOCOL, 2.4).
    /// If the caller stops waiting, the channel is closed, also when its confirmation comes late.
    ///
    /// # Errors
    /// See [`OpenError`]; never `Refused`.
    pub async fn direct(self: &Arc<Self>, target: Target) -> Result<Channel, OpenError> {
        let connection = self.clone();
        see_through(|caller| async move { drop(caller.send(connection.open_direct(target).await)) }).await
    }

    /// Opens a session channel, on which nothing runs yet.
    /// If the caller stops waiting, the channel is closed, also when its confirmation comes late.
    ///
    /// # Errors
    /// See [`OpenError`]; never `Refused`.
    pub async fn command(self: &Arc<Self>) -> Result<CommandChannel, OpenError> {
        let connection = self.clone();
        see_through(|caller| async move { drop(caller.send(connection.open_command().await)) }).await
    }

    /// Asks the server of a session to connect to `node`: like [`Self::direct`], with bytes that wait as a command's do.
    ///
    /// # Errors
    /// See [`OpenError`]; never `Refused`.
    pub async fn port(self: &Arc<Self>, node: NodeAddr) -> Result<CommandChannel, OpenError> {
        let connection = self.clone();
        see_through(|caller| async move { drop(caller.send(connection.open_port(node).await)) }).await
    }

    async fn open_port(&self, node: NodeAddr) -> Result<CommandChannel, OpenError> {
        let half = self.opened(self.dial(Target::Tcp(node)).await).await?;
        let outputs = self.claim(&half)?.outputs().ok_or_else(unfit)?;
        outputs.of_a_port();
        Ok(CommandChannel::new(outputs, half))
    }

    async fn open_command(&self) -> Result<CommandChannel, OpenError> {
        let half = self.open_session().await?;
        let outputs = self.claim(&half)?.outputs().ok_or_else(unfit)?;
        Ok(CommandChannel::new(outputs, half))
    }

    async fn open_direct(&self, target: Target) -> Result<Channel, OpenError> {
        self.channel(self.opened(self.dial(target).await).await?)
    }

    async fn open_session(&self) -> Result<Half, OpenError> {
        self.opened(self.handle.channel_open_session().await).await
    }

    async fn dial(&self, target: Target) -> Result<russh::Channel<Msg>, russh::Error> {
        match target {
            // The originator is for the server's log alone.
            Target::Tcp(node) => {
                let port = u32::from(node.port);
                self.handle.channel_open_direct_tcpip(node.host, port, "127.0.0.1", 0).await
            }
            Target::Socket(path) => self.handle.channel_open_direct_streamlocal(path).await,
        }
    }

    async fn open_subsystem(
        &self,
        name: &str,
        agent: bool,
        early: &Early,
        caller: &mut oneshot::Sender<Result<(Channel, usize), OpenError>>,
    ) -> Result<(Channel, usize), OpenError> {
        let (half, was_ahead) = match self.ahead.take() {
            Some(half) => (half, true),
            None => (self.open_session().await?, false),
        };
        let channel = self.channel(half)?;
        let lost = |error: russh::Error| self.lost(&error);
        if agent {
            self.shared.agent_offered.store(true, Ordering::Relaxed);
            channel.offer_agent().await.map_err(lost)?;
        }
        channel.request_subsystem(name).await.map_err(lost)?;
        early.asked();
        let answered = async {
            tokio::select! {
                answer = channel.inbox().answered() => (answer, 0),
                said = early.said() => {
                    let sent = said.len();
                    // Whether it is taken shows in the answer.
                    let (answer, _) = tokio::join!(channel.inbox().answered(), channel.write(said));
                    (answer, sent)
                }
            }
        };
        let (answer, sent) = tokio::select! {
            answered = answered => answered,
            () = caller.closed() => return Err(OpenError::Lost("nobody waits for it any more".into())),
        };
        match answer {
            Ok(true) => Ok((channel, sent)),
            Ok(false) => Err(OpenError::Refused(channel.inbox().stderr())),
            Err(_) => match &*self.shared.ended.borrow() {
                Some(ended) => Err(OpenError::Lost(ended.reason.to_string())),
                None => match channel.inbox().stderr() {
                    // Closed before it was asked for anything, as far as can be known.
                    text if was_ahead && text.is_empty() => {
                        Err(OpenError::Lost("the channel was closed".into()))
                    }
                    text => Err(OpenError::Refused(text)),
                },
            },
        }
    }

    /// A stream's channel.
    fn channel(&self, half: Half) -> Result<Channel, OpenError> {
        let inbox = self.claim(&half)?.inbox().ok_or_else(unfit)?;
        Ok(Channel::new(inbox, half))
    }

    /// What the library opened.
    async fn opened(&self, opened: Result<russh::Channel<Msg>, russh::Error>) -> Result<Half, OpenError> {
        let opened = match opened {
            Ok(opened) => opened,
            Err(russh::Error::ChannelOpenFailure(reason)) => {
                return Err(OpenError::NoChannel(self.shared.refused_opens.explain(reason.into()).await));
            }
            Err(other) => return Err(self.lost(&other)),
        };
        let id = opened.id();
        let (read, write) = opened.split();
        // With this half alive, the library would wait for its reader before it calls back.
        drop(read);
        Ok(Half::new(id, write, self.shared.clone()))
    }

    /// Where the bytes of a channel are that was opened.
    fn claim(&self, half: &Half) -> Result<Mailbox, OpenError> {
        self.shared.claim(half.id()).ok_or_else(|| self.lost(&russh::Error::Disconnect))
    }

    fn lost(&self, error: &russh::Error) -> OpenError {
        match &*self.shared.ended.borrow() {
            Some(ended) => OpenError::Lost(ended.reason.to_string()),
            None => OpenError::Lost(describe(error)),
        }
    }
}

/// Runs an opening in a task that outlives an impatient caller: dropping the
/// library's future would leak the channel.
async fn see_through<T: Send + 'static, F>(
    open: impl FnOnce(oneshot::Sender<Result<T, OpenError>>) -> F,
) -> Result<T, OpenError>
where
    F: Future<Output = ()> + Send + 'static,
{
    let (sender, receiver) = oneshot::channel();
    tokio::spawn(open(sender));
    receiver.await.unwrap_or(Err(OpenError::Lost("the connection ended".into())))
}

/// A connection keeps bytes for one kind of channel.
fn unfit() -> OpenError {
    OpenError::Lost("the connection is for another kind of channel".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ssh::{Budget, GREETING, Hello, Keeping, Logins, TOTAL_LIMIT, Waiting};
    use crate::target::Algorithms;
    use bytes::Bytes;
    use russh::ChannelId;
    use russh::keys::PrivateKey;
    use russh::keys::ssh_key::private::Ed25519Keypair;
    use russh::server::{self, Auth, ChannelOpenHandle, Session};
    use std::sync::atomic::{AtomicBool, AtomicUsize};
    use std::time::Duration;
    use tokio::time::{Instant, timeout};

    /// Says yes to a subsystem only once it has heard what is for it.
    #[derive(Clone, Default)]
    struct Listener {
        opened: Arc<AtomicUsize>,
        closed: Arc<AtomicUsize>,
        /// Channels are closed as soon as they are open.
        closes: Arc<AtomicBool>,
    }

    impl Listener {
        /// Channels opened and closed by the client so far.
        fn seen(&self) -> (usize, usize) {
            (self.opened.load(Ordering::Relaxed), self.closed.load(Ordering::Relaxed))
        }
    }

    impl server::Handler for Listener {
        type Error = russh::Error;

        async fn auth_none(&mut self, _user: &str) -> Result<Auth, Self::Error> {
            Ok(Auth::Accept)
        }

        async fn channel_open_session(
            &mut self,
            channel: russh::Channel<server::Msg>,
            reply: ChannelOpenHandle,
            session: &mut Session,
        ) -> Result<(), Self::Error> {
            self.opened.fetch_add(1, Ordering::Relaxed);
            reply.accept().await;
            if self.closes.load(Ordering::Relaxed) {
                // Behind the confirmation.
                let server = session.handle();
                tokio::spawn(async move { server.close(channel.id()).await });
            }
            Ok(())
        }

        async fn channel_close(
            &mut self,
            _channel: ChannelId,
            _session: &mut Session,
        ) -> Result<(), Self::Error> {
            self.closed.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }

        async fn subsystem_request(
            &mut self,
            channel: ChannelId,
            name: &str,
            session: &mut Session,
        ) -> Result<(), Self::Error> {
            match name {
                "quick" => session.channel_success(channel),
                "shut" => session.channel_failure(channel),
                _ => Ok(()),
            }
        }

        async fn data(
            &mut self,
            channel: ChannelId,
            data: &[u8],
            session: &mut Session,
        ) -> Result<(), Self::Error> {
            assert_eq!(data, GREETING.as_bytes());
            session.channel_success(channel)
        }
    }

    async fn connect() -> Arc<Connection> {
        connect_to(Listener::default()).await
    }

    async fn connect_to(listener: Listener) -> Arc<Connection> {
        let (near, far) = tokio::io::duplex(1 << 16);
        let key = PrivateKey::from(Ed25519Keypair::from_seed(&[7; 32]));
        let config = Arc::new(server::Config { keys: vec![key], ..server::Config::default() });
        tokio::spawn(async move { server::run_stream(config, far, listener).await.unwrap().await });
        let hello = Hello {
            peer: "the server".into(),
            login: "ann".into(),
            offers: Vec::new(),
            algorithms: Algorithms::default(),
            expected: Default::default(),
            check: Box::new(|_| Ok(())),
            agent_logins: Logins::default(),
            keeping: Keeping::Streams(Budget::new(TOTAL_LIMIT)),
        };
        let opened = Connection::open(near, hello, Instant::now() + PATIENCE).await;
        Arc::new(opened.unwrap_or_else(|_| panic!("no connection")))
    }

    const PATIENCE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_subsystem_hears_what_is_early_before_it_has_answered() {
        let connection = connect().await;
        let opened = timeout(PATIENCE, connection.subsystem("slow", false, Early::Greeting)).await;
        assert!(opened.expect("it waits for the greeting").is_ok());
        let quick = timeout(PATIENCE, connection.subsystem("quick", false, Early::Nothing)).await;
        assert!(quick.expect("it waits for nothing").is_ok());
    }

    #[tokio::test]
    async fn a_client_is_told_that_the_server_was_asked_and_what_it_says_goes_there_before_the_answer() {
        let connection = connect().await;
        let client = Arc::new(Waiting::default());
        let opening = connection.subsystem("slow", false, Early::Client(client.clone()));
        let speaks = async {
            client.asked().await;
            client.say(Bytes::from_static(GREETING.as_bytes()));
        };
        let (opened, ()) = timeout(PATIENCE, async { tokio::join!(opening, speaks) }).await.unwrap();
        assert_eq!(opened.map(|(_, sent)| sent).ok(), Some(GREETING.len()));
        // Asked once more, as after a refusal that a second question cures, it is said again.
        let again = connection.subsystem("slow", false, Early::Client(client));
        assert_eq!(timeout(PATIENCE, again).await.unwrap().map(|(_, sent)| sent).ok(), Some(GREETING.len()));
        let silent = Early::Client(Arc::default());
        let quick = timeout(PATIENCE, connection.subsystem("quick", false, silent)).await.unwrap();
        assert_eq!(quick.map(|(_, sent)| sent).ok(), Some(0), "nothing was said before the answer");
    }

    #[tokio::test]
    async fn a_refusal_is_heard_though_something_was_early() {
        let connection = connect().await;
        let opened = timeout(PATIENCE, connection.subsystem("shut", false, Early::Greeting)).await.unwrap();
        assert_eq!(opened.map(drop), Err(OpenError::Refused(String::new())));
    }

    /// Asks for a subsystem, and has a channel opened for the next one: what a trunk does with each stream.
    async fn stream(connection: &Arc<Connection>) -> Result<(Channel, usize), OpenError> {
        let opened = timeout(PATIENCE, connection.subsystem("quick", false, Early::Nothing)).await;
        let opened = opened.expect("an answer");
        if opened.is_ok() {
            connection.open_ahead();
        }
        opened
    }

    /// Waits until everything that was sent so far has been answered.
    async fn settle(connection: &Arc<Connection>) {
        for _ in 0..3 {
            connection.ping().await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_subsystem_finds_a_channel_open() {
        let listener = Listener::default();
        let connection = connect_to(listener.clone()).await;
        let first = stream(&connection).await.unwrap();
        settle(&connection).await;
        assert_eq!((listener.seen(), connection.channels()), ((2, 0), 1), "nobody has the second one");
        let second = timeout(PATIENCE, connection.subsystem("quick", false, Early::Nothing)).await.unwrap();
        assert_eq!((listener.seen(), connection.channels()), ((2, 0), 2));
        drop((first, second));
    }

    #[tokio::test(start_paused = true)]
    async fn a_channel_that_nobody_uses_is_given_up_and_is_the_last_until_requests_follow_each_other() {
        let listener = Listener::default();
        let connection = connect_to(listener.clone()).await;
        let mut held = vec![stream(&connection).await.unwrap()];
        settle(&connection).await;
        sleep(KEPT - Duration::from_millis(100)).await;
        assert_eq!(listener.seen(), (2, 0));
        sleep(Duration::from_millis(200)).await;
        settle(&connection).await;
        assert_eq!((listener.seen(), connection.channels()), ((2, 1), 1));
        held.push(stream(&connection).await.unwrap());
        settle(&connection).await;
        assert_eq!(listener.seen(), (3, 1), "the last one was of no use");
        sleep(KEPT * 2).await;
        held.push(stream(&connection).await.unwrap());
        settle(&connection).await;
        assert_eq!(listener.seen(), (4, 1));
        held.push(stream(&connection).await.unwrap());
        settle(&connection).await;
        assert_eq!(listener.seen(), (6, 1), "two within its time, and one more for the next");
        drop(connection.subsystem("quick", false, Early::Nothing).await.unwrap());
        assert_eq!(listener.seen().0, 6);
    }

    #[tokio::test(start_paused = true)]
    async fn a_channel_that_the_server_closed_before_its_use_costs_a_second_question() {
        let listener = Listener::default();
        let connection = connect_to(listener.clone()).await;
        drop(stream(&connection).await.unwrap());
        settle(&connection).await;
        drop(connection.subsystem("quick", false, Early::Nothing).await.unwrap());
        listener.closes.store(true, Ordering::Relaxed);
        connection.open_ahead();
        settle(&connection).await;
        listener.closes.store(false, Ordering::Relaxed);
        let lost = timeout(PATIENCE, connection.subsystem("quick", false, Early::Nothing)).await.unwrap();
        assert_eq!(lost.map(drop), Err(OpenError::Lost("the channel was closed".into())));
        assert!(stream(&connection).await.is_ok());
    }

    #[tokio::test]
    async fn what_is_refused_on_a_channel_opened_ahead_is_a_refusal() {
        let connection = connect().await;
        drop(stream(&connection).await.unwrap());
        settle(&connection).await;
        let opened = timeout(PATIENCE, connection.subsystem("shut", false, Early::Greeting)).await.unwrap();
        assert_eq!(opened.map(drop), Err(OpenError::Refused(String::new())));
    }
}
