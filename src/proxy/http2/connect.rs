//! WebSockets on streams of HTTP/2: a CONNECT that says what for (RFC 8441). Within the proxy such a request is what
//! it is in HTTP/1.1, a GET that asks to switch, so that routes, pins and policies see one kind of WebSocket.

use crate::{
    live::Reason,
    proxy::{head::is_websocket, websocket},
};
use h2::ext::Protocol;
use http::{HeaderName, HeaderValue, Method, Request, header};

/// Fields of the handshake of HTTP/1.1 that CONNECT has no use for (section 5).
const HANDSHAKE: [HeaderName; 2] = [header::SEC_WEBSOCKET_KEY, header::SEC_WEBSOCKET_ACCEPT];

/// Makes a client's CONNECT for a WebSocket what it is in HTTP/1.1, with a key of the proxy's own from a `nonce`. False
/// when
/// it is something else.
///
/// # Errors
/// `NotSupported` for other protocols.
pub(super) fn as_upgrade<B>(
    request: &mut Request<B>,
    nonce: impl FnOnce() -> u128,
) -> Result<bool, Reason> {
    let Some(protocol) = request.extensions_mut().remove::<Protocol>() else { return Ok(false) };
    if !is_websocket(protocol.as_str().as_bytes()) {
        return Err(Reason::NotSupported);
    }
    *request.method_mut() = Method::GET;
    let fields = request.headers_mut();
    for name in HANDSHAKE {
        fields.remove(name);
    }
    fields.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    fields.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    fields.insert(header::SEC_WEBSOCKET_KEY, websocket::key(nonce()));
    Ok(true)
}

/// Makes a request to switch to a WebSocket a CONNECT; what is left to do is done for every request.
pub(in crate::proxy) fn as_connect<B>(request: &mut Request<B>) {
    *request.method_mut() = Method::CONNECT;
    for name in HANDSHAKE {
        request.headers_mut().remove(name);
    }
    request.extensions_mut().insert(Protocol::from_static("websocket"));
}
