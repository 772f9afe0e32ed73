//! HTTP/2, on the `h2` library, which speaks the protocol; what is asked of its peers beyond that is here.
//!
//! `guard.rs` reads the frames of a connection below the library, both ways, and says when enough is enough;
//! `wire.rs` puts it between library and socket. `server.rs` serves a client's connection, `stream.rs` a request
//! of it, by way of `hyper/handler.rs`, which sees messages and no bytes.

mod body;
mod guard;
mod server;
mod stream;
mod wire;

pub(in crate::proxy) use body::Received;
pub(in crate::proxy) use server::{PREFACE, Serving};
pub(in crate::proxy) use stream::Interim;
pub(in crate::proxy) use wire::Watch;
