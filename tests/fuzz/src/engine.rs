//! The engine with a configuration in force, one for each thread.

use crossfade::{
    config,
    control::{self, FileStatus},
    process::FORMAT,
    proxy::fuzzing::Engine,
};
use std::{path::Path, time::Duration};

/// A pin reads a field, which no client may have removed.
const CONFIG: &str = r#"
listeners:
  - { address: "127.0.0.1:0" }
services:
  shop:
    pools:
      blue: { version: v1, weight: 100, backends: ["127.0.0.1:1"] }
      green: { version: v2, weight: 0, backends: ["127.0.0.1:2"] }
    pins:
      - { headers: { canary: "true" }, pool: green }
routes:
  - { name: shop, match: { path_prefix: / }, service: shop }
"#;

thread_local! {
    static ENGINE: Engine = start();
}

pub(crate) fn with<R>(f: impl FnOnce(&Engine) -> R) -> R {
    ENGINE.with(f)
}

fn start() -> Engine {
    let parsed = config::parse(CONFIG, Path::new("fuzz.yaml"), config::Surroundings::of_clients());
    let problems: Vec<String> = parsed.errors.iter().map(ToString::to_string).collect();
    let spec = parsed.spec.unwrap_or_else(|| panic!("{problems:?}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let file = FileStatus { path: None, loaded_at: None, error: None };
    let live = runtime.block_on(async {
        let started = control::start(spec, 1, file, FORMAT).await.unwrap_or_else(|e| panic!("{e}"));
        // Nobody steers it, but it must not be told to end.
        std::mem::forget(started.handle);
        tokio::time::sleep(Duration::from_millis(1)).await;
        started.live
    });
    std::mem::forget(runtime);
    Engine::new(live)
}
