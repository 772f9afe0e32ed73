use super::{Authority, Name};
use std::{path::Path, sync::Arc, time::Duration};

/// Certificates that are ordered and renewed (RFC 8555). The terms of who issues them were agreed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acme {
    /// The URL of who issues them, by https.
    pub directory: Name,
    /// Who vouches for the directory; `None`: whom the system trusts.
    pub ca: Option<Authority>,
    /// `mailto:` URLs.
    pub contacts: Vec<Name>,
    /// The folder of the account's key and the certificates.
    pub state: Arc<Path>,
    /// The names of each certificate, in lower case. No name is twice, no certificate without one.
    pub hosts: Vec<Vec<Name>>,
    pub challenge: AcmeChallenge,
    /// How long before they expire certificates are renewed; `None`: a third of the time that they are good for.
    pub renew_before: Option<Duration>,
}

impl Acme {
    /// The file of an equal one says the same.
    pub fn says_the_same(&self, other: &Self) -> bool {
        match (&self.ca, &other.ca) {
            (Some(one), Some(other)) => one.says_the_same(other),
            _ => true,
        }
    }
}

/// How it is proven that a name leads here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AcmeChallenge {
    /// By an answer in the clear (RFC 8555 section 8.3).
    #[default]
    Http01,
    /// By a TLS handshake (RFC 8737).
    TlsAlpn01,
}
