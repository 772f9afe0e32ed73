//! What is shown to who issues certificates.

use super::failure::Failure;
use crate::{
    live::{ChallengeHandshakes, Challenges},
    net,
    spec::{AcmeChallenge, crypto_provider},
};
use instant_acme::KeyAuthorization;
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::{collections::HashMap, sync::Arc};

/// That a host leads here.
pub(super) struct Proof {
    /// In lower case.
    pub(super) host: Box<str>,
    pub(super) token: String,
    pub(super) authorization: KeyAuthorization,
}

/// # Errors
/// When this machine cannot make a certificate.
pub(super) fn challenges(kind: AcmeChallenge, proofs: &[Proof]) -> Result<Challenges, Failure> {
    match kind {
        AcmeChallenge::Http01 => {
            let answer =
                |proof: &Proof| (proof.token.clone(), proof.authorization.as_str().to_owned());
            Ok(Challenges::by_http(proofs.iter().map(answer)))
        }
        AcmeChallenge::TlsAlpn01 => {
            let certificate = |proof: &Proof| Ok((proof.host.clone(), certificate(proof)?));
            let all = proofs.iter().map(certificate).collect::<Result<HashMap<_, _>, Failure>>()?;
            let names = all.keys().cloned().collect();
            let config = net::challenge_config(Arc::new(ByName(all))).map_err(Failure::here)?;
            Ok(Challenges::by_tls(ChallengeHandshakes { config: Arc::new(config), names }))
        }
    }
}

/// Signed by itself, for this host alone, with what proves it in an extension (RFC 8737 section 3).
fn certificate(proof: &Proof) -> Result<Arc<CertifiedKey>, Failure> {
    let host = proof.host.to_string();
    let mut params = CertificateParams::new(vec![host]).map_err(Failure::here)?;
    let digest = proof.authorization.digest();
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest.as_ref())];
    let key = KeyPair::generate().map_err(Failure::here)?;
    let chain = vec![params.self_signed(&key).map_err(Failure::here)?.der().clone()];
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let key = crypto_provider().key_provider.load_private_key(key).map_err(Failure::here)?;
    // Unchecked: no reader of certificates knows that extension, and it is critical.
    Ok(Arc::new(CertifiedKey::new(chain, key)))
}

#[derive(Debug)]
struct ByName(HashMap<Box<str>, Arc<CertifiedKey>>);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.get(&*hello.server_name()?.to_ascii_lowercase()).cloned()
    }
}
