//! Where people and programs look in and steer: an HTTP API over a loopback or unix socket, on the control
//! plane's runtime. It reads what is shared and sends commands; it never touches the data plane.

mod access;
mod api;
mod audit;
mod body;
mod change;
mod conditions;
mod dashboard;
mod door;
mod drains;
mod events;
mod guard;
mod history;
mod hold;
mod ledger;
mod look;
mod me;
mod metrics;
mod once;
mod openapi;
mod places;
mod plan;
mod problem;
mod quantile;
mod receipt;
mod reload;
mod rollout;
mod segments;
mod server;
mod socket;
mod steer;
mod tls;
mod traffic;
mod upgrade;
mod views;

pub use audit::Audit;
pub use reload::{follow, refuse};
pub use server::{Farewell, serve};
pub use socket::{Socket, adopt, bind};

use crate::{config::Reloader, control::Handle, live::Live, upgrade::Upgrader};
use access::Failures;
use jiff::Timestamp;
use std::sync::Arc;
use tokio::sync::Semaphore;
use traffic::Traffic;

/// What every request is answered from.
struct Admin {
    live: Arc<Live>,
    handle: Handle,
    /// `None`: there is no configuration file.
    reloader: Option<Reloader>,
    /// `None`: it cannot be upgraded.
    upgrader: Option<Upgrader>,
    traffic: Traffic,
    failures: Failures,
    audit: Arc<Audit>,
    process: metrics::Process,
    places: Arc<places::Places>,
    /// Places for those who follow events.
    listeners: Arc<Semaphore>,
    feed: dashboard::Feed,
}

/// Since 1970; 0 before.
fn millis(time: Timestamp) -> u64 {
    u64::try_from(time.as_millisecond()).unwrap_or(0)
}

/// Milliseconds since 1970 as RFC 3339 has them.
fn time(millis: u64) -> String {
    let millis = i64::try_from(millis).unwrap_or(i64::MAX);
    Timestamp::from_millisecond(millis).unwrap_or(Timestamp::MAX).to_string()
}
