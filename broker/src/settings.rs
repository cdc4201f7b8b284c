//! What becomes of a call of ssh: natssh runs it, or the real ssh has to.
//!
//! The settings are what `ssh -G` says they are, OpenSSH's own parser and the user's own ssh; natssh
//! reads no ssh_config. What comes out is a [`Target`], or the reason why
//! natssh is not the one to do it. Nothing is dialled here.
//!
//! In the order of a request: `call` says what ssh is asked, `lookup` has the answer
//! or asks (`ask`), `table` says which settings are natssh's to keep, `meaning` makes a target of them.

mod account;
mod ask;
mod cache;
mod call;
mod control;
mod environment;
mod expand;
mod identity;
mod lookup;
mod meaning;
mod printed;
mod real_ssh;
mod scan;
mod table;
mod terminal;

use crate::config::Kind;
use crate::proxy_command::ProxyCommand;
use crate::reach::Reach;
use crate::target::{Decision, Target, Way};
use call::{Around, Call, Hop};
pub use control::Controlled;
use expand::Tokens;
use identity::Identities;
use lookup::{Found, Lookup, NotFound, Seen};
use meaning::{Meaning, OwnWay, Whom};
use natssh_wire::exec::{ExecRequest, Resolution};
use natssh_wire::ssh_words::{Demand, Invocation, Tunnel};
use natssh_wire::{Failure, NodeAddr};
use std::sync::Arc;
use table::{For, Over};

/// The most hops of ProxyJump, those of hops included.
const HOPS: usize = 8;

/// Decides about calls, and remembers what ssh said.
#[derive(Default)]
pub struct Settings {
    lookup: Arc<Lookup>,
    identities: Identities,
}

/// A request with a call of ssh, and what a look at the disk found.
pub struct Looked {
    request: Arc<ExecRequest>,
    found: Result<Asked, Declined>,
}

/// A call, what only the real ssh can do about it, and what is known of its settings.
struct Asked {
    call: Call,
    demand: Option<Demand>,
    seen: Result<Seen, NotFound>,
}

/// The real ssh's, and why.
struct Declined {
    reason: String,
    tunnel: bool,
    whom: Option<Whom>,
    options: Vec<String>,
}

/// The way to a host, and what follows from it.
struct Road {
    way: Way,
    over: Over,
    /// The real ssh would need natssh for it.
    tunnel: bool,
}

impl Settings {
    /// Reads a call, and looks (blocking) for what is known of its settings, and at the files of the identity that it
    /// needs where its host is called as it was typed.
    pub fn look(&self, request: &Arc<ExecRequest>, reach: &Reach) -> Looked {
        let found = call_of(request).map(|(call, demand)| {
            let seen = self.lookup.look(&call, &Around::of(request));
            if let Ok(seen) = &seen {
                reach.look_ahead(&node(&call.typed), seen.since);
            }
            Asked { call, demand, seen }
        });
        Looked { request: request.clone(), found }
    }

    /// What becomes of a call, with the routes of `reach`.
    ///
    /// # Errors
    /// There is no real ssh to ask.
    pub async fn decide(&self, looked: Looked, reach: &Reach) -> Result<Decision, Failure> {
        let decided = self.decide_native(looked, reach, None).await?;
        Ok(decided.unwrap_or_else(|declined| Decision::RealSsh(declined.into_resolution())))
    }

    /// What the real ssh is told of a call that is native by its settings and cannot be for another `reason`.
    ///
    /// # Errors
    /// There is no real ssh to ask.
    pub async fn hand_over(
        &self,
        looked: Looked,
        reach: &Reach,
        reason: &str,
    ) -> Result<Resolution, Failure> {
        let decided = self.decide_native(looked, reach, Some(reason)).await?;
        Ok(decided.err().unwrap_or_else(|| Declined::because(reason)).into_resolution())
    }

