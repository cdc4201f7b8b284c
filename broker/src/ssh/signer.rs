//! Signing with an identity's key, wherever the key is.

use russh::AgentAuthError;
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::signature::Signer as _;
use russh::keys::ssh_encoding::Encode;
use russh::keys::ssh_key::private::KeypairData;
use russh::keys::{self, HashAlg, PrivateKey, PublicKey};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A person may have to touch a key or type a PIN: longer than a dial, but not for ever.
const AGENT_PATIENCE: Duration = Duration::from_secs(60);

/// Signs with a key in memory, or asks an agent to.
#[derive(Clone)]
pub enum Signer {
    /// A key at hand.
    Key(Arc<PrivateKey>),
    /// An agent.
    Agent {
        /// Its socket.
        socket: PathBuf,
        /// The bare key that it holds, where a certificate is shown that it does not.
        with: Option<Box<PublicKey>>,
    },
    /// Nobody: the public half is known, and the private one needs a person. Why, in lower case.
    Locked(String),
}

/// No key material.
impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(_) => f.write_str("Key(***)"),
            Self::Agent { socket, .. } => f.debug_tuple("Agent").field(socket).finish(),
            Self::Locked(why) => f.debug_tuple("Locked").field(why).finish(),
        }
    }
}

impl Signer {
    /// By the agent at a socket, which holds what is shown.
    #[must_use]
    pub fn agent(socket: &Path) -> Self {
        Self::Agent { socket: socket.into(), with: None }
    }

    /// The signature over `data` in SSH's encoding (algorithm, blob); `hash` matters to RSA only.
    pub(super) async fn sign(
        &self,
        key: &AgentIdentity,
        hash: Option<HashAlg>,
        data: &[u8],
    ) -> Result<Vec<u8>, keys::Error> {
        match self {
            Self::Key(private) => {
                let signature = match private.key_data() {
                    KeypairData::Rsa(rsa) => (rsa, hash).try_sign(data),
                    other => other.try_sign(data),
                };
                let signature = signature.map_err(keys::ssh_key::Error::from)?;
                let mut encoded = Vec::new();
                signature.encode(&mut encoded)?;
                Ok(encoded)
            }
            Self::Locked(_) => Err(keys::Error::KeyIsEncrypted),
            Self::Agent { socket, with } => {
                let bare = with.as_deref().map(|key| AgentIdentity::from(key.clone()));
                let key = bare.as_ref().unwrap_or(key);
                let ask = async {
                    let mut agent = AgentClient::connect_uds(socket).await?;
                    agent.sign_request(key, hash, data.to_vec()).await
                };
                let answer = tokio::time::timeout(AGENT_PATIENCE, ask).await;
                let signed = answer.map_err(|_| keys::Error::AgentFailure)??;
                // The client hands back the data with the signature appended as an SSH string.
                signed.get(data.len() + 4..).map(<[u8]>::to_vec).ok_or(keys::Error::AgentProtocolError)
            }
        }
    }
}

impl russh::Signer for Signer {
    type Error = AgentAuthError;

    async fn auth_sign(
        &mut self,
        key: &AgentIdentity,
        hash: Option<HashAlg>,
        mut to_sign: Vec<u8>,
    ) -> Result<Vec<u8>, Self::Error> {
        let signature = self.sign(key, hash, &to_sign).await?;
        signature.encode(&mut to_sign).map_err(keys::Error::from)?;
        Ok(to_sign)
    }
}
