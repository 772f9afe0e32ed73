//! Where the admin API listens: loopback, mostly, or a unix socket.

use crate::spec::AdminAddress;
use socket2::{Domain, SockAddr, Socket as RawSocket, Type};
use std::{
    fs, io,
    net::SocketAddr,
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net as unix,
    },
    path::{Path, PathBuf},
};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream, unix::UCred};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// A unix socket is for its owner and group.
const MODE: u32 = 0o660;

/// The bound socket of the admin API.
pub struct Socket(Bound);

enum Bound {
    Tcp(std::net::TcpListener),
    Unix(File, unix::UnixListener),
}

/// Accepts connections. The file of a unix socket is removed first when this is dropped.
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix { _file: File, listener: UnixListener },
}

pub(super) enum Accepted {
    Tcp {
        stream: TcpStream,
        /// The address that was connected to.
        local: SocketAddr,
        remote: SocketAddr,
    },
    /// With whose process it was that connected.
    Unix(UnixStream, UCred),
}

/// The file of a unix socket, as long as it is ours.
pub(super) struct File(PathBuf);

impl Drop for File {
    fn drop(&mut self) {
        // If somebody else has removed it, all the better.
        let _ = fs::remove_file(&self.0);
    }
}

/// Binds the admin API's address. A unix socket is open to its owner and group, and replaces a file that
/// nobody listens on any more.
///
/// # Errors
/// Above all `AddrInUse`, for a unix socket when somebody answers on it or it is no socket.
pub fn bind(address: &AdminAddress) -> io::Result<Socket> {
    match address {
        AdminAddress::Tcp(address) => bind_tcp(*address),
        AdminAddress::Unix(path) => bind_unix(path),
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<Socket> {
    let socket = RawSocket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(Socket(Bound::Tcp(socket.into())))
}

fn bind_unix(path: &Path) -> io::Result<Socket> {
    remove_stale(path)?;
    let socket = RawSocket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = File(path.to_owned());
    // Nobody can connect before `listen`, so there is no moment with wider permissions.
    fs::set_permissions(path, fs::Permissions::from_mode(MODE))?;
    socket.listen(BACKLOG)?;
    Ok(Socket(Bound::Unix(file, socket.into())))
}

/// Removes what a process left that was killed.
fn remove_stale(path: &Path) -> io::Result<()> {
    let in_use = |why| Err(io::Error::new(io::ErrorKind::AddrInUse, why));
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => in_use("there is a file that is no socket"),
        Ok(_) => match unix::UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
            _ => in_use("another process may be listening on it"),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

impl Socket {
    /// Where it listens; port 0 is replaced by the one that the system chose.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn address(&self) -> io::Result<AdminAddress> {
        match &self.0 {
            Bound::Tcp(listener) => listener.local_addr().map(AdminAddress::Tcp),
            Bound::Unix(file, _) => Ok(AdminAddress::Unix(file.0.clone())),
        }
    }

    /// Ready to accept on the current runtime.
    pub(super) fn listen(self) -> io::Result<Listener> {
        Ok(match self.0 {
            Bound::Tcp(listener) => Listener::Tcp(TcpListener::from_std(listener)?),
            Bound::Unix(file, listener) => {
                Listener::Unix { _file: file, listener: UnixListener::from_std(listener)? }
            }
        })
    }
}

impl Listener {
    pub(super) async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (stream, remote) = listener.accept().await?;
                stream.set_nodelay(true)?;
                let local = stream.local_addr()?;
                Ok(Accepted::Tcp { stream, local, remote })
            }
            Self::Unix { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                let credentials = stream.peer_cred()?;
                Ok(Accepted::Unix(stream, credentials))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind_error(path: &Path) -> io::ErrorKind {
        bind(&AdminAddress::Unix(path.into())).err().expect("it is not bound").kind()
    }

    #[test]
    fn a_unix_socket_is_for_owner_and_group_and_leaves_no_trace() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        let socket = bind(&AdminAddress::Unix(path.clone())).unwrap();
        assert_eq!(socket.address().unwrap(), AdminAddress::Unix(path.clone()));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        assert_eq!(bind_error(&path), io::ErrorKind::AddrInUse, "somebody answers");
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn only_a_socket_that_nobody_answers_on_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        drop(unix::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "as after a kill");
        drop(bind(&AdminAddress::Unix(path.clone())).unwrap());
        fs::write(&path, "precious").unwrap();
        assert_eq!(bind_error(&path), io::ErrorKind::AddrInUse);
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        let missing = directory.path().join("none/admin.sock");
        assert_eq!(bind_error(&missing), io::ErrorKind::NotFound);
    }
}
