//! A client connection that was accepted: who it is from, what it counts as, which engine serves it.

use super::{core::Core, handshake, headers::Client, http1, hyper, secured::Secured};
use crate::{
    live::LiveListener,
    net::Stream,
    routing::Host,
    spec::{Engine, Protocols},
};
use std::{
    cell::Cell,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    time::Duration,
};
use tokio::{io::AsyncWriteExt, net::TcpStream, sync::watch, task::spawn_local, time::timeout};

/// When its listener has left or the process drains, an HTTP/1 connection that has been quiet for this long
/// is closed; one that is in use learns from its next answer. Closing at once would meet requests on their
/// way.
pub(super) const QUIET_BEFORE_CLOSE: Duration = Duration::from_secs(1);

/// What the requests of a connection share.
pub(super) struct ClientConnection {
    pub(super) core: Rc<Core>,
    pub(super) listener: Rc<LiveListener>,
    pub(super) client: Client,
    /// What it may speak: with TLS that has been agreed on.
    pub(super) protocols: Protocols,
    secured: Option<Box<Secured>>,
    /// True when its listener has left or the process drains.
    pub(super) stopped: watch::Receiver<bool>,
    /// A tunnel holds the connection, and so is counted, longer than HTTP does.
    open: Open,
}

/// Serves a connection, in a task of its own, until it ends.
pub(super) fn start(
    core: &Rc<Core>,
    listener: Rc<LiveListener>,
    stopped: watch::Receiver<bool>,
    stream: TcpStream,
    peer: SocketAddr,
) {
    let open = Open::count(core, &listener);
    if stream.set_nodelay(true).is_err() {
        return;
    }
    if over_the_limit(&listener) {
        // A word in the clear would be none to who expects TLS, and a handshake is what there is no room for.
        if listener.tls.is_none() {
            spawn_local(refuse(stream, open));
        }
        return;
    }
    let peer = peer.ip().to_canonical();
    let trusted = listener.spec.trusted_proxies.iter().any(|network| network.contains(&peer));
    let tls = listener.tls.clone();
    let arrival = Arrival { open, listener, stopped, peer, trusted };
    match tls {
        None => {
            let protocols = arrival.listener.spec.protocols;
            arrival.serve(stream.into(), protocols, None);
        }
        Some(tls) => drop(spawn_local(handshake::run(arrival, tls, stream))),
    }
}

/// A connection before its first byte of HTTP.
pub(super) struct Arrival {
    open: Open,
    listener: Rc<LiveListener>,
    stopped: watch::Receiver<bool>,
    peer: IpAddr,
    /// Its `X-Forwarded-*` are believed.
    trusted: bool,
}

impl Arrival {
    pub(super) fn core(&self) -> &Core {
        &self.open.core
    }

    pub(super) fn listener(&self) -> &LiveListener {
        &self.listener
    }

    /// Serves it, in a task of its own, until it ends.
    pub(super) fn serve(self, stream: Stream, protocols: Protocols, secured: Option<Secured>) {
        let Self { open, listener, stopped, peer, trusted } = self;
        let connection = Rc::new(ClientConnection {
            core: open.core.clone(),
            listener,
            client: Client::new(peer, trusted, secured.as_ref()),
            protocols,
            secured: secured.map(Box::new),
            stopped,
            open,
        });
        // A task is as large as the largest thing it may become: each engine has its own.
        match connection.listener.engine {
            Engine::Native if protocols.h1 => {
                spawn_local(http1::serve(connection, stream));
            }
            _ => {
                spawn_local(hyper::serve(connection, stream));
            }
        }
    }
}

impl ClientConnection {
    /// One that nobody is connected by.
    #[cfg(fuzzing)]
    pub(super) fn detached(core: &Rc<Core>, listener: LiveListener) -> Rc<Self> {
        let listener = Rc::new(listener);
        let open = Open::count(core, &listener);
        let client = Client::new([192, 0, 2, 1].into(), false, None);
        let stopped = watch::channel(false).1;
        let protocols = listener.spec.protocols;
        let core = core.clone();
        Rc::new(Self { core, listener, client, protocols, secured: None, stopped, open })
    }

    /// The client has shown by the name that it asked TLS for that it takes this listener for another one's.
    pub(super) fn is_misdirected(&self, host: Option<&Host<'_>>) -> bool {
        self.secured.as_ref().is_some_and(|secured| !secured.is_for(host))
    }

    /// Its listener has left or the process drains: the client should connect elsewhere.
    pub(super) fn is_leaving(&self) -> bool {
        *self.stopped.borrow()
    }

    /// It turned out to speak HTTP/2.
    pub(super) fn turn_http2(&self) {
        if !self.open.is_h2.replace(true) {
            self.listener.bound.closed(self.core.index, false);
            self.listener.bound.opened(self.core.index, true);
        }
    }
}

/// Counts a connection as long as it is open.
struct Open {
    core: Rc<Core>,
    listener: Rc<LiveListener>,
    is_h2: Cell<bool>,
}

impl Open {
    fn count(core: &Rc<Core>, listener: &Rc<LiveListener>) -> Self {
        core.connections.set(core.connections.get() + 1);
        listener.bound.opened(core.index, false);
        Self { core: core.clone(), listener: listener.clone(), is_h2: Cell::new(false) }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.core.connections.set(self.core.connections.get() - 1);
        self.listener.bound.closed(self.core.index, self.is_h2.get());
    }
}

fn over_the_limit(listener: &LiveListener) -> bool {
    let (h1, h2) = listener.bound.connections();
    h1 + h2 > u64::from(listener.spec.limits.connections)
}

/// Says why before it closes.
async fn refuse(mut stream: TcpStream, _open: Open) {
    let reply = b"HTTP/1.1 503 Service Unavailable\r\nx-crossfade-error: overloaded\r\n\
        retry-after: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    // A client that is gone already needs no answer.
    let _ = timeout(Duration::from_secs(1), stream.write_all(reply)).await;
}
