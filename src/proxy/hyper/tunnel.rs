//! After 101 both connections are taken back from hyper.

use super::{
    super::{
        connection::ClientConnection,
        flight::Ticket,
        tunnel::{self, Tunnel},
        upstream::unless_judged,
    },
    conn::Conn,
};
use crate::live::{Kind, Reason};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::{rc::Rc, time::Duration};

/// What a tunnel connects.
pub(super) struct Ends {
    pub(super) client: OnUpgrade,
    pub(super) backend: OnUpgrade,
    /// Drives the backend's side until it has been handed over.
    pub(super) conn: Conn,
    /// Counts as open as long as the tunnel is.
    pub(super) connection: Rc<ClientConnection>,
    pub(super) websocket: bool,
}

/// Runs the tunnel once hyper has let go of both ends.
pub(super) async fn run(ends: Ends, ticket: Ticket, idle: Duration) {
    let Ends { client, backend, conn: _conn, connection, websocket } = ends;
    ticket.turn(Kind::Tunnel);
    ticket.flight.arm(connection.core.live.clock, idle, Reason::IdleTimeout);
    let taken = unless_judged(&ticket.flight, async { (client.await, backend.await) }).await;
    let Ok((Ok(client), Ok(backend))) = taken else { return };
    let (client, backend) = (TokioIo::new(client), TokioIo::new(backend));
    let (head, to_client, to_backend) = Default::default();
    // The backend's side keeps it.
    let held = None;
    let tunnel =
        Tunnel { client, backend, held, ticket, head, to_client, to_backend, idle, websocket };
    tunnel::run(connection, tunnel).await;
}
