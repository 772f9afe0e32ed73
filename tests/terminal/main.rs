//! What the binary shows on a terminal, and how it leaves it.

#[path = "../rollout_runs/shop.rs"]
#[allow(dead_code)]
mod shop;
#[path = "../state/stage.rs"]
#[allow(dead_code)]
mod stage;
#[path = "../support/mod.rs"]
mod support;

mod live;
mod pty;
mod top;
