//! What whoever orders certificates has told the control task.

use crate::{
    live::Challenges,
    spec::{Certificate, Name},
};
use jiff::Timestamp;
use std::sync::Arc;

/// All that is known of ordered certificates. Told as a whole each time.
#[derive(Clone, Debug, Default)]
pub struct Issuance {
    /// For listeners with `acme: true`.
    pub certificates: Vec<Certificate>,
    /// What is to be proven at the moment.
    pub challenges: Arc<Challenges>,
    pub orders: Arc<[OrderStatus]>,
}

impl Issuance {
    /// The data plane would see no difference.
    pub(super) fn serves_the_same(&self, other: &Self) -> bool {
        let same =
            |one: &Certificate, other: &Certificate| one == other && one.says_the_same(other);
        let both_empty = || self.challenges.is_empty() && other.challenges.is_empty();
        self.certificates.len() == other.certificates.len()
            && self.certificates.iter().zip(&other.certificates).all(|(a, b)| same(a, b))
            && (Arc::ptr_eq(&self.challenges, &other.challenges) || both_empty())
    }
}

/// How it stands with one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderStatus {
    /// Whom it is for; at least one.
    pub hosts: Vec<Name>,
    /// When it expires; `None`: there is none yet.
    pub not_after: Option<Timestamp>,
    /// When it is ordered next.
    pub next: Timestamp,
    /// Why the last order failed; `None`: it did not.
    pub error: Option<String>,
    /// Orders so far that brought a certificate.
    pub issued: u64,
    /// Orders so far that did not.
    pub failed: u64,
}
