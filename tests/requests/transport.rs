//! What bytes go over.

use crate::gateway;
use crossfade::spec::{Certificate, KeyPair, Listener, ListenerTls, crypto_provider};
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use std::{
    net::SocketAddr,
    path::Path,
    sync::{Arc, LazyLock},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

#[derive(Clone, Copy)]
pub enum Transport {
    Clear,
    Tls,
    /// The client's HTTP/1 becomes HTTP/2 on its way.
    Http2,
}

pub type Reading = Box<dyn AsyncRead + Send + Sync + Unpin>;
pub type Writing = Box<dyn AsyncWrite + Send + Sync + Unpin>;

/// A connection, whose halves can be held apart.
pub struct Line {
    pub read: Reading,
    pub write: Writing,
    /// The same socket once more, to reset it.
    pub socket: socket2::Socket,
}

/// A certificate for 127.0.0.1, which no name is asked for with, and who trusts it.
static TLS: LazyLock<(Certificate, TlsConnector)> = LazyLock::new(|| {
    let params = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let made = params.self_signed(&key).unwrap();
    let pem = (made.pem(), key.serialize_pem());
    let pair = KeyPair::from_pem(pem.0.as_bytes(), pem.1.as_bytes()).unwrap();
    let (cert, key) = (Path::new("a.crt").into(), Path::new("a.key").into());
    let mut roots = RootCertStore::empty();
    roots.add(made.der().clone()).unwrap();
    let config = ClientConfig::builder_with_provider(crypto_provider().clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Certificate { cert, key, pair: Arc::new(pair) }, TlsConnector::from(Arc::new(config)))
});

impl Transport {
    pub fn equip(self, listener: &mut Listener) {
        listener.tls = match self {
            Self::Clear | Self::Http2 => None,
            Self::Tls => Some(ListenerTls::new(vec![TLS.0.clone()])),
        };
    }

    pub async fn connect(self, address: SocketAddr) -> Line {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let socket = socket2::SockRef::from(&stream).try_clone().unwrap();
        match self {
            Self::Clear => {
                let (read, write) = stream.into_split();
                Line { read: Box::new(read), write: Box::new(write), socket }
            }
            Self::Tls => {
                let name = ServerName::from(address.ip());
                let stream = TLS.1.connect(name, stream).await.unwrap();
                let (read, write) = tokio::io::split(stream);
                Line { read: Box::new(read), write: Box::new(write), socket }
            }
            Self::Http2 => {
                let (client, other) = tokio::io::duplex(64 << 10);
                tokio::spawn(gateway::serve(other, stream, address));
                let (read, write) = tokio::io::split(client);
                Line { read: Box::new(read), write: Box::new(write), socket }
            }
        }
    }
}
