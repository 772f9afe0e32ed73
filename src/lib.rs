#![doc = "crossfade: a layer-7 traffic-splitting reverse proxy."]

pub mod config;
pub mod spec;
