//! What TLS is spoken with, on both sides: rustls with one provider of cryptography.

use crate::spec::{ListenerTls, PoolProtocol, PoolTls, Protocols, TlsVersion, crypto_provider};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::aws_lc_rs::Ticketer,
    server::{
        NoServerSessionStorage, ResolvesServerCert, ServerSessionMemoryCache, WebPkiClientVerifier,
    },
    sign::SingleCertAndKey,
};
use rustls_platform_verifier::Verifier;
use std::{error::Error, sync::Arc};

/// Sessions that a listener remembers for clients that cannot keep them as tickets (before TLS 1.3).
const SESSIONS: usize = 4096;

/// RFC 7301 section 6.
const ALPN_H1: &[u8] = b"http/1.1";
pub const ALPN_H2: &[u8] = b"h2";

/// RFC 8737 section 6.2.
pub const ALPN_ACME: &[u8] = b"acme-tls/1";

/// How a listener's handshakes are made. Sessions of `before` can be resumed; whoever was let in by other
/// authorities must show a certificate anew.
///
/// # Errors
/// When this machine cannot do it (it has no randomness).
pub fn server_config(
    tls: &ListenerTls,
    protocols: Protocols,
    certificates: Arc<dyn ResolvesServerCert>,
    before: Option<(&ListenerTls, &ServerConfig)>,
) -> Result<ServerConfig, Box<dyn Error>> {
    let versions: &[_] = match tls.min_version {
        TlsVersion::V12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        TlsVersion::V13 => &[&rustls::version::TLS13],
    };
    let provider = crypto_provider().clone();
    let builder =
        ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions)?;
    let builder = match &tls.client_auth {
        None => builder.with_no_client_auth(),
        Some(auth) => {
            let verifier =
                WebPkiClientVerifier::builder_with_provider(auth.ca.roots.clone(), provider);
            let verifier = if auth.required { verifier } else { verifier.allow_unauthenticated() };
            builder.with_client_cert_verifier(verifier.build()?)
        }
    };
    let mut config = builder.with_cert_resolver(certificates);
    let offered = [(ALPN_H2, protocols.h2), (ALPN_H1, protocols.h1)];
    config.alpn_protocols =
        offered.into_iter().filter(|(_, on)| *on).map(|(name, _)| name.to_vec()).collect();
    match before {
        _ if !tls.resumption => {
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Some((known, before)) if known.resumption && trusts_the_same(tls, known) => {
            config.session_storage = before.session_storage.clone();
            config.ticketer = before.ticketer.clone();
        }
        _ => {
            config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
            config.ticketer = Ticketer::new()?;
        }
    }
    Ok(config)
}

/// How handshakes are made that prove a name (RFC 8737 section 3). Nothing is ever said on such a connection.
///
/// # Errors
/// When this machine cannot do it.
pub fn challenge_config(
    certificates: Arc<dyn ResolvesServerCert>,
) -> Result<ServerConfig, rustls::Error> {
    let builder = ServerConfig::builder_with_provider(crypto_provider().clone());
    let builder = builder.with_safe_default_protocol_versions()?.with_no_client_auth();
    let mut config = builder.with_cert_resolver(certificates);
    config.alpn_protocols = vec![ALPN_ACME.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// A session that is resumed is not asked for a certificate again.
fn trusts_the_same(one: &ListenerTls, other: &ListenerTls) -> bool {
    match (&one.client_auth, &other.client_auth) {
        (None, None) => true,
        (Some(one), Some(other)) => one == other && one.ca.says_the_same(&other.ca),
        _ => false,
    }
}

/// For those who are asked or told something by HTTP: the authorities of the system are trusted; on a machine without
/// any nobody is, and what goes in the clear works all the same.
///
/// # Errors
/// When this machine has no TLS.
pub fn config_for_others() -> Result<ClientConfig, rustls::Error> {
    if let Ok(config) = client_config(&PoolTls::default(), PoolProtocol::H1) {
        return Ok(config);
    }
    let builder = ClientConfig::builder_with_provider(crypto_provider().clone());
    let builder = builder.with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

/// How handshakes with the backends of a pool are made, which speak `protocol`. Sessions are resumed, by any core.
///
/// # Errors
/// When nobody is trusted: the system has no authorities. With what it says about that.
pub fn client_config(tls: &PoolTls, protocol: PoolProtocol) -> Result<ClientConfig, rustls::Error> {
    let provider = crypto_provider().clone();
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?;
    let builder = match &tls.ca {
        Some(ca) => builder.with_root_certificates(ca.roots.clone()),
        None => {
            let system = Verifier::new(provider)?;
            builder.dangerous().with_custom_certificate_verifier(Arc::new(system))
        }
    };
    let mut config = match &tls.identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let certified = identity.pair.certified.clone();
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
        }
    };
    let spoken = match protocol {
        PoolProtocol::H1 => ALPN_H1,
        PoolProtocol::H2 => ALPN_H2,
    };
    config.alpn_protocols = vec![spoken.to_vec()];
    Ok(config)
}
