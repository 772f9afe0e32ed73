//! Authorities that are made on the spot, proxies that speak TLS, and clients that trust them.

use crate::support::*;
use crossfade::spec::{
    self, Authority, Certificate, Engine, Listener, ListenerTls, PoolTls, Spec, crypto_provider,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertificateParams, DnType, IsCa, Issuer, SanType, date_time_ymd};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use std::{io, path::Path, sync::Arc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client::TlsStream};

/// An authority of its own.
pub struct Ca {
    issuer: Issuer<'static, rcgen::KeyPair>,
    pub cert: rcgen::Certificate,
}

/// PEM of a certificate and its key.
#[derive(Clone)]
pub struct Pem {
    pub cert: String,
    pub key: String,
}

impl Ca {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "authority");
        let key = rcgen::KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap();
        Self { issuer: Issuer::new(params, key), cert }
    }

    pub fn issue(&self, names: &[&str]) -> Pem {
        self.issue_with(names, |_| {})
    }

    pub fn issue_with(&self, names: &[&str], edit: impl FnOnce(&mut CertificateParams)) -> Pem {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, "leaf");
        edit(&mut params);
        let key = rcgen::KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        Pem { cert: cert.pem(), key: key.serialize_pem() }
    }

    /// A client's, with a URI beside its name.
    pub fn issue_client(&self, name: &str) -> Pem {
        self.issue_with(&[], |params| {
            let uri = format!("spiffe://test/{name}");
            params.subject_alt_names = vec![SanType::URI(uri.as_str().try_into().unwrap())];
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, name);
        })
    }

    pub fn issue_expired(&self, names: &[&str]) -> Pem {
        self.issue_with(names, |params| params.not_after = date_time_ymd(2020, 1, 1))
    }

    pub fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.cert.der().clone()).unwrap();
        Arc::new(roots)
    }

    /// As a configuration names it.
    pub fn authority(&self) -> Authority {
        Authority::from_pem(Path::new("ca.pem").into(), self.cert.pem().as_bytes()).unwrap()
    }
}

impl Pem {
    /// As a configuration names it.
    pub fn named(&self, name: &str) -> Certificate {
        let pair = spec::KeyPair::from_pem(self.cert.as_bytes(), self.key.as_bytes()).unwrap();
        Certificate {
            cert: Path::new(&format!("{name}.crt")).into(),
            key: Path::new(&format!("{name}.key")).into(),
            pair: Arc::new(pair),
        }
    }

    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(self.cert.as_bytes()).map(Result::unwrap).collect()
    }

    pub fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap()
    }
}

pub fn listener(tls: ListenerTls) -> Listener {
    Listener { tls: Some(tls), ..Listener::new("127.0.0.1:0".parse().unwrap()) }
}

/// One pool and one listener, which speaks TLS.
pub fn tls_spec(backend: &Backend, engine: Engine, tls: ListenerTls) -> Spec {
    let mut spec = spec(&[("blue", pool("v1", 100, &[backend.spec_address()]))]);
    spec.engine = engine;
    spec.listeners = vec![listener(tls)];
    spec
}

/// The same, with a pool that speaks TLS behind a listener in the clear.
pub fn upstream_spec(backend: &Backend, engine: Engine, tls: PoolTls) -> Spec {
    let mut pool = pool("v1", 100, &[backend.spec_address()]);
    pool.tls = Some(tls);
    let mut spec = spec(&[("blue", pool)]);
    spec.engine = engine;
    spec
}

pub const ENGINES: [Engine; 2] = [Engine::Native, Engine::Hyper];

/// What a client's handshakes are made with. Sessions are kept with it.
pub fn client_config(ca: &Ca, alpn: &[&str], shown: Option<&Pem>) -> ClientConfig {
    client_config_of(ca, alpn, shown, rustls::ALL_VERSIONS)
}

pub fn client_config_of(
    ca: &Ca,
    alpn: &[&str],
    shown: Option<&Pem>,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(crypto_provider().clone())
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(ca.roots());
    let mut config = match shown {
        None => builder.with_no_client_auth(),
        Some(pem) => builder.with_client_auth_cert(pem.chain(), pem.private_key()).unwrap(),
    };
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}

pub type Tls = TlsStream<TcpStream>;

/// Shakes hands and asks for `name`.
pub async fn shake(proxy: &Proxy, config: &Arc<ClientConfig>, name: &str) -> io::Result<Tls> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let stream = TcpStream::connect(proxy.address).await?;
    stream.set_nodelay(true)?;
    let connecting = TlsConnector::from(config.clone()).connect(name, stream);
    timeout(PATIENCE, connecting).await.expect("a handshake ends")
}

/// The names of the certificate that the other side has shown.
pub fn shown_names(stream: &Tls) -> String {
    let chain = stream.get_ref().1.peer_certificates().unwrap();
    let (_, leaf) = x509_parser::parse_x509_certificate(&chain[0]).unwrap();
    let names = leaf.subject_alternative_name().unwrap().unwrap();
    names.value.general_names.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

pub async fn h1(stream: Tls) -> Client {
    let (sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    Client::H1(sender)
}

pub async fn h2(stream: Tls, proxy: &Proxy) -> Client {
    let io = TokioIo::new(stream);
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    Client::H2(sender, proxy.address)
}

/// Sends bytes and returns all that comes until the end, and how that was told.
pub async fn exchange(stream: &mut Tls, request: &str) -> (String, io::Result<usize>) {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut reply = Vec::new();
    let ended = timeout(PATIENCE, stream.read_to_end(&mut reply)).await.unwrap();
    (String::from_utf8_lossy(&reply).into_owned(), ended)
}

/// A backend's side of a handshake.
pub fn server_config(pem: &Pem, clients: Option<&Ca>) -> ServerConfig {
    let provider = crypto_provider().clone();
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(ca) => builder.with_client_cert_verifier(
            rustls::server::WebPkiClientVerifier::builder_with_provider(ca.roots(), provider)
                .build()
                .unwrap(),
        ),
    };
    builder.with_single_cert(pem.chain(), pem.private_key()).unwrap()
}

/// A backend that speaks TLS and does with each connection what `serve` does.
pub async fn tls_backend<F, A>(config: ServerConfig, serve: F) -> Backend
where
    F: Fn(tokio_rustls::server::TlsStream<TcpStream>) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = ()> + Send + 'static,
{
    let acceptor = TlsAcceptor::from(Arc::new(config));
    Backend::raw(move |stream| {
        let (acceptor, serve) = (acceptor.clone(), serve.clone());
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                serve(stream).await;
            }
        }
    })
    .await
}
