//! Keys to be shown to a server, one after the other, and who signs with each.

use super::signer::Signer;
use crate::identity::{AgentKey, Credential};
use ssh_key::public::KeyData;
use ssh_key::{Certificate, PublicKey};
use std::fmt;
use std::path::PathBuf;

/// One key, or one certificate, that is shown to a server.
#[derive(Clone)]
pub struct KeyOffer {
    /// The public half.
    pub key: PublicKey,
    /// The certificate that is shown in its place.
    pub certificate: Option<Certificate>,
    /// Who signs when the server accepts it.
    pub signer: Signer,
    /// The file that the private half was read from, if it was.
    pub file: Option<PathBuf>,
}

impl KeyOffer {
    /// All that a credential can show, the most promising first: a certificate before its bare key, an agent's
    /// keys as it lists them.
    #[must_use]
    pub fn all_of(credential: &Credential) -> Vec<Self> {
        match credential {
            Credential::Key { key, certificate } => {
                let signer = Signer::Key(key.clone());
                let with = |certificate| Self {
                    key: key.public_key().clone(),
                    certificate,
                    signer: signer.clone(),
                    file: None,
                };
                let certified = certificate.as_deref().cloned().map(|certificate| with(Some(certificate)));
                certified.into_iter().chain([with(None)]).collect()
            }
            Credential::Agent { socket, keys } => {
                keys.iter().map(|held| Self::held(held, Signer::agent(socket))).collect()
            }
        }
    }

    /// Something of an agent's list.
    #[must_use]
    pub fn held(held: &AgentKey, signer: Signer) -> Self {
        match held {
            AgentKey::Certificate(certificate) => Self {
                key: PublicKey::from(certificate.public_key().clone()),
                certificate: Some((**certificate).clone()),
                signer,
                file: None,
            },
            AgentKey::Key(key) => Self { key: (**key).clone(), certificate: None, signer, file: None },
        }
    }

    /// Whether both show the same: the same key, under the same certificate or none.
    #[must_use]
    pub fn shows(&self, key: &KeyData, certificate: Option<&Certificate>) -> bool {
        self.key.key_data() == key && self.certificate.as_ref() == certificate
    }
}

/// Fingerprints only.
impl fmt::Debug for KeyOffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyOffer")
            .field("key", &super::host_key::describe(self.key.key_data()))
            .field("certificate", &self.certificate.as_ref().map(Certificate::key_id))
            .field("signer", &self.signer)
            .finish()
    }
}
