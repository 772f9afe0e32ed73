//! crossfade's own HTTP/1 engine.

#[allow(dead_code)]
mod chunked;
#[allow(dead_code)]
mod scan;

use super::{connection::ClientConnection, hyper};
use std::rc::Rc;
use tokio::net::TcpStream;

pub(super) struct Conn;
impl Conn {
    pub(super) fn is_quiet(&self) -> bool {
        true
    }
}

pub(super) async fn serve(connection: Rc<ClientConnection>, stream: TcpStream) {
    hyper::serve(connection, stream).await;
}