    /// With a `reason` it is not.
    async fn decide_native(
        &self,
        Looked { request, found }: Looked,
        reach: &Reach,
        reason: Option<&str>,
    ) -> Result<Result<Decision, Declined>, Failure> {
        let Asked { call, demand, seen } = match found {
            Ok(asked) => asked,
            Err(declined) => return Ok(Err(declined)),
        };
        let around = Around::of(&request);
        let found = match seen {
            Ok(seen) => self.lookup.found(&call, &around, seen).await,
            Err(not_found) => Err(not_found),
        };
        let found = match found {
            Ok(found) => found,
            Err(NotFound::NoSsh(failure)) => return Err(failure),
            Err(NotFound::Refused(words)) => return Ok(Err(Declined::because(words))),
            Err(NotFound::Unclear(reason)) => {
                let tunnel = !call.names_a_way && leads_elsewhere(reach, &call.typed);
                return Ok(Err(Declined { tunnel, ..Declined::because(reason) }));
            }
        };
        let demand = demand.map(|demand| demand.reason).or(reason);
        Ok(self.decide_by(&call, &around, &found, reach, demand).await)
    }

    async fn decide_by(
        &self,
        call: &Call,
        around: &Around<'_>,
        found: &Found,
        reach: &Reach,
        demand: Option<&str>,
    ) -> Result<Decision, Declined> {
        let whom = Whom::of(&found.known.printed, &call.typed).map_err(Declined::because)?;
        let meaning = meaning(call, around, found, &whom);
        let road = self.road(&meaning, &whom, reach, 0).await?;
        let printed = &found.known.printed;
        let purpose = meaning.purpose();
        let wanted_for = if purpose.is_some() { For::Connection } else { For::Command };
        let demand = demand
            .map(str::to_owned)
            .or_else(|| found.complaint.clone())
            .or_else(|| table::demands_real_ssh(printed, &found.basis.usual, road.over, wanted_for));
        let introduction = self.identities.introduction(&whom, &road.way, call, found, reach).await;
        let meant = match demand {
            Some(reason) => Err(reason),
            None => meaning.wishes().and_then(|wishes| Ok((meaning.target(whom.clone(), road.way)?, wishes))),
        };
        let (mut target, wishes) = match meant {
            Ok(meant) => meant,
            Err(reason) => {
                let options = introduction.as_options(found, reach).await;
                let whom = Some(introduction.as_whom(&whom));
                return Err(Declined { reason, tunnel: road.tunnel, whom, options });
            }
        };
        introduction.add_to(&mut target);
        let target = Box::new(target);
        Ok(match purpose {
            None => Decision::Native(target, wishes),
            Some(purpose) => Decision::Connection(target, wishes, purpose),
        })
    }

    /// A `[[route]]` of natssh.toml comes first, then ssh's own way, then whatever else natssh knows.
    async fn road(
        &self,
        meaning: &Meaning<'_>,
        whom: &Whom,
        reach: &Reach,
        depth: usize,
    ) -> Result<Road, Declined> {
        let declined = |reason: String| Declined { whom: Some(whom.clone()), ..Declined::because(reason) };
        let node =
            NodeAddr::new(&whom.host, &whom.port.to_string()).map_err(|bad| declined(bad.to_string()))?;
        let routes = &reach.settings.routes;
        let elsewhere = leads_elsewhere(reach, &whom.host);
        let own = OwnWay::of(meaning.printed);
        let by_natssh =
            |tunnel| Road { way: Way::Route, over: if elsewhere { Over::Proxy } else { Over::Tcp }, tunnel };
        if !meaning.call.names_a_way && routes.is_written(&node) {
            return Ok(by_natssh(elsewhere || own != OwnWay::Straight));
        }
        match own {
            OwnWay::Straight if meaning.call.names_a_way && elsewhere => {
                Err(declined("the words name no way but the straight one".into()))
            }
            OwnWay::Straight => Ok(by_natssh(elsewhere)),
            OwnWay::Command(text) => {
                let command =
                    ProxyCommand::parse(&text).map_err(|why| declined(format!("ProxyCommand {why}")))?;
                if command.is_natssh_itself() {
                    return Ok(by_natssh(false));
                }
                if meaning.printed.one("proxyusefdpass") == Some("yes") {
                    return Err(declined("ProxyUseFdpass is yes".into()));
                }
                let line = meaning
                    .tokens
                    .proxy_command(&text)
                    .map_err(|why| declined(format!("ProxyCommand {why}")))?;
                Ok(Road { way: Way::Command(line), over: Over::Proxy, tunnel: false })
            }
            OwnWay::Jump(text) => {
                let hops = Hop::list(&text).filter(|hops| hops.len() + depth <= HOPS);
                let hops = hops.ok_or_else(|| declined("ProxyJump is not a list of few hosts".into()))?;
                let hops = Box::pin(self.hops(meaning, &hops, reach, depth)).await.map_err(declined)?;
                Ok(Road { way: Way::Jump(hops), over: Over::Proxy, tunnel: false })
            }
        }
    }

