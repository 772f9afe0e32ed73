//! HTTP/2, on the `h2` library, which speaks the protocol; what is asked of its peers beyond that is here.
//!
//! `guard.rs` reads the frames of a connection below the library, both ways, and says when enough is enough; `hpack/` is
//! how it reads header blocks, which the library does not see before they are judged; `wire.rs` puts it between library and socket. `server.rs` serves a client's connection, `stream.rs` a request
//! of it, by way of `hyper/handler.rs`, which sees messages and no bytes. `upstream.rs` keeps the connections to a
//! backend, `asking.rs` sends a request on one. `body.rs` and `outflow.rs` are the bodies of both sides,
//! `connect.rs` and `duplex.rs` the tunnels.

mod asking;
mod backlog;
mod body;
mod connect;
mod duplex;
#[cfg(fuzzing)]
pub mod fuzzing;
mod guard;
mod heads;
mod hpack;
mod outflow;
mod server;
mod stream;
mod upstream;
mod wire;

pub(in crate::proxy) use asking::{Sent, Unanswered, send, translate};
pub(in crate::proxy) use body::Received;
pub(in crate::proxy) use connect::as_connect;
pub(in crate::proxy) use duplex::Duplex;
pub(in crate::proxy) use heads::Heads;
pub(in crate::proxy) use server::{PREFACE, Serving};
pub(in crate::proxy) use stream::Interim;
pub(in crate::proxy) use upstream::{Lease, Sessions};
pub(in crate::proxy) use wire::Watch;
