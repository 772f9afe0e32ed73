#![doc = "crossfade: a layer-7 traffic-splitting reverse proxy."]

pub mod admin;
pub mod cli;
pub mod config;
pub mod control;
pub mod live;
pub mod net;
pub mod process;
pub mod proxy;
pub mod routing;
pub mod spec;
