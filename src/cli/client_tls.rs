//! How the command line speaks TLS with the admin API.

use super::{Failure, Global};
use crate::{
    net,
    spec::{
        Authority, Certificate, CertificateError, KeyPair, PoolProtocol, PoolTls, crypto_provider,
    },
};
use rustls::{ClientConfig, RootCertStore};
use std::{path::Path, sync::Arc};

/// For an admin API that speaks TLS, or else one that nobody is trusted with.
pub(super) fn config(global: &Global, speaks_tls: bool) -> Result<ClientConfig, Failure> {
    if !speaks_tls {
        // Never used; the client would look for authorities of the system, which need not be there.
        return ClientConfig::builder_with_provider(crypto_provider().clone())
            .with_safe_default_protocol_versions()
            .map(|builder| {
                builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth()
            })
            .map_err(|error| Failure::failed(error.to_string()));
    }
    let ca = global.ca.as_deref().map(|file| {
        let authority = Authority::from_pem(file.into(), &read(file)?);
        authority.map_err(|error| unusable(file, &error))
    });
    let identity = global.cert.as_deref().zip(global.key.as_deref()).map(|(cert, key)| {
        let pair = KeyPair::from_pem(&read(cert)?, &read(key)?).map_err(|error| {
            let concerns_cert =
                matches!(error, CertificateError::NoCertificate | CertificateError::Malformed(_));
            unusable(if concerns_cert { cert } else { key }, &error)
        })?;
        Ok(Certificate { cert: cert.into(), key: key.into(), pair: Arc::new(pair) })
    });
    let tls = PoolTls { ca: ca.transpose()?, server_name: None, identity: identity.transpose()? };
    net::client_config(&tls, PoolProtocol::H1).map_err(|error| {
        Failure::usage(format!(
            "nobody is trusted: {error}; name who vouches for the admin API with --ca"
        ))
    })
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(file)
        .map_err(|error| Failure::usage(format!("{} cannot be read: {error}", file.display())))
}

fn unusable(file: &Path, error: &CertificateError) -> Failure {
    let why = match error {
        CertificateError::NoCertificate => "there is no certificate in it".to_owned(),
        CertificateError::Malformed(why) => format!("a certificate in it cannot be read: {why}"),
        CertificateError::NoKey => "there is no private key in it".to_owned(),
        CertificateError::EncryptedKey => "the key is encrypted; decrypt it".to_owned(),
        CertificateError::UnusableKey(why) => format!("the key cannot be used: {why}"),
        CertificateError::Mismatch => "it is not the key of the certificate".to_owned(),
    };
    Failure::usage(format!("{}: {why}", file.display()))
}
