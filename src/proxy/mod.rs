//! The data plane: one thread a core. It reads snapshots, holds tickets and writes its own core's
//! counters; it never waits for the control plane.

mod booking;
mod connection;
mod core;
mod decide;
mod failure;
mod fields;
mod flight;
mod framing;
mod grpc;
mod handshake;
mod head;
mod headers;
mod http1;
mod http2;
mod hyper;
mod mirror;
mod note;
mod octets;
mod queue;
mod record;
mod redirect;
mod retry;
mod sampling;
mod secured;
mod tell;
mod trace;
mod tries;
mod tunnel;
mod upstream;
mod websocket;
mod withheld;
mod witness;
mod worker;

#[cfg(fuzzing)]
pub use http1::fuzzing;
#[cfg(fuzzing)]
pub use http2::fuzzing as fuzzing_http2;
#[cfg(fuzzing)]
pub use websocket::Follower;
pub use worker::spawn;
