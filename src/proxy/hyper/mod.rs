//! Requests and responses as messages: what comes by HTTP/2 (`proxy/http2/`), and HTTP/1 on hyper as the reference to
//! test and measure against. To backends they go by `http1/asking.rs` and `http2/asking.rs`.

mod activity;
mod answer;
mod body;
mod copy;
mod feed;
mod handler;
mod sending;
mod serve;
mod stream;
mod switch;
mod tunnel;

pub(super) use body::{ArrivingBody, ReplyBody, UpstreamBody, trailing};
pub(super) use copy::Course;
pub(super) use feed::Feed;
pub(super) use handler::{Decided, answer_decided, handle, refuse, turned_away};
pub(super) use serve::{Served, serve, serve_h2};
pub(super) use stream::ClientStream;
pub(super) use tunnel::{Agreed, Place, run as run_tunnel};
