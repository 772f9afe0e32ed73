//! Opening sockets: listening ones for every core, and connections to backends. Used by the data plane and
//! by probes alike, so that a probe goes the way a request would.

mod inherited;
pub mod proxy_protocol;
mod resolver;
mod socket;
mod stream;
mod tls;

pub use inherited::Inherited;
pub use resolver::{Answer, Unknown, resolve};
pub use stream::{Stream, poll_read, poll_write, poll_write_vectored};
pub use tls::{
    ALPN_ACME, ALPN_H2, challenge_config, client_config, config_for_others, server_config,
};

use crate::spec::BackendAddress;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
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

/// What the kernel takes for a client beyond what is on its way. More would make nothing faster, and thousands of
/// clients that do not read would fill the memory that all connections of the system share.
const MOST_UNSENT: u32 = 128 << 10;

/// The sockets of a listener, with the address bound (port 0 is replaced by the one chosen).
pub type Listening = (SocketAddr, Vec<Arc<TcpListener>>);

/// Binds `address` once for each of `cores`: the kernel spreads connections over the sockets.
///
/// # Errors
/// Above all `AddrInUse`, also when another process listens there with `SO_REUSEPORT`, which would
/// otherwise quietly take a share of the connections.
pub fn listen(address: SocketAddr, cores: usize) -> io::Result<Listening> {
    if address.port() != 0 {
        let alone = socket(address)?;
        alone.bind(&address.into())?;
    }
    let mut bound = address;
    let mut sockets = Vec::with_capacity(cores);
    for _ in 0..cores.max(1) {
        let listener = bind_beside_others(bound)?;
        let_come(&listener)?;
        bound = listener.local_addr()?;
        sockets.push(Arc::new(listener));
    }
    Ok((bound, sockets))
}

/// The sockets that were inherited for `address`, and further ones if there are more `cores`, to which
/// [`let_come`] is still to be said; bound like [`listen`] does if none were.
///
/// # Errors
/// Those of [`listen`].
pub fn listen_or_inherit(
    address: SocketAddr,
    cores: usize,
    inherited: &mut Inherited,
) -> io::Result<Listening> {
    match inherited.take(address) {
        Some((bound, sockets)) => Ok((bound, inherited::at_least_one_each(bound, sockets, cores))),
        None => listen(address, cores),
    }
}

/// From now on connections may come to this socket. For those that share an address with others that is the moment
/// from which they get a part of them.
///
/// # Errors
/// When it is not bound.
pub fn let_come(socket: &TcpListener) -> io::Result<()> {
    Ok(rustix::net::listen(socket, BACKLOG)?)
}

/// Another socket beside those that are bound already; no connection comes to it yet.
fn join(bound: SocketAddr, other: &TcpListener) -> io::Result<TcpListener> {
    if !SockRef::from(other).reuse_port()? {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    bind_beside_others(bound)
}

fn bind_beside_others(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(address)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Makes a socket that somebody else has bound like our own.
///
/// # Errors
/// When it is no listening socket of TCP.
pub fn adopt(socket: OwnedFd) -> io::Result<TcpListener> {
    let socket = Socket::from(socket);
    if !socket.is_listener()? || socket.protocol()? != Some(Protocol::TCP) {
        return Err(io::Error::other("it is no listening socket of TCP"));
    }
    socket.set_tcp_notsent_lowat(MOST_UNSENT)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // [::]:80 and 0.0.0.0:80 are two listeners, whatever the system's default is.
        socket.set_only_v6(true)?;
    }
    // Connections inherit it.
    socket.set_tcp_notsent_lowat(MOST_UNSENT)?;
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
