//! After 101 the client's connection is taken back from hyper.

use super::super::{
    connection::ClientConnection,
    flight::Ticket,
    tunnel::{self, Tunnel},
    upstream::unless_judged,
};
use crate::{
    live::{Held, Kind, Reason},
    net::Stream,
};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::{rc::Rc, time::Duration};

/// What a tunnel connects.
pub(super) struct Ends {
    pub(super) client: OnUpgrade,
    pub(super) backend: Stream,
    /// Its place among the backend's connections.
    pub(super) held: Held,
    /// What the backend has said behind its answer.
    pub(super) to_client: Vec<u8>,
    /// Counts as open as long as the tunnel is.
    pub(super) connection: Rc<ClientConnection>,
    pub(super) websocket: bool,
}

/// Runs the tunnel once hyper has let go of the client.
pub(super) async fn run(ends: Ends, ticket: Ticket, idle: Duration) {
    let Ends { client, backend, held, to_client, connection, websocket } = ends;
    ticket.turn(Kind::Tunnel);
    ticket.flight.arm(connection.core.live.clock, idle, Reason::IdleTimeout);
    let Ok(Ok(client)) = unless_judged(&ticket.flight, client).await else { return };
    let client = TokioIo::new(client);
    let (head, to_backend) = Default::default();
    let tunnel =
        Tunnel { client, backend, held, ticket, head, to_client, to_backend, idle, websocket };
    tunnel::run(connection, tunnel).await;
}
