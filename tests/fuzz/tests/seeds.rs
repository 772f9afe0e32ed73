//! Every input that is kept passes its check, without a fuzzer.

use std::{fs, path::Path};

fn replay(target: &str, check: fn(&[u8])) {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    let mut seen = 0;
    for seed in fs::read_dir(seeds).expect("the target has seeds") {
        let path = seed.expect("a listed entry").path();
        println!("{}", path.display());
        check(&fs::read(&path).expect("a readable seed"));
        seen += 1;
    }
    assert!(seen > 0, "no seeds for {target}");
}

#[test]
fn requests() {
    replay("request", crossfade_fuzz::request);
}

#[test]
fn responses() {
    replay("response", crossfade_fuzz::response);
}

#[test]
fn chunked_bodies() {
    replay("chunked", crossfade_fuzz::chunked);
}

#[test]
fn frames() {
    replay("frames", crossfade_fuzz::frames);
}

#[test]
fn header_blocks() {
    replay("blocks", crossfade_fuzz::blocks);
}

#[test]
fn scans() {
    replay("scan", crossfade_fuzz::scan);
}

#[test]
fn proxy_headers() {
    replay("proxy_header", crossfade_fuzz::proxy_header);
}

#[test]
fn frames_of_websockets() {
    replay("websocket", crossfade_fuzz::websocket);
}
