//! crossfade's own HTTP/1 engine: bytes in, bytes out, by the rules of RFC 9112.
//!
//! One task a connection (`session.rs`), which polls the backend's socket too (`relay.rs`). `scan.rs` judges
//! every byte of a head, `chunked.rs` every byte of framing; what both let through is what is sent. Buffers
//! (`work.rs`) are borrowed from the core's `desk.rs` while a request is in flight.
//!
//! What comes as a message goes to its backend by way of `asking.rs`, with `outflow.rs` for its body and `received.rs`
//! for that of the response: the same judgement, other carriers.

mod asking;
mod chunked;
mod conn;
mod desk;
mod exchange;
#[cfg(fuzzing)]
pub mod fuzzing;
mod interim;
mod message;
mod messages;
mod outflow;
mod received;
mod relay;
mod response;
mod scan;
mod session;
mod work;

pub(super) use asking::{Asking, Sent, ask};
pub(super) use conn::Conn;
pub(super) use desk::{Desk, READ};
pub(super) use received::Received;

use super::{connection::ClientConnection, hyper, tunnel};
use crate::net::Stream;
use exchange::After;
use session::{Said, Session};
use std::{future::ready, rc::Rc};
use tokio::task::spawn_local;

/// Serves a connection until it ends, or hands it over.
pub(super) async fn serve(connection: Rc<ClientConnection>, client: Stream) {
    let mut session = Session::new(connection, client);
    loop {
        match session.next().await {
            Said::Request => {}
            Said::Http2(prefix) => {
                let Session { connection, client, .. } = session;
                spawn_local(hyper::serve_h2(connection, client, prefix));
                return;
            }
            Said::Unreadable(reason) => return session.answer_unreadable(reason).await,
            Said::Nothing => return session.client.say_goodbye(),
        }
        match session.exchange().await {
            After::Next if session.skip_body().await => {}
            After::Next | After::Linger => return session.linger().await,
            After::Close => return,
            After::Tunnel(switched) => {
                let Session { connection, client, .. } = session;
                spawn_local(tunnel::run(connection, switched.with(client)));
                return;
            }
            After::Agreed(agreed) => {
                let Session { connection, client, .. } = session;
                spawn_local(hyper::run_tunnel(connection, *agreed, ready(Some(client))));
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_task<F>(_: impl Fn(Rc<ClientConnection>, Stream) -> F) -> usize {
        size_of::<F>()
    }

    /// Ten thousand idle connections hold as many tasks, each as large as the largest thing it may do.
    #[test]
    fn a_connection_is_small() {
        let size = size_of_task(serve);
        assert!(size <= 512, "{size} bytes");
    }
}
