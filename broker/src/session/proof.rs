//! Which keys are shown to a node, and in which order: ssh's (sshconnect2.c, pubkey_prepare).
//!
//! First the certificates that `CertificateFile` names; then, in the agent's order, what the agent holds of the
//! keys that `IdentityFile` names; then what else it holds, unless `IdentitiesOnly`; then the key files that are
//! left. [`order`] thinks; the rest reads.

use crate::identity::{self, AgentKey, KeyFile, Private};
use crate::pattern::glob_matches;
use crate::ssh::{KeyOffer, Signer};
use crate::target::{Algorithms, Proof, Target};
use ssh_key::public::KeyData;
use ssh_key::{Algorithm, Certificate, HashAlg, PublicKey};
use std::path::PathBuf;

/// What there is to show.
#[derive(Debug, Default)]
pub(super) struct Proofs {
    /// In order.
    pub(super) offers: Vec<KeyOffer>,
    /// A key that could not even be shown without a person; why.
    pub(super) locked: Option<String>,
    /// A key that ssh would not use either; why.
    pub(super) unusable: Option<String>,
}

/// By what a node let one in: nothing new is run on a session whose proof is gone.
#[derive(Debug, Clone)]
pub struct Proved {
    /// When the certificate ends, in seconds since 1970; never for a bare key.
    pub valid_before: Option<u64>,
    key: KeyData,
    source: Source,
}

/// Where the key is kept.
#[derive(Debug, Clone)]
enum Source {
    Agent(PathBuf),
    File(PathBuf),
}

impl Proved {
    pub(super) fn of(offer: &KeyOffer) -> Self {
        let valid_before = offer.certificate.as_ref().map(Certificate::valid_before);
        let source = match &offer.signer {
            Signer::Agent { socket, .. } => Source::Agent(socket.clone()),
            _ => Source::File(offer.file.clone().unwrap_or_default()),
        };
        Self { valid_before, key: offer.key.key_data().clone(), source }
    }

    /// Whether the key is still where it was: in the agent, which may be gone, or in its file. Blocks, for two
    /// seconds at most.
    #[must_use]
    pub fn is_still_there(&self) -> bool {
        match &self.source {
            Source::File(path) => path.exists(),
            Source::Agent(socket) => identity::agent::list_as_held(socket)
                .is_ok_and(|held| held.iter().any(|held| *held.key_data() == self.key)),
        }
    }
}

/// What the files and the agent hold.
#[derive(Default)]
struct Found {
    /// `IdentityFile`s that are there, each followed by the certificate beside it.
    files: Vec<KeyFile>,
    /// `CertificateFile`s that are there.
    certificates: Vec<Certificate>,
    /// The agent's, in its order.
    agent: Vec<AgentKey>,
}

/// Reads them. What is missing is passed over, as ssh does.
pub(super) async fn read(target: &Target) -> Proofs {
    let (proof, accepted) = (target.proof.clone(), target.algorithms.clone());
    let read = tokio::task::spawn_blocking(move || {
        let found = find(&proof);
        order(&found, &proof, &accepted)
    });
    read.await.unwrap_or_default()
}

fn find(proof: &Proof) -> Found {
    let agent = proof.agent.as_ref().and_then(|socket| {
        let listed = identity::agent::list_as_held(socket);
        listed.inspect_err(|error| tracing::debug!(%error, "the agent is passed over")).ok()
    });
    let files = proof.keys.iter().filter_map(|path| KeyFile::read(path, proof.certificates.is_empty()));
    let certificates = proof.certificates.iter().filter_map(|path| identity::read_user_certificate(path));
    Found { files: files.collect(), certificates: certificates.collect(), agent: agent.unwrap_or_default() }
}

