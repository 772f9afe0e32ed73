//! The TLS handshake of a client, before its first byte of HTTP.

use super::{connection::Admitted, secured::Secured};
use crate::{
    live::{ChallengeHandshakes, HandshakeFailure, LiveTls},
    net::{ALPN_ACME, ALPN_H2, Stream},
    spec::Protocols,
};
use rustls::{Error, HandshakeKind, ServerConnection, server::Acceptor};
use std::{io, sync::Arc};
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor, server::TlsStream};

/// What is kept of messages that the client does not take, beside what the engine keeps.
const BUFFER: usize = 32 << 10;

/// The first byte of a client that speaks TLS (RFC 8446 section 5.1).
const HANDSHAKE_RECORD: u8 = 22;

/// Shakes hands, within the listener's time, then has the connection served.
pub(super) async fn run(admitted: Admitted, tls: Arc<LiveTls>, stream: TcpStream) {
    let patience = admitted.listener().spec.timeouts.handshake;
    let shaken = timeout(patience, shake(&admitted, &tls, stream)).await;
    let shaken = shaken.unwrap_or(Err(HandshakeFailure::Timeout));
    let (core, bound) = (admitted.core().index, &admitted.listener().bound);
    let stream = match shaken {
        Ok(Shaken::Client(stream)) => stream,
        Ok(Shaken::Prover(mut stream)) => {
            tracing::debug!(listener = %bound.address, "a handshake proved a name");
            bound.handshake_done(core, false);
            // Nothing else is said on such a connection (RFC 8737 section 3).
            let _ = timeout(patience, stream.shutdown()).await;
            return;
        }
        Err(why) => {
            tracing::debug!(listener = %bound.address, why = why.as_str(), "no TLS handshake");
            return bound.handshake_failed(core, why);
        }
    };
    let session = stream.get_ref().1;
    bound.handshake_done(core, session.handshake_kind() == Some(HandshakeKind::Resumed));
    let asked = session.server_name().map(|name| tls.certificates.of(Some(name)).clone());
    let shown = session.peer_certificates().and_then(|chain| chain.first());
    let secured = Secured::new(asked, shown.map(AsRef::as_ref));
    let protocols = agreed(session, admitted.listener().spec.protocols);
    admitted.serve(Stream::Tls(Box::new((*stream).into())), protocols, Some(secured));
}

enum Shaken {
    Client(Box<TlsStream<TcpStream>>),
    /// Who issues certificates has seen what it wanted to see.
    Prover(Box<TlsStream<TcpStream>>),
}

async fn shake(
    admitted: &Admitted,
    tls: &LiveTls,
    stream: TcpStream,
) -> Result<Shaken, HandshakeFailure> {
    let mut first = [0];
    match stream.peek(&mut first).await {
        Ok(1) if first[0] == HANDSHAKE_RECORD => {}
        Ok(1) => {
            // What is not read would turn the close into a reset, and an answer would be lost.
            let _ = stream.try_read(&mut [0; 4096]);
            if first[0].is_ascii_uppercase() {
                explain_to_http(stream).await;
            }
            return Err(HandshakeFailure::NotTls);
        }
        _ => return Err(HandshakeFailure::Closed),
    }
    let published = &admitted.core().live.published;
    let shaken = match published.read(|snapshot| snapshot.challenges.handshakes().cloned()) {
        // As large as a whole handshake: not to be carried by who waits for the first byte.
        None => Box::pin(accept(tls, stream)).await,
        Some(proofs) => Box::pin(accept_or_prove(tls, &proofs, stream)).await,
    };
    shaken.map_err(|error| {
        tracing::debug!(%error, "TLS handshake");
        failure(&error, tls)
    })
}

async fn accept(tls: &LiveTls, stream: TcpStream) -> io::Result<Shaken> {
    let acceptor = TlsAcceptor::from(tls.config.clone());
    let stream = acceptor.accept_with(stream, limit).await?;
    Ok(Shaken::Client(Box::new(stream)))
}

/// While names are being proven: what the client says first decides which of the two it is.
async fn accept_or_prove(
    tls: &LiveTls,
    proofs: &ChallengeHandshakes,
    stream: TcpStream,
) -> io::Result<Shaken> {
    let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    let hello = start.client_hello();
    // Nothing else may be offered (RFC 8737 section 3).
    let offers_proof = hello.alpn().is_some_and(|offered| offered.eq([ALPN_ACME]));
    if offers_proof && proofs.are_for(hello.server_name()) {
        let stream = start.into_stream_with(proofs.config.clone(), limit).await?;
        return Ok(Shaken::Prover(Box::new(stream)));
    }
    let stream = start.into_stream_with(tls.config.clone(), limit).await?;
    Ok(Shaken::Client(Box::new(stream)))
}

fn limit(session: &mut ServerConnection) {
    session.set_buffer_limit(Some(BUFFER));
}

/// A client that speaks HTTP in the clear is told so.
async fn explain_to_http(mut stream: TcpStream) {
    let reply = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\n\
        x-crossfade-error: bad_request\r\ncontent-length: 41\r\nconnection: close\r\n\r\n\
        bad_request: this port speaks HTTPS only\n";
    // A client that is gone already needs no answer.
    let _ = stream.write_all(reply).await;
    let _ = stream.shutdown().await;
}

/// By ALPN; a client that does not use it speaks HTTP/1 (RFC 9113 section 3.2), or shows with its first bytes
/// what it speaks where nothing else is spoken.
fn agreed(session: &ServerConnection, offered: Protocols) -> Protocols {
    match session.alpn_protocol() {
        Some(protocol) if protocol == ALPN_H2 => Protocols { h1: false, h2: true },
        _ if offered.h1 => Protocols { h1: true, h2: false },
        _ => offered,
    }
}

fn failure(error: &io::Error, tls: &LiveTls) -> HandshakeFailure {
    let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
        return HandshakeFailure::Closed;
    };
    match error {
        Error::NoCertificatesPresented => HandshakeFailure::NoCertificate,
        Error::InvalidCertificate(_) => HandshakeFailure::BadCertificate,
        Error::PeerIncompatible(_) | Error::NoApplicationProtocol => HandshakeFailure::Incompatible,
        Error::AlertReceived(_) => HandshakeFailure::Refused,
        Error::General(_) if tls.certificates.all().is_empty() => HandshakeFailure::Unissued,
        _ => HandshakeFailure::Malformed,
    }
}
