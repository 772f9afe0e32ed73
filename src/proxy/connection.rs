//! A client connection that was accepted: who it is from, what it counts as, which engine serves it.

use super::{
    core::Core,
    failure::{Reply, fault_of},
    fields::Lines,
    handshake,
    head::Head,
    headers::Client,
    http1, hyper,
    redirect::to_https,
    secured::Secured,
    upstream::Upstream,
};
use crate::{
    live::{Challenges, LiveBackend, LiveListener, Reason},
    net::{
        Stream,
        proxy_protocol::{self, Announced},
    },
    routing::Host,
    spec::{Engine, Protocols, ProxyProtocol, ProxyVersion},
};
use std::{
    cell::{Cell, RefCell},
    io,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    sync::watch,
    task::spawn_local,
    time::{sleep, timeout},
};

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
    /// From where and to where, as backends that want a PROXY header are told.
    ends: Ends,
    /// Upstreams of its own, for those backends.
    own: RefCell<Vec<Own>>,
    /// True when its listener has left or the process drains.
    pub(super) stopped: watch::Receiver<bool>,
    /// A tunnel holds the connection, and so is counted, longer than HTTP does.
    open: Open,
}

#[derive(Clone, Copy)]
struct Ends {
    source: SocketAddr,
    destination: SocketAddr,
}

struct Own {
    version: ProxyVersion,
    upstream: Rc<Upstream>,
}

/// Backends that one client connection has connections of its own to; more are forgotten, the oldest first.
const MOST_OWN: usize = 16;

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
    let Ok(destination) = local_address(&listener, &stream) else { return };
    let source = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    let ends = Ends { source, destination };
    let trusted = listener.spec.trusts(source.ip());
    let header = listener.spec.proxy_protocol;
    let arrival = Arrival { open, listener, stopped, stream };
    match (header, trusted) {
        (ProxyProtocol::Off, _) | (ProxyProtocol::Accept, false) => arrival.serve(ends, trusted),
        (ProxyProtocol::Require, false) => arrival.turn_away(Reason::BadRequest),
        (ProxyProtocol::Accept | ProxyProtocol::Require, true) => {
            spawn_local(arrival.announced(ends));
        }
    }
}

/// What the client has connected to. The system is asked only where the listener does not know.
fn local_address(listener: &LiveListener, stream: &TcpStream) -> io::Result<SocketAddr> {
    let bound = listener.bound.address;
    if bound.ip().is_unspecified() { stream.local_addr() } else { Ok(bound) }
}

/// A connection before its first byte of HTTP.
struct Arrival {
    open: Open,
    listener: Rc<LiveListener>,
    stopped: watch::Receiver<bool>,
    stream: TcpStream,
}

impl Arrival {
    fn serve(self, ends: Ends, trusted: bool) {
        let Self { open, listener, stopped, stream } = self;
        let tls = listener.tls.clone();
        let admitted = Admitted { open, listener, stopped, ends, trusted };
        match tls {
            None => {
                let protocols = admitted.listener.spec.protocols;
                admitted.serve(stream.into(), protocols, None);
            }
            Some(tls) => drop(spawn_local(handshake::run(admitted, tls, stream))),
        }
    }

    /// Lets the trusted peer say by a PROXY header who its client is, then serves that one.
    async fn announced(mut self, ends: Ends) {
        let mut stopped = self.stopped.clone();
        let left = async {
            // A worker that ends takes the connection with it.
            let _ = stopped.wait_for(|stopped| *stopped).await;
            sleep(QUIET_BEFORE_CLOSE).await;
        };
        let patience = self.listener.spec.timeouts.headers;
        let header = tokio::select! {
            biased;
            header = timeout(patience, proxy_protocol::read(&mut self.stream)) => header,
            () = left => return,
        };
        match header {
            Ok(Ok(Some(Announced::Client { source, destination }))) => {
                let source = SocketAddr::new(source.ip().to_canonical(), source.port());
                let trusted = self.listener.spec.trusts(source.ip());
                self.serve(Ends { source, destination }, trusted);
            }
            Ok(Ok(Some(Announced::Peer))) => self.serve(ends, true),
            Ok(Ok(None)) if self.listener.spec.proxy_protocol == ProxyProtocol::Accept => {
                self.serve(ends, true);
            }
            Ok(Ok(None)) => self.turn_away(Reason::BadRequest),
            Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
                self.turn_away(Reason::BadRequest);
            }
            // A load balancer that looks whether anybody listens.
            Ok(Err(_)) => {}
            Err(_) => self.turn_away(Reason::RequestTimeout),
        }
    }

    /// Closes it without a word: whoever is there may not speak HTTP yet.
    fn turn_away(self, reason: Reason) {
        let core = &self.open.core;
        core.live.unrouted.stats.record_failure(core.index, fault_of(reason), reason);
    }
}

