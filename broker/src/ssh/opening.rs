//! Opening channels of a connection.

use super::channel::Channel;
use super::command::CommandChannel;
use super::connect::Connection;
use super::early::Early;
use super::mailbox::Mailbox;
use super::refused_open::RefusedOpen;
use super::words::describe;
use natssh_wire::NodeAddr;
use russh::client::Msg;
use russh::{ChannelId, ChannelWriteHalf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::oneshot;

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
        let (id, mailbox, write) = self.claim(self.dial(Target::Tcp(node)).await).await?;
        let outputs = mailbox.outputs().ok_or_else(unfit)?;
        outputs.of_a_port();
        Ok(CommandChannel::new(id, outputs, write, self.shared.clone()))
    }

    async fn open_command(&self) -> Result<CommandChannel, OpenError> {
        let (id, mailbox, write) = self.claim(self.handle.channel_open_session().await).await?;
        let outputs = mailbox.outputs().ok_or_else(unfit)?;
        Ok(CommandChannel::new(id, outputs, write, self.shared.clone()))
    }

    async fn open_direct(&self, target: Target) -> Result<Channel, OpenError> {
        self.channel(self.dial(target).await).await
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
        let channel = self.channel(self.handle.channel_open_session().await).await?;
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
                None => Err(OpenError::Refused(channel.inbox().stderr())),
            },
        }
    }

    /// What the library opened, as a channel of ours.
    async fn channel(&self, opened: Result<russh::Channel<Msg>, russh::Error>) -> Result<Channel, OpenError> {
        let (id, mailbox, write) = self.claim(opened).await?;
        let inbox = mailbox.inbox().ok_or_else(unfit)?;
        Ok(Channel::new(id, inbox, write, self.shared.clone()))
    }

    /// The parts of a channel that the library opened.
    async fn claim(
        &self,
        opened: Result<russh::Channel<Msg>, russh::Error>,
    ) -> Result<(ChannelId, Mailbox, ChannelWriteHalf<Msg>), OpenError> {
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
        match self.shared.claim(id) {
            Some(mailbox) => Ok((id, mailbox, write)),
            None => Err(self.lost(&russh::Error::Disconnect)),
        }
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
    use russh::keys::PrivateKey;
    use russh::keys::ssh_key::private::Ed25519Keypair;
    use russh::server::{self, Auth, ChannelOpenHandle, Session};
    use std::time::Duration;
    use tokio::time::{Instant, timeout};

    /// Says yes to a subsystem only once it has heard what is for it.
    struct Listener;

    impl server::Handler for Listener {
        type Error = russh::Error;

        async fn auth_none(&mut self, _user: &str) -> Result<Auth, Self::Error> {
            Ok(Auth::Accept)
        }

        async fn channel_open_session(
            &mut self,
            _channel: russh::Channel<server::Msg>,
            reply: ChannelOpenHandle,
            _session: &mut Session,
        ) -> Result<(), Self::Error> {
            reply.accept().await;
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
        let (near, far) = tokio::io::duplex(1 << 16);
        let key = PrivateKey::from(Ed25519Keypair::from_seed(&[7; 32]));
        let config = Arc::new(server::Config { keys: vec![key], ..server::Config::default() });
        tokio::spawn(async move { server::run_stream(config, far, Listener).await.unwrap().await });
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
}
