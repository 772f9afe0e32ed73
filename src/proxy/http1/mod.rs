//! The HTTP/1 engine: bytes in, bytes out, by the rules of RFC 9112.

mod chunked;
mod scan;