    /// The hosts of ProxyJump, each by its own settings. Only the first has a way of its own; where that is a jump too,
    /// its hops come in front.
    async fn hops(
        &self,
        meaning: &Meaning<'_>,
        hops: &[Hop],
        reach: &Reach,
        depth: usize,
    ) -> Result<Vec<Target>, String> {
        let mut chain: Vec<Target> = Vec::new();
        for (n, hop) in hops.iter().enumerate() {
            let why = |reason: String| format!("ProxyJump {}: {reason}", hop.host);
            let call = meaning.call.to_hop(hop);
            let found =
                self.lookup.settings(&call, meaning.around).await.map_err(|not| why(not.to_string()))?;
            if let Some(complaint) = &found.complaint {
                return Err(why(complaint.clone()));
            }
            let whom = Whom::of(&found.known.printed, &call.typed).map_err(why)?;
            let inner = self::meaning(&call, meaning.around, &found, &whom);
            let road = match n {
                0 => {
                    self.road(&inner, &whom, reach, depth + hops.len()).await.map_err(|no| why(no.reason))?
                }
                _ => Road { way: Way::Route, over: Over::Proxy, tunnel: false },
            };
            if let Some(reason) = table::demands_real_ssh(inner.printed, inner.usual, road.over, For::Hop) {
                return Err(why(reason));
            }
            let way = match road.way {
                Way::Jump(before) => {
                    chain.extend(before);
                    Way::Route
                }
                way => way,
            };
            let mut target = inner.target(whom.clone(), way).map_err(why)?;
            if chain.is_empty() {
                self.identities
                    .introduction(&whom, &target.way, &call, &found, reach)
                    .await
                    .add_to(&mut target);
            }
            chain.push(target);
        }
        Ok(chain)
    }
}

/// The call that a request's words are, and what only the real ssh can do about it.
fn call_of(request: &ExecRequest) -> Result<(Call, Option<Demand>), Declined> {
    let invocation =
        Invocation::parse(&request.words).map_err(|no_call| Declined::because(no_call.to_string()))?;
    match invocation.demands_real_ssh() {
        Some(demand) if demand.tunnel == Tunnel::Never => Err(Declined::because(demand.reason)),
        demand => {
            let call = Call::of(&invocation, request.terminals);
            let call = call.ok_or_else(|| Declined::because("the host's name is not UTF-8"))?;
            Ok((call, demand))
        }
    }
}

/// What a call means by what ssh printed for it.
fn meaning<'m>(call: &'m Call, around: &'m Around<'m>, found: &'m Found, whom: &Whom) -> Meaning<'m> {
    let printed = &found.known.printed;
    let tokens = Tokens {
        host: whom.host.to_ascii_lowercase(),
        typed: call.typed.clone(),
        port: whom.port,
        user: whom.user.clone(),
        alias: printed.one("hostkeyalias").filter(|alias| !alias.is_empty()).map(str::to_owned),
        home: found.basis.home.clone(),
        account: found.basis.name.clone(),
        uid: rustix::process::getuid().as_raw(),
        machine: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        jump: Hop::list(printed.one("proxyjump").unwrap_or_default())
            .and_then(|hops| Some(hops.last()?.host.clone())),
    };
    Meaning { printed, usual: &found.basis.usual, call, around, tokens }
}

/// What routes are asked about where nothing but a host is known.
fn node(host: &str) -> NodeAddr {
    NodeAddr { host: host.to_owned(), port: 22 }
}

/// Whether natssh's own way to a host is anything but plain TCP.
fn leads_elsewhere(reach: &Reach, host: &str) -> bool {
    let upstream = reach.settings.routes.pick(&node(host)).upstream;
    reach.settings.upstreams.get(&upstream).is_some_and(|upstream| !matches!(upstream.kind, Kind::Direct))
}

impl Declined {
    fn because(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), tunnel: false, whom: None, options: Vec::new() }
    }

    fn into_resolution(self) -> Resolution {
        let Self { reason, tunnel, whom, options } = self;
        let Whom { host, port, user } = whom.unwrap_or_default();
        tracing::debug!(reason, tunnel, "the real ssh runs it");
        Resolution { native: false, reason: Some(reason), tunnel, host, port, user, options }
    }
}

#[cfg(test)]
mod tests;
