//! The hyper engine: HTTP/2, and HTTP/1 as the reference to test and measure against.

mod activity;
mod answer;
mod body;
mod conn;
mod handler;
mod sending;
mod serve;
mod stream;
mod tunnel;

pub(super) use conn::Conn;
pub(super) use serve::{PREFACE, serve, serve_h2};
