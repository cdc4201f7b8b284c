//! Makes everything that a lab is made of, in the order in which one part
//! needs another: authorities, proxy, credentials, nodes.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rand::Rng;
use tokio::task::JoinSet;

use super::{Keeper, Options, Supervisor};
use crate::ca::{Authority, HostRequest};
use crate::credentials::{Account, CLUSTER, Credentials};
use crate::environment::{Environment, shell};
use crate::faults::CertFault;
use crate::front::{Front, Setup};
use crate::netns::Choosing;
use crate::node::{Ground, Node, init, sshd_config};
use crate::processes::Process;
use crate::proxy::Policy;
use crate::python;
use crate::state::{Claim, Mode, Plan, create_private, node_names, write_private};
use crate::tools;
use crate::topology::Topology;
use crate::tunnel::NodeName;

/// How long all nodes together may take to join.
const JOIN: Duration = Duration::from_secs(30);
/// How often to look whether they have.
const LOOK: Duration = Duration::from_millis(20);

impl Supervisor {
    /// What [`Supervisor::start`] does once the plan is written.
    pub(super) async fn build(
        options: &Options,
        plan: Plan,
        login: String,
        claim: Claim,
        progress: &impl Fn(&str) -> Result<()>,
    ) -> Result<Self> {
        let folder = &options.folder;
        let authority = Authority::new(CLUSTER, options.keys)?;
        let names: Vec<NodeName> = plan.nodes.iter().map(|name| named(name)).collect();
        let inside = plan.topology.as_ref().map_or([127, 0, 0, 1].into(), Topology::outer_machine);
        let front = Front::start(Setup {
            clients: ([127, 0, 0, 1], 0).into(),
            tunnel: (inside, 0).into(),
            rtt: options.rtt,
            token: random_hex(16),
            authority: authority.clone(),
            face: options.face,
            tls_routing: options.tls_routing,
            inventory: names.clone(),
            policy: Policy::default(),
        })
        .await?;
        progress(&format!("stand-in proxy on {} (not Teleport: for tests and demos)", front.clients()))?;

        let credentials = Credentials::at(folder);
        let account = Account { login, proxy: front.clients(), tls_routing: options.tls_routing };
        credentials.apply(CertFault::Replace, &authority, &account)?;
        let mut lab = Self {
            folder: folder.clone(),
            plan,
            rtt: options.rtt,
            authority,
            account,
            credentials,
            front,
            nodes: Vec::new(),
            since: Instant::now(),
            _claim: claim,
        };
        lab.write_hosts(&names)?;
        lab.start_nodes(options, names, progress).await?;
        lab.write_environment()?;
        lab.since = Instant::now();
        Ok(lab)
    }

    /// Starts all nodes at once and waits until the proxy knows them.
    async fn start_nodes(
        &mut self,
        options: &Options,
        names: Vec<NodeName>,
        progress: &impl Fn(&str) -> Result<()>,
    ) -> Result<()> {
        let ground = Ground {
            folder: self.folder.clone(),
            topology: self.plan.topology.clone(),
            program: options.program.clone(),
            tunnel: self.front.tunnel(),
            token: self.front.token().to_owned(),
        };
        let mut starting = JoinSet::new();
        for name in names {
            let ground = ground.clone();
            starting.spawn(async move { Node::start(ground, name).await });
        }
        while let Some(started) = starting.join_next().await {
            self.nodes.push(started.context("a node's start was lost")??);
        }
        let order = |node: &Node| self.plan.nodes.iter().position(|name| name == node.name());
        self.nodes.sort_by_key(order);

        let deadline = Instant::now() + JOIN;
        let mut told = 0;
        loop {
            let joined = self.front.nodes().into_iter().filter(|node| node.online).count();
            if joined != told {
                progress(&format!("{joined} of {} nodes joined", self.nodes.len()))?;
                told = joined;
            }
            if joined == self.nodes.len() {
                return Ok(());
            }
            if let Some(node) = self.nodes.iter_mut().find_map(Node::lost_agent) {
                bail!("the agent of {node} ended at once");
            }
            if Instant::now() > deadline {
                bail!("only {joined} of {} nodes joined within {} s", self.nodes.len(), JOIN.as_secs());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// What each node's sshd needs.
    pub(super) fn write_hosts(&self, names: &[NodeName]) -> Result<()> {
        if self.plan.mode == Mode::Rootless {
            tools::make_privilege_separation_folder()?;
        }
        for (index, name) in names.iter().enumerate() {
            let own = self.folder.node(&name.hostname);
            let keys = own.join("ssh");
            let mut host = HostRequest::node(&name.uuid, &name.hostname);
            let config = match &self.plan.topology {
                Some(topology) => {
                    host.more.push(topology.node(index).to_string());
                    sshd_config::listening(init::KEYS.as_ref())
                }
                None => {
                    let (home, tmp) = (own.join("home"), own.join("tmp"));
                    create_private(&home)?;
                    create_private(&tmp)?;
                    let sftp = tools::sftp_server()?;
                    sshd_config::on_demand(&keys, &home, &tmp, &sftp, &self.folder.mark())
                }
            };
            self.credentials.write_host(&keys, &self.authority, &host)?;
            write_private(&keys.join("sshd_config"), &config)?;
        }
        Ok(())
    }

    pub(super) fn environment(&self) -> Environment<'_> {
        Environment {
            folder: &self.folder,
            credentials: &self.credentials,
            proxy: self.front.clients(),
            tls_routing: self.account.tls_routing,
            login: &self.account.login,
            nodes: &self.plan.nodes,
            python: self.plan.python.interpreter.as_ref(),
        }
    }

    fn write_environment(&self) -> Result<()> {
        let environment = self.environment();
        create_private(&self.folder.broker())?;
        write_private(&self.folder.ssh_config(), &environment.ssh_config())?;
        write_private(&self.folder.natssh_toml(), &environment.natssh_toml())?;
        write_private(&self.folder.env(), &shell(&environment.variables()))
    }
}

/// What is known of the lab before anything is made.
pub(super) fn plan(options: &Options) -> Plan {
    let nodes = node_names(options.nodes);
    let topology = match options.mode {
        Mode::Rootless => None,
        Mode::Rooted => Some(Topology { id: random_hex(3), slot: 0, nodes: nodes.clone() }),
    };
    Plan {
        mode: options.mode,
        nodes,
        topology,
        python: python::find(),
        supervisor: (options.keeper == Keeper::Daemon).then(Process::me),
    }
}

/// The plan with its nets chosen.
pub(super) fn with_slot(mut plan: Plan, choosing: Option<&Choosing>) -> Result<Plan> {
    if let (Some(topology), Some(choosing)) = (&mut plan.topology, choosing) {
        topology.slot = choosing.slot()?;
    }
    Ok(plan)
}

/// A node of this name with a fresh id, in the form of a UUID.
fn named(name: &str) -> NodeName {
    let hex = random_hex(16);
    let uuid = format!("{}-{}-4{}-a{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..]);
    NodeName { hostname: name.to_owned(), uuid }
}

fn random_hex(bytes: usize) -> String {
    let mut rng = rand::rng();
    (0..bytes).map(|_| format!("{:02x}", rng.random::<u8>())).collect()
}
