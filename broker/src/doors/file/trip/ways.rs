//! The ways of a file: one conversation in SFTP, or commands.

use super::{Client, Incoming, Missed, Outgoing, Trip};
use crate::pool::{Leased, Node, Use};
use crate::session::transfer::{self, Got, Harm, Stopped, Unfinished, by_shell, shell};
use crate::target::{Run, Wishes};

impl Trip {
    pub(super) async fn put<I: Incoming, O>(
        &self,
        client: &mut Client<I, O>,
        leased: &Leased<Node>,
    ) -> Result<(), Missed> {
        self.start(leased, Run::Subsystem("sftp".into())).await?;
        transfer::put(&**leased, &self.order, &mut client.incoming).await.map_err(Missed::Unfinished)
    }

    pub(super) async fn get<I: Incoming, O: Outgoing>(
        &self,
        client: &mut Client<I, O>,
        leased: &Leased<Node>,
        most: Option<u64>,
    ) -> Result<Got, Missed> {
        self.start(leased, Run::Subsystem("sftp".into())).await?;
        let got = tokio::select! {
            biased;
            got = transfer::get(&**leased, &self.order.path, most, &mut client.outgoing) => got,
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
        let leased = self.lease(how).await.map_err(Missed::NoLease)?;
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

    /// Asks for something to be run, at no terminal, whatever the caller's words say.
    pub(super) async fn start(&self, leased: &Leased<Node>, run: Run) -> Result<(), Missed> {
        let wishes = Wishes { run, terminal: None, ..self.wishes.clone() };
        let lost = |_| Missed::because(Stopped::Cut("the node closed the channel".into()));
        leased.start(&wishes).await.map_err(lost)
    }
}
