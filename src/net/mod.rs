//! Opening sockets: listening ones for every core, and connections to backends. Used by the data plane and
//! by probes alike, so that a probe goes the way a request would.

pub mod proxy_protocol;
mod resolver;
mod socket;
mod stream;
mod tls;

pub use resolver::{Answer, Unknown, resolve};
pub use stream::{Stream, poll_read, poll_write, poll_write_vectored};
pub use tls::{ALPN_ACME, ALPN_H2, challenge_config, client_config, server_config};

use crate::spec::BackendAddress;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    fmt, io,
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpStream, UnixStream},
};
use tokio_rustls::TlsConnector;

/// Connections that wait to be accepted, for each core.
const BACKLOG: i32 = 4096;

/// Why there is no connection to a backend.
#[derive(Debug)]
pub enum DialError {
    Connect(io::Error),
    /// The connection was there, but no agreement on TLS.
    Tls(io::Error),
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => error.fmt(f),
            Self::Tls(error) => write!(f, "TLS: {error}"),
        }
    }
}

impl std::error::Error for DialError {}

/// Opens a connection to a backend; a name is resolved anew each time and its addresses are tried in turn.
/// `first` is sent before anything else. With `tls` the backend must prove that it has this name.
///
/// # Errors
/// When no address accepts within `timeout` (`TimedOut`), or with the error of the last one tried; or when the
/// handshake has not succeeded by then.
pub async fn dial(
    address: &BackendAddress,
    first: &[u8],
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    timeout: Duration,
) -> Result<Stream, DialError> {
    let is_connected = AtomicBool::new(false);
    let opening = async {
        let stream = connect(address, first).await.map_err(DialError::Connect)?;
        is_connected.store(true, Ordering::Relaxed);
        match tls {
            None => Ok(stream.into()),
            Some((config, name)) => {
                let shaken = TlsConnector::from(config).connect(name, stream).await;
                Ok(Stream::Tls(Box::new(shaken.map_err(DialError::Tls)?.into())))
            }
        }
    };
    tokio::time::timeout(timeout, opening).await.unwrap_or_else(|_| {
        let late = format!("no connection within {timeout:?}");
        let late = io::Error::new(io::ErrorKind::TimedOut, late);
        let why =
            if is_connected.load(Ordering::Relaxed) { DialError::Tls } else { DialError::Connect };
        Err(why(late))
    })
}

async fn connect(address: &BackendAddress, first: &[u8]) -> io::Result<TcpStream> {
    let mut stream = match address {
        BackendAddress::Socket(address) => TcpStream::connect(address).await?,
        BackendAddress::Host { host, port } => TcpStream::connect((&**host, *port)).await?,
        BackendAddress::Unix(path) => unix(path).await?,
        BackendAddress::Found(found) => TcpStream::connect(found.socket).await?,
        BackendAddress::Dns(name) => {
            return Err(io::Error::other(format!("{name} stands for addresses, and is none")));
        }
    };
    if !matches!(address, BackendAddress::Unix(_)) {
        stream.set_nodelay(true)?;
    }
    stream.write_all(first).await?;
    Ok(stream)
}

/// To read, to write and to close a stream is the same whatever the family of its socket, so it passes for one of
/// TCP.
async fn unix(path: &str) -> io::Result<TcpStream> {
    let stream = UnixStream::connect(path).await?.into_std()?;
    TcpStream::from_std(OwnedFd::from(stream).into())
}

/// Binds `address` once for each of `cores`: the kernel spreads connections over the sockets.
/// Returns them with the address bound (port 0 is replaced by the one chosen).
///
/// # Errors
/// Above all `AddrInUse`, also when another process listens there with `SO_REUSEPORT`, which would
/// otherwise quietly take a share of the connections.
pub fn listen(address: SocketAddr, cores: usize) -> io::Result<(SocketAddr, Vec<TcpListener>)> {
    if address.port() != 0 {
        let alone = socket(address)?;
        alone.bind(&address.into())?;
    }
    let mut bound = address;
    let mut sockets = Vec::with_capacity(cores);
    for _ in 0..cores.max(1) {
        let socket = socket(address)?;
        socket.set_reuse_port(true)?;
        socket.bind(&bound.into())?;
        socket.listen(BACKLOG)?;
        let listener: TcpListener = socket.into();
        bound = listener.local_addr()?;
        sockets.push(listener);
    }
    Ok((bound, sockets))
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // [::]:80 and 0.0.0.0:80 are two listeners, whatever the system's default is.
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_taken_is_refused_even_if_the_other_shares_it() {
        let (bound, sockets) = listen("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        assert_eq!(sockets.len(), 2);
        assert_eq!(listen(bound, 2).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(sockets);
        assert_eq!(listen(bound, 1).unwrap().0, bound);
    }
}
