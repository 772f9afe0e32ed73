//! One order, from its first request to the certificate (RFC 8555 section 7.4).

use super::{
    failure::Failure,
    proof::{Proof, challenges},
};
use crate::{
    control::{Handle, Issuance},
    live::Challenges,
    spec::{Acme, AcmeChallenge, KeyPair, Name},
};
use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Error, Identifier, NewOrder, Order, OrderStatus,
    RetryPolicy,
};
use std::{sync::Arc, time::Duration};

/// How often and how long an issuer is asked whether it is done, where it does not say when to ask.
const ASKING: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(250))
    .backoff(1.5)
    .timeout(Duration::from_secs(90));

/// Where proofs are shown.
pub(super) struct Board {
    pub(super) handle: Handle,
    /// All else that the control task knows.
    pub(super) issuance: Issuance,
}

/// The certificate with its key in front, as PEM, and what it says.
pub(super) struct Issued {
    pub(super) pem: String,
    pub(super) pair: KeyPair,
}

/// Orders a certificate for `hosts`.
///
/// # Errors
/// When there is none in the end.
pub(super) async fn place(
    account: &Account,
    acme: &Acme,
    hosts: &[Name],
    board: &Board,
) -> Result<Issued, Failure> {
    let names: Vec<_> = hosts.iter().map(|host| Identifier::Dns(host.to_string())).collect();
    let mut order = account.new_order(&NewOrder::new(&names)).await?;
    let proofs = proofs(&mut order, acme.challenge, hosts).await?;
    board.show(challenges(acme.challenge, &proofs)?).await?;
    let proven = prove(&mut order, acme.challenge).await;
    // What is proven once is not asked for again.
    board.show(Challenges::default()).await?;
    proven?;
    let key = order.finalize().await?;
    let chain = order.poll_certificate(&ASKING).await?;
    let pem = format!("{key}{chain}");
    let pair = KeyPair::from_pem(pem.as_bytes(), pem.as_bytes()).map_err(|error| {
        Failure::refused(format_args!("what was issued is of no use: {error:?}"))
    })?;
    if let Some(host) = hosts.iter().find(|host| !pair.names.cover(host)) {
        let why = format_args!("what was issued is not for `{host}`, but for {}", pair.names);
        return Err(Failure::refused(why));
    }
    Ok(Issued { pem, pair })
}

/// What is to be shown for the hosts that the issuer does not trust this account with yet.
async fn proofs(
    order: &mut Order,
    kind: AcmeChallenge,
    hosts: &[Name],
) -> Result<Vec<Proof>, Failure> {
    let mut proofs = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        let host = authorization.identifier().to_string().to_ascii_lowercase();
        match authorization.status {
            AuthorizationStatus::Valid => continue,
            AuthorizationStatus::Pending => {}
            status => {
                return Err(Failure::refused(format_args!("{host}: already {status:?}")));
            }
        }
        if !hosts.iter().any(|wanted| **wanted == *host) {
            return Err(Failure::refused(format_args!("a proof for `{host}` is asked for")));
        }
        let Some(challenge) = authorization.challenge(of_library(kind)) else {
            let why = format_args!("{host}: the issuer does not take the challenge {kind:?}");
            return Err(Failure::refused(why));
        };
        let (token, authorization) = (challenge.token.clone(), challenge.key_authorization());
        proofs.push(Proof { host: host.into(), token, authorization });
    }
    Ok(proofs)
}

/// Has the issuer look at the proofs, and waits until it has.
async fn prove(order: &mut Order, kind: AcmeChallenge) -> Result<(), Failure> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status == AuthorizationStatus::Pending
            && let Some(mut challenge) = authorization.challenge(of_library(kind))
        {
            challenge.set_ready().await?;
        }
    }
    match order.poll_ready(&ASKING).await {
        Ok(OrderStatus::Invalid) => Err(explain(order, None).await),
        Err(Error::Api(problem)) => Err(explain(order, Some(problem.into())).await),
        outcome => outcome.map(drop).map_err(Failure::from),
    }
}

/// Why hosts were not found to be proven: that is told of each, not of the order.
async fn explain(order: &mut Order, otherwise: Option<Error>) -> Failure {
    let mut reasons = Vec::new();
    if order.refresh().await.is_ok() {
        let mut authorizations = order.authorizations();
        while let Some(Ok(authorization)) = authorizations.next().await {
            let errors = authorization.challenges.iter().filter_map(|it| it.error.as_ref());
            let host = authorization.identifier().to_string();
            reasons.extend(errors.map(|error| format!("{host}: {error}")));
        }
    }
    match (reasons.is_empty(), otherwise) {
        (true, Some(error)) => error.into(),
        (true, None) => Failure::refused("the order was refused, without a reason"),
        (false, _) => Failure::refused(reasons.join("; ")),
    }
}

fn of_library(kind: AcmeChallenge) -> ChallengeType {
    match kind {
        AcmeChallenge::Http01 => ChallengeType::Http01,
        AcmeChallenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
    }
}

impl Board {
    /// Returns once every request and handshake that begins sees them.
    async fn show(&self, challenges: Challenges) -> Result<(), Failure> {
        let issuance = Issuance { challenges: Arc::new(challenges), ..self.issuance.clone() };
        self.handle.issue(issuance).await.map_err(Failure::here)
    }
}
