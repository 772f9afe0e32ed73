//! One client connection that speaks HTTP/2.

use super::{
    guard::{Limits, MALFORMED, Side},
    heads::Heads,
    stream,
    wire::{Guarded, Watch},
};
use crate::{
    live::Reason,
    proxy::hyper::{ClientStream, Served, turned_away},
};
use bytes::Bytes;
use h2::{
    Ping, PingPong, Reason as Code, RecvStream,
    server::{Builder, Connection, Handshake, SendResponse},
};
use http::Request;
use std::{
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};
use tokio::task::spawn_local;

/// RFC 9113 section 3.4.
pub(in crate::proxy) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a client may send of a body before the backend has taken it, on one stream and in all.
const STREAM_WINDOW: u32 = 128 << 10;
const CONNECTION_WINDOW: u32 = 512 << 10;

/// What a field takes in memory beyond its size (RFC 9113 section 6.5.2), twice there: as it came and as it goes on.
const FIELD: usize = 128;

/// What of a response waits in the library for its turn, on one stream.
const MOST_WAITING: usize = 64 << 10;

type Io = Guarded<ClientStream>;

/// Resolves when the connection has ended.
pub(in crate::proxy) struct Serving {
    served: Rc<Served>,
    watch: Watch,
    stage: Stage,
    leaves: bool,
    /// The client has been told why nothing more is taken.
    condemned: bool,
    /// Of its requests in flight.
    heads: Heads,
    ping: Option<PingPong>,
}

enum Stage {
    Greeting(Handshake<Io, Bytes>),
    Open(Connection<Io, Bytes>),
}

impl Serving {
    pub(in crate::proxy) fn new(served: &Rc<Served>, stream: ClientStream) -> Self {
        let limits = served.connection.listener.spec.limits;
        let clock = served.connection.core.live.clock;
        let heads =
            Limits { bytes: limits.header_bytes as usize, fields: limits.header_count as usize };
        let watch = Watch::new(Side::Server, limits.http2_resets, heads, clock);
        served.set_watch(watch.clone());
        let greeting = Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(limits.http2_streams)
            .enable_connect_protocol()
            // What is larger is refused by the proxy, which says why. The guard lets none of it through, whatever
            // the client makes of this.
            .max_header_list_size(limits.header_bytes.saturating_mul(2))
            .max_send_buffer_size(MOST_WAITING)
            .handshake(Guarded::new(stream, watch.clone(), clock));
        let (served, stage) = (served.clone(), Stage::Greeting(greeting));
        Self {
            served,
            watch,
            stage,
            leaves: false,
            condemned: false,
            heads: Heads::default(),
            ping: None,
        }
    }

    /// The client is asked to connect elsewhere: what it has asked is still answered (section 6.8).
    pub(in crate::proxy) fn leave(&mut self) {
        self.leaves = true;
        if let Stage::Open(connection) = &mut self.stage {
            connection.graceful_shutdown();
        }
    }
}

impl Serving {
    /// A client that waits for an answer may have gone without a word.
    fn ask_whether_it_is_there(&mut self, cx: &mut Context<'_>) {
        let Some(ping) = &mut self.ping else { return };
        let now = self.served.connection.core.now_millis();
        let silence = self.served.connection.listener.spec.timeouts.keep_alive;
        // What comes is noted below the library.
        while let Poll::Ready(Ok(_)) = ping.poll_pong(cx) {}
        let is_to_be_asked = self.served.is_active() && self.watch.is_to_be_asked(now, silence);
        if is_to_be_asked && ping.send_ping(Ping::opaque()).is_ok() {
            self.watch.note_asked(now);
        }
    }
}

impl Future for Serving {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        this.watch.caught_up();
        this.ask_whether_it_is_there(cx);
        loop {
            let connection = match &mut this.stage {
                Stage::Greeting(greeting) => match ready!(Pin::new(greeting).poll(cx)) {
                    Ok(mut connection) => {
                        if this.leaves {
                            connection.graceful_shutdown();
                        }
                        this.ping = connection.ping_pong();
                        this.stage = Stage::Open(connection);
                        continue;
                    }
                    // There is nobody who speaks HTTP/2.
                    Err(_) => return Poll::Ready(()),
                },
                Stage::Open(connection) if this.condemned => {
                    return connection.poll_closed(cx).map(drop);
                }
                Stage::Open(connection) => connection,
            };
            match connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    begin(&this.served, &this.heads, request, respond);
                }
                Poll::Ready(Some(Err(error))) => {
                    tracing::debug!(%error, "HTTP/2 connection ended");
                    return Poll::Ready(());
                }
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Pending => {
                    let Some(reason) = this.watch.verdict() else { return Poll::Pending };
                    let peer = this.served.connection.client.peer;
                    tracing::debug!(%peer, %reason, "HTTP/2 connection given up");
                    connection.abrupt_shutdown(reason);
                    this.condemned = true;
                }
            }
        }
    }
}

/// Serves a request, unless the heads of others take too much already.
fn begin(
    served: &Rc<Served>,
    heads: &Heads,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let limits = &served.connection.listener.spec.limits;
    let fault = stream::fault(&request);
    if request.uri().path() == MALFORMED {
        turned_away(served, request.method(), Reason::BadRequest);
        return respond.send_reset(Code::PROTOCOL_ERROR);
    }
    let bytes = stream::head_size(&request) + FIELD * request.headers().len();
    let core = &served.connection.core;
    match core.heads.hold(heads, bytes, limits.http2_heads as usize) {
        Some(held) => {
            spawn_local(stream::serve(served.clone(), (Box::new(request), held), fault, respond));
        }
        None => {
            turned_away(served, request.method(), Reason::Overloaded);
            // It may be sent again at once (RFC 9113 section 8.7).
            respond.send_reset(Code::REFUSED_STREAM);
        }
    }
}
