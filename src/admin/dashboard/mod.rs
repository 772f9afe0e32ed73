//! The dashboard: a page that shows the API to people. It is a client of it like any other, and asks for nothing else.
//!
//! - `assets`: the page itself, which is in the binary
//! - `feed`: what it shows once a second
//! - `trail`: what its charts begin with

mod assets;
mod feed;
mod trail;

pub(super) use assets::*;
pub(super) use feed::{Feed, LiveView, Painter, Pictures};
pub(super) use trail::*;