/// A connection whose client is known, before its first byte of HTTP.
pub(super) struct Admitted {
    open: Open,
    listener: Rc<LiveListener>,
    stopped: watch::Receiver<bool>,
    ends: Ends,
    /// Its `X-Forwarded-*` are believed.
    trusted: bool,
}

impl Admitted {
    pub(super) fn core(&self) -> &Core {
        &self.open.core
    }

    pub(super) fn listener(&self) -> &LiveListener {
        &self.listener
    }

    /// Serves it, in a task of its own, until it ends.
    pub(super) fn serve(self, stream: Stream, protocols: Protocols, secured: Option<Secured>) {
        let Self { open, listener, stopped, ends, trusted } = self;
        let client = Client::new(ends.source.ip(), trusted, &listener.spec, secured.as_ref());
        let connection = Rc::new(ClientConnection {
            core: open.core.clone(),
            listener,
            client,
            protocols,
            secured: secured.map(Box::new),
            ends,
            own: RefCell::default(),
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
        let source = SocketAddr::from(([192, 0, 2, 1], 80));
        let ends = Ends { source, destination: source };
        let client = Client::new(source.ip(), false, &listener.spec, None);
        let stopped = watch::channel(false).1;
        let own = RefCell::default();
        let (core, protocols) = (core.clone(), listener.spec.protocols);
        let secured = None;
        Rc::new(Self { core, listener, client, protocols, secured, ends, own, stopped, open })
    }

    /// What a request is answered before anything is decided. Over TLS: one for a host that the name asked for is
    /// not for. In the clear: one of who issues certificates, and one that is to come by HTTPS.
    pub(super) fn steps_in<L: Lines>(
        &self,
        head: &Head<'_, L>,
        host: Option<&Host<'_>>,
    ) -> Option<Reply> {
        match &self.secured {
            Some(secured) => (!secured.is_for(host)).then(|| Reason::Misdirected.into()),
            None if !self.listener.steps_in => None,
            None => self.answers_in_the_clear(head, host),
        }
    }

    fn answers_in_the_clear<L: Lines>(
        &self,
        head: &Head<'_, L>,
        host: Option<&Host<'_>>,
    ) -> Option<Reply> {
        let proof = Challenges::may_concern(head.path).then(|| self.proof(head)).flatten();
        if proof.is_some() {
            return proof;
        }
        let redirects = self.listener.spec.redirect_https && !self.client.is_secure(head.lines);
        redirects.then(|| to_https(head, host, self.listener.https_port))
    }

    /// What proves a name to who issues certificates (RFC 8555 section 8.3).
    fn proof<L: Lines>(&self, head: &Head<'_, L>) -> Option<Reply> {
        let is_asked = matches!(head.method, "GET" | "HEAD");
        let published = &self.core.live.published;
        let proof = published.read(|snapshot| snapshot.challenges.answer(head.path).cloned());
        proof.filter(|_| is_asked).map(Reply::Proof)
    }

    /// Its own connections to a backend that wants a PROXY header of this version.
    pub(super) fn upstream(
        &self,
        backend: &Arc<LiveBackend>,
        version: ProxyVersion,
    ) -> Rc<Upstream> {
        let mut own = self.own.borrow_mut();
        let is_same =
            |it: &&Own| it.version == version && Arc::ptr_eq(&it.upstream.backend, backend);
        if let Some(known) = own.iter().find(is_same) {
            return known.upstream.clone();
        }
        let Ends { source, destination } = self.ends;
        let header = proxy_protocol::announcing(version, source, destination);
        let upstream = Upstream::announcing(backend.clone(), header.into());
        self.core.watch(&upstream);
        if own.len() == MOST_OWN {
            own.remove(0);
        }
        own.push(Own { version, upstream: upstream.clone() });
        upstream
    }

    /// Its listener has left or the process drains: the client should connect elsewhere.
    pub(super) fn is_leaving(&self) -> bool {
        // It is told once, and nobody marks it as seen: cheaper than to look at the value.
        self.stopped.has_changed().unwrap_or_else(|_| *self.stopped.borrow())
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
