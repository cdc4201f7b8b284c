//! The ways of a file: one conversation in SFTP, or commands.

use super::{Client, Incoming, Lent, Missed, Outgoing, Trip};
use crate::pool::{Leased, Node, Use};
use crate::session::transfer::{self, BULK, Got, Harm, Stopped, Unfinished, by_shell, shell};
use crate::target::{Run, Wishes};

impl Trip {
    pub(super) async fn put<I: Incoming, O>(
        &self,
        client: &mut Client<I, O>,
        lent: &mut Lent,
    ) -> Result<(), Missed> {
        self.start_sftp(lent).await?;
        let Lent { channel, talk } = lent;
        let put = transfer::put(&**channel, talk, &self.order, &mut client.incoming).await;
        put.map_err(Missed::Unfinished)
    }

    /// A large file wants the session alone, and is told apart where the channel was leased for less.
    pub(super) async fn get<I: Incoming, O: Outgoing>(
        &self,
        client: &mut Client<I, O>,
        lent: &mut Lent,
        how: Use,
    ) -> Result<Got, Missed> {
        self.start_sftp(lent).await?;
        let Lent { channel, talk } = lent;
        let fits = |size| size < BULK || how == Use::Alone || channel.alone();
        let got = tokio::select! {
            biased;
            got = transfer::get(&**channel, talk, &self.order.path, fits, &mut client.outgoing) => got,
            left = client.incoming.leaves() => Err(Stopped::Client(left)),
        };
        got.map_err(Missed::because)
    }

    pub(super) async fn put_by_commands<I: Incoming, O>(
        &self,
        client: &mut Client<I, O>,
        leased: Leased<Node>,
        how: Use,
    ) -> Result<Leased<Node>, Missed> {
        let path = &self.order.path;
        self.start(&leased, Run::Command(shell::write(&self.order))).await?;
        if let Err(why) = by_shell::feed(&*leased, path, &mut client.incoming).await {
            if let Stopped::Client(_) = why {
                // What it writes can be removed once it has ended.
                drop(by_shell::end(&*leased, path).await);
            }
            return Err(self.unfinished(why, Harm::Perhaps));
        }
        drop(leased);
        let leased = self.channel(how).await.map_err(Missed::NoLease)?;
        self.start(&leased, Run::Command(shell::rename(&self.order))).await?;
        let renamed = by_shell::end(&*leased, path).await;
        renamed.map_err(|why| self.unfinished(why, Harm::Replaced))?;
        Ok(leased)
    }

    pub(super) async fn get_by_command<I: Incoming, O: Outgoing>(
        &self,
        client: &mut Client<I, O>,
        leased: Leased<Node>,
    ) -> Result<Leased<Node>, Missed> {
        let path = &self.order.path;
        self.start(&leased, Run::Command(shell::read(path))).await?;
        let heard = tokio::select! {
            biased;
            heard = by_shell::hear(&*leased, path, &mut client.outgoing) => heard,
            left = client.incoming.leaves() => Err(Stopped::Client(left)),
        };
        heard.map_err(Missed::because)?;
        Ok(leased)
    }

    /// A put by commands that stopped there. A command that fails removes what it has made.
    fn unfinished(&self, why: Stopped, harm: Harm) -> Missed {
        let failed = matches!(why, Stopped::File(_));
        let left = (!failed).then(|| self.order.temporary());
        Missed::Unfinished(Unfinished { why, left, harm: if failed { Harm::None } else { harm } })
    }

    /// Asks for the SFTP server, unless it runs.
    pub(super) async fn start_sftp(&self, lent: &Lent) -> Result<(), Missed> {
        if !lent.talk.is_new() {
            return Ok(());
        }
        self.start(&lent.channel, Run::Subsystem("sftp".into())).await
    }

    /// Asks for something to be run, at no terminal, whatever the caller's words say.
    pub(super) async fn start(&self, leased: &Leased<Node>, run: Run) -> Result<(), Missed> {
        let wishes = Wishes { run, terminal: None, ..self.wishes.clone() };
        let lost = |_| Missed::because(Stopped::Cut("the node closed the channel".into()));
        leased.start(&wishes).await.map_err(lost)
    }
}
