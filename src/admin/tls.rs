//! TLS on the admin listener.

use super::access::ClientCertificate;
use crate::{
    live::Certificates,
    net,
    spec::{ListenerTls, Protocols},
};
use rustls::ServerConfig;
use std::{error::Error, io, sync::Arc, time::Duration};
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// For a handshake.
const DEADLINE: Duration = Duration::from_secs(10);

/// The first byte of a client that speaks TLS (RFC 8446 section 5.1).
const HANDSHAKE_RECORD: u8 = 22;

/// What connections are accepted with, made anew when the settings or what their files say has changed.
#[derive(Default)]
pub(super) struct Tls(Option<Made>);

/// For one connection.
#[derive(Clone)]
pub(super) struct Made {
    settings: ListenerTls,
    config: Arc<ServerConfig>,
}

impl Tls {
    /// `None`: in the clear.
    ///
    /// # Errors
    /// When this machine cannot do it.
    pub(super) fn of(
        &mut self,
        wanted: Option<&ListenerTls>,
    ) -> Result<Option<Made>, Box<dyn Error>> {
        let same = |made: &&Made| {
            Some(&made.settings) == wanted
                && wanted.is_some_and(|it| it.says_the_same(&made.settings))
        };
        if self.0.as_ref().filter(same).is_none() {
            self.0 = wanted.map(Made::new).transpose()?;
        }
        Ok(self.0.clone())
    }
}

impl Made {
    fn new(settings: &ListenerTls) -> Result<Self, Box<dyn Error>> {
        let certificates = Arc::new(Certificates::new(settings.certificates.clone()));
        let protocols = Protocols { h1: true, h2: false };
        let config = net::server_config(settings, protocols, certificates, None)?;
        Ok(Self { settings: settings.clone(), config: Arc::new(config) })
    }

    /// The connection, and the certificate that the client has shown. `None`: it was told that this port speaks
    /// TLS.
    ///
    /// # Errors
    /// When there is no handshake, or not in time.
    pub(super) async fn shake(
        self,
        stream: TcpStream,
    ) -> io::Result<Option<(TlsStream<TcpStream>, Option<ClientCertificate>)>> {
        let deadline = Instant::now() + DEADLINE;
        let late = |_| io::Error::from(io::ErrorKind::TimedOut);
        let mut first = [0];
        timeout_at(deadline, stream.peek(&mut first)).await.map_err(late)??;
        if first[0].is_ascii_uppercase() {
            let explained = timeout_at(deadline, explain(stream)).await;
            return explained.map_err(late)?.map(|()| None);
        }
        if first[0] != HANDSHAKE_RECORD {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let accepting = TlsAcceptor::from(self.config).accept(stream);
        let stream = timeout_at(deadline, accepting).await.map_err(late)??;
        let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let shown = shown.zip(self.settings.client_auth).map(|(shown, auth)| {
            // It has been verified against these, and is good as long as they are in force.
            ClientCertificate::new(shown, auth.ca)
        });
        Ok(Some((stream, shown)))
    }
}

/// Who speaks HTTP in the clear is told what is spoken here.
async fn explain(mut stream: TcpStream) -> io::Result<()> {
    // What is not read would turn the close into a reset, and the answer would be lost.
    let _ = stream.try_read(&mut [0; 4096]);
    let body = "{\"type\":\"/problems/malformed\",\"title\":\"Malformed request\",\"status\":400,\
        \"detail\":\"this port speaks TLS: use https://\"}";
    let head = format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}
