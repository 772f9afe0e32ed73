//! The admin listener: one socket, HTTP/1.1, on the control plane's runtime.

use super::{Admin, api, guard::Local, metrics, traffic::Traffic};
use crate::{config::Reloader, control::Handle, live::Live, spec::AdminAddress};
use axum::{Router, body::Body};
use http::Request;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, SockAddr, Socket as RawSocket, Type};
use std::{
    fs, io,
    os::unix::{fs::FileTypeExt, fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::{Semaphore, watch},
    task::JoinSet,
};
use tower::ServiceExt;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// Open connections; further ones wait to be accepted.
const CONNECTIONS: usize = 512;

/// For the head of a request, and so for the silence between two.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest head.
const HEAD_BYTES: usize = 64 << 10;

/// What is being answered when the end comes may take this long.
const FAREWELL: Duration = Duration::from_secs(5);

/// Before the next try when no connection can be accepted (no file descriptor left, mostly).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The bound socket of the admin API.
pub struct Socket(Listening);

enum Listening {
    Tcp(std::net::TcpListener),
    Unix { listener: std::os::unix::net::UnixListener, path: PathBuf },
}

impl Socket {
    /// Where it listens; port 0 is replaced by the one that the system chose.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn address(&self) -> io::Result<AdminAddress> {
        match &self.0 {
            Listening::Tcp(listener) => listener.local_addr().map(AdminAddress::Tcp),
            Listening::Unix { path, .. } => Ok(AdminAddress::Unix(path.clone())),
        }
    }
}

/// Binds the admin API's address. A unix socket is open to its owner and group, and replaces a file that
/// nobody listens on any more.
///
/// # Errors
/// Above all `AddrInUse`, for a unix socket when somebody answers on it or it is no socket.
pub fn bind(address: &AdminAddress) -> io::Result<Socket> {
    match address {
        AdminAddress::Tcp(address) => {
            let socket = RawSocket::new(Domain::for_address(*address), Type::STREAM, None)?;
            socket.set_reuse_address(true)?;
            socket.set_nonblocking(true)?;
            socket.bind(&(*address).into())?;
            socket.listen(BACKLOG)?;
            Ok(Socket(Listening::Tcp(socket.into())))
        }
        AdminAddress::Unix(path) => bind_unix(path),
    }
}

fn bind_unix(path: &Path) -> io::Result<Socket> {
    remove_stale(path)?;
    let socket = RawSocket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    // Nobody can connect before `listen`, so there is no moment with wider permissions.
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
    socket.listen(BACKLOG)?;
    Ok(Socket(Listening::Unix { listener: socket.into(), path: path.to_owned() }))
}

/// Removes what a process left that was killed.
fn remove_stale(path: &Path) -> io::Result<()> {
    let in_use = |why| Err(io::Error::new(io::ErrorKind::AddrInUse, why));
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => in_use("there is a file that is no socket"),
        Ok(_) => match UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
            _ => in_use("another process may be listening on it"),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Serves the admin API on `socket` until `end` resolves; what is being answered then is finished.
///
/// # Errors
/// When the socket cannot be used on this runtime.
pub async fn serve(
    live: Arc<Live>,
    handle: Handle,
    reloader: Option<Reloader>,
    socket: Socket,
    end: impl Future<Output = ()>,
) -> io::Result<()> {
    let process = metrics::Process::new();
    let admin = Arc::new(Admin { live, handle, reloader, traffic: Traffic::default(), process });
    let router = api::router(&admin);
    let watching = watch_traffic(&admin);
    match socket.0 {
        Listening::Tcp(listener) => {
            let listener = TcpListener::from_std(listener)?;
            let accept = async || {
                let (stream, _) = listener.accept().await?;
                let local = stream.local_addr()?;
                stream.set_nodelay(true)?;
                Ok((stream, Local::Tcp(local)))
            };
            run(accept, router, watching, end).await;
        }
        Listening::Unix { listener, path } => {
            let listener = UnixListener::from_std(listener)?;
            let accept = async || {
                let (stream, _) = listener.accept().await?;
                Ok((stream, Local::Unix))
            };
            run(accept, router, watching, end).await;
            // Whoever comes next finds no trace; if it is gone already, all the better.
            let _ = fs::remove_file(&path);
        }
    }
    Ok(())
}

async fn run<S>(
    accept: impl AsyncFn() -> io::Result<(S, Local)>,
    router: Router,
    watching: impl Future<Output = ()>,
    end: impl Future<Output = ()>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (ending, ended) = watch::channel(());
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    let mut end = pin!(end);
    let mut watching = pin!(watching);
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, accept().await)
        };
        tokio::select! {
            () = &mut end => break,
            () = &mut watching => break,
            Some(_) = connections.join_next() => {}
            (place, accepted) = next => match accepted {
                Ok((stream, local)) => {
                    let serving = connection(stream, local, router.clone(), ended.clone());
                    connections.spawn(async move {
                        serving.await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the admin API cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(ending);
    let farewell = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(FAREWELL, farewell).await.is_err() {
        tracing::warn!("requests to the admin API were cut short by the end");
    }
}

async fn connection<S>(stream: S, local: Local, router: Router, mut ended: watch::Receiver<()>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(local);
        router.clone().oneshot(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        _ = ended.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection to the admin API broke");
    }
}

/// Looks at the counters of every pool once a second, and at once at those of pools that are new.
async fn watch_traffic(admin: &Admin) {
    let mut views = admin.handle.views();
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = seconds.tick() => {
                admin.traffic.sample(&admin.live.pools(), Instant::now());
                admin.process.upkeep();
            }
            changed = views.changed() => match changed {
                Ok(()) => admin.traffic.meet(&admin.live.pools(), Instant::now()),
                // The control plane has ended; what is there can still be looked at until the end.
                Err(_) => std::future::pending().await,
            },
        }
    }
}