fn order(found: &Found, proof: &Proof, accepted: &Algorithms) -> Proofs {
    let mut proofs = Proofs::default();
    let socket = proof.agent.clone().unwrap_or_default();
    let by_agent =
        |with: Option<PublicKey>| Signer::Agent { socket: socket.clone(), with: with.map(Box::new) };
    // Whoever can sign with a key, under whatever certificate it is shown; and the file it is in.
    let signer = |key: &KeyData| {
        let held = found.agent.iter().find_map(|held| match held {
            AgentKey::Key(held) if held.key_data() == key => Some((by_agent(Some((**held).clone())), None)),
            _ => None,
        });
        held.or_else(|| found.files.iter().filter(|file| file.holds(key)).find_map(signer_in))
    };
    let mut offer = |offer: KeyOffer| {
        let known =
            proofs.offers.iter().any(|other| other.shows(offer.key.key_data(), offer.certificate.as_ref()));
        if !known && is_accepted(&offer, accepted) {
            proofs.offers.push(offer);
        }
    };
    for certificate in &found.certificates {
        let held = found.agent.iter().any(|held| held.certificate() == Some(certificate));
        let signer = if held { Some((by_agent(None), None)) } else { signer(certificate.public_key()) };
        if let Some((signer, file)) = signer {
            let shown = AgentKey::Certificate(Box::new(certificate.clone()));
            offer(KeyOffer { file, ..KeyOffer::held(&shown, signer) });
        }
    }
    let named: Vec<AgentKey> = found.files.iter().flat_map(KeyFile::shows).collect();
    let (first, others): (Vec<&AgentKey>, Vec<&AgentKey>) =
        found.agent.iter().partition(|held| named.contains(held));
    for held in first.into_iter().chain(others.into_iter().filter(|_| !proof.only_these)) {
        offer(KeyOffer::held(held, by_agent(None)));
    }
    for key in named {
        if let Some((signer, file)) = signer(key.key_data()) {
            offer(KeyOffer { file, ..KeyOffer::held(&key, signer) });
        }
    }
    for file in &found.files {
        let held = file.public.as_ref().is_some_and(|key| found.agent.contains(key));
        let (place, why) = match &file.private {
            Private::Locked(why) if file.public.is_none() => (&mut proofs.locked, why),
            Private::Unusable(why) if !held => (&mut proofs.unusable, why),
            _ => continue,
        };
        place.get_or_insert_with(|| why.clone());
    }
    proofs
}

/// Who signs with a file's own private half.
fn signer_in(file: &KeyFile) -> Option<(Signer, Option<PathBuf>)> {
    match &file.private {
        Private::Here(key) => Some((Signer::Key(key.clone()), Some(file.path.clone()))),
        Private::Locked(why) => Some((Signer::Locked(why.clone()), None)),
        Private::Absent | Private::Unusable(_) => None,
    }
}

/// The length of an RSA key; none of another one.
pub(super) fn rsa_bits(key: &KeyData) -> Option<u32> {
    key.rsa().map(|key| key.key_size())
}

/// Whether `PubkeyAcceptedAlgorithms` has a name for it, and it is long enough for `RequiredRSASize`; every key where the user
/// set none.
fn is_accepted(offer: &KeyOffer, wanted: &Algorithms) -> bool {
    if rsa_bits(offer.key.key_data()).is_some_and(|bits| bits < wanted.least_rsa) {
        return false;
    }
    let accepted = &wanted.public_keys;
    let hashes = [Some(HashAlg::Sha512), Some(HashAlg::Sha256), None];
    let algorithms = match offer.key.algorithm() {
        Algorithm::Rsa { .. } => hashes.map(|hash| Algorithm::Rsa { hash }).to_vec(),
        other => vec![other],
    };
    let name = |algorithm: &Algorithm| match offer.certificate {
        Some(_) => algorithm.to_certificate_type(),
        None => algorithm.to_string(),
    };
    accepted.is_empty()
        || algorithms.iter().any(|one| accepted.iter().any(|pattern| glob_matches(pattern, &name(one))))
}
