//! What is asked of the authority: whom a certificate names and how long it holds.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Far from a whole hour: what is said of it in hours, rounded down, is the same for as long as a test lasts.
const AN_HOUR_AND_A_HALF: Duration = Duration::from_secs(5400);

/// How long a certificate holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// Without end, as Teleport's host certificates.
    Forever,
    /// Between two moments, to the second.
    Between(SystemTime, SystemTime),
}

impl Validity {
    /// From a minute ago, because clocks differ, for this long: Teleport's own habit.
    pub fn ttl(ttl: Duration) -> Self {
        let now = SystemTime::now();
        Self::Between(now - Duration::from_secs(60), now + ttl)
    }

    /// Ended more than an hour ago.
    pub fn expired() -> Self {
        let now = SystemTime::now();
        Self::Between(now - hours(13), now - AN_HOUR_AND_A_HALF)
    }

    /// Begins in more than an hour.
    pub fn not_yet() -> Self {
        let now = SystemTime::now();
        Self::Between(now + AN_HOUR_AND_A_HALF, now + hours(13))
    }

    /// The two fields of the certificate, in seconds since 1970.
    pub(super) fn seconds(self) -> (u64, u64) {
        let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        match self {
            Self::Forever => (0, u64::MAX),
            Self::Between(after, before) => (seconds(after), seconds(before)),
        }
    }
}

fn hours(n: u64) -> Duration {
    Duration::from_secs(n * 3600)
}

/// A user certificate to be signed.
#[derive(Clone, Debug)]
pub struct UserRequest {
    /// The Teleport user, the certificate's key id.
    pub user: String,
    /// The logins it may use, the first of them the one generic clients choose.
    pub logins: Vec<String>,
    /// How long it holds.
    pub validity: Validity,
    /// The cluster it is for, when another than the one that signs it.
    pub route_to_cluster: Option<String>,
}

impl UserRequest {
    /// What `tsh login` asks for by default: twelve hours.
    ///
    /// The principal with which Teleport marks who may join sessions comes along,
    /// as in real certificates: it is never a login.
    pub fn new(user: &str, logins: &[&str]) -> Self {
        let logins = logins.iter().chain(&["-teleport-internal-join"]);
        Self {
            user: user.to_owned(),
            logins: logins.map(ToString::to_string).collect(),
            validity: Validity::ttl(hours(12)),
            route_to_cluster: None,
        }
    }

    /// The same with another validity.
    #[must_use]
    pub fn valid(mut self, validity: Validity) -> Self {
        self.validity = validity;
        self
    }

    /// The extensions of a real user certificate.
    pub(super) fn extensions(&self, cluster: &str) -> Vec<(&'static str, String)> {
        let route = self.route_to_cluster.as_deref().unwrap_or(cluster);
        let logins = self.logins.join("\",\"");
        vec![
            ("permit-agent-forwarding", String::new()),
            ("permit-port-forwarding", String::new()),
            ("permit-pty", String::new()),
            ("teleport-roles", r#"{"version":"v1","roles":["access"]}"#.to_owned()),
            ("teleport-route-to-cluster", route.to_owned()),
            ("teleport-traits", format!(r#"{{"logins":["{logins}"]}}"#)),
        ]
    }
}

/// A host certificate to be signed.
#[derive(Clone, Debug)]
pub struct HostRequest {
    /// The host's id in the cluster.
    pub uuid: String,
    /// Its name.
    pub hostname: String,
    /// `Node` or `Proxy`.
    pub role: &'static str,
    /// Advertised names and addresses beside the usual ones.
    pub more: Vec<String>,
    /// How long it holds.
    pub validity: Validity,
}

impl HostRequest {
    /// The certificate of a node.
    pub fn node(uuid: &str, hostname: &str) -> Self {
        Self::new(uuid, hostname, "Node")
    }

    /// The certificate of a proxy, with the names clients know it by.
    pub fn proxy(uuid: &str, hostname: &str, public: &[&str]) -> Self {
        let mut request = Self::new(uuid, hostname, "Proxy");
        request.more = public.iter().map(ToString::to_string).collect();
        request.more.push("remote.kube.proxy.teleport.cluster.local".to_owned());
        request
    }

    fn new(uuid: &str, hostname: &str, role: &'static str) -> Self {
        Self {
            uuid: uuid.to_owned(),
            hostname: hostname.to_owned(),
            role,
            more: Vec::new(),
            validity: Validity::Forever,
        }
    }

    /// The names in the certificate, in Teleport's order.
    pub(super) fn principals(&self, cluster: &str) -> Vec<String> {
        let Self { uuid, hostname, .. } = self;
        let mut names = vec![
            format!("{uuid}.{cluster}"),
            uuid.clone(),
            format!("{hostname}.{cluster}"),
            hostname.clone(),
        ];
        names.extend(["localhost", "127.0.0.1", "::1"].map(str::to_owned));
        for name in &self.more {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        names
    }
}
