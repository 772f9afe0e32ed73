//! After 101, or what HTTP/2 says instead, both ends are taken over by a tunnel.

use super::super::{
    connection::ClientConnection,
    flight::Ticket,
    http2::{Duplex, Sent},
    tunnel::{self, Tunnel},
    upstream::unless_judged,
};
use crate::{
    live::{Held, Kind, Reason},
    net::Stream,
};
use hyper::upgrade::OnUpgrade;
use std::{cell::RefCell, future::Future, rc::Rc, time::Duration};
use tokio::io::{AsyncRead, AsyncWrite};

/// Where the client's end comes from once its backend has agreed.
pub(super) enum ClientEnd {
    /// hyper hands it over behind the answer.
    Hyper(OnUpgrade),
    /// The native engine writes the answer, and has it.
    Http1(Place),
    /// Who answers on the stream that was asked on.
    Http2(Place),
}

/// Where a tunnel is left for who has the client's end of it.
pub(in crate::proxy) type Place = Rc<RefCell<Option<Box<Agreed>>>>;

/// What is to be connected with a client.
pub(in crate::proxy) struct Agreed {
    pub(super) backend: BackendEnd,
    pub(super) ticket: Ticket,
    /// The longest silence.
    pub(super) idle: Duration,
    pub(super) websocket: bool,
    /// What the client gets first: the head that says so, where that has not been written.
    pub(in crate::proxy) head: Vec<u8>,
    /// What it has said since it asked.
    pub(in crate::proxy) to_backend: Vec<u8>,
}

pub(super) enum BackendEnd {
    /// With its place among the backend's connections, and what it has said behind its answer.
    Http1(Stream, Held, Vec<u8>),
    /// With its place on the connection.
    Http2(Duplex, Sent),
}

/// Runs the tunnel once `client` is there. The connection counts as open as long as the tunnel is.
pub(in crate::proxy) async fn run<C>(
    connection: Rc<ClientConnection>,
    agreed: Agreed,
    client: impl Future<Output = Option<C>>,
) where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let Agreed { backend, ticket, idle, websocket, head, to_backend } = agreed;
    ticket.turn(Kind::Tunnel);
    ticket.flight.arm(connection.core.live.clock, idle, Reason::IdleTimeout);
    let Ok(Some(client)) = unless_judged(&ticket.flight, client).await else { return };
    match backend {
        BackendEnd::Http1(backend, held, to_client) => {
            let tunnel = Tunnel::between(client, backend, ticket, idle, websocket);
            let held = Some(held);
            let tunnel = Tunnel { held, head, to_client, to_backend, ..tunnel };
            tunnel::run(connection, tunnel).await;
        }
        BackendEnd::Http2(backend, _sent) => {
            let tunnel = Tunnel::between(client, backend, ticket, idle, websocket);
            tunnel::run(connection, Tunnel { head, to_backend, ..tunnel }).await;
        }
    }
}
