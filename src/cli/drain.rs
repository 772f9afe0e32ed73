use super::{
    Client, Failure,
    change::{ChangeArgs, Request},
    path,
    progress::Progress,
};
use crate::spec::BackendAddress;
use reqwest::Method;
use serde_json::json;

#[derive(clap::Args)]
pub(super) struct Args {
    /// As named in the configuration
    service: String,
    /// As named in the configuration; else all pools of the service
    pool: Option<String>,
    /// Backends of the pool (HOST:PORT); else all of it
    backends: Vec<BackendAddress>,
    #[command(flatten)]
    change: ChangeArgs,
}

/// `verb`: `drain` or `undrain`.
pub(super) async fn run(client: &Client, args: Args, verb: &str) -> Result<(), Failure> {
    let Args { service, pool, backends, change } = args;
    let addresses: Vec<String> = backends.iter().map(ToString::to_string).collect();
    let body = (!addresses.is_empty()).then(|| json!({ "backends": addresses }));
    let (place, progress) = match pool {
        None => (path::service(&service), Progress::pools(&service, |_| true)),
        Some(pool) => {
            let place = path::pool(&service, &pool);
            let progress = match addresses.is_empty() {
                true => Progress::pools(&service, move |view| view["name"] == *pool),
                false => Progress::backends(&service, &pool, addresses),
            };
            (place, progress)
        }
    };
    let path = format!("{place}/{verb}");
    Request::new(Method::POST, path, body, change).send(client, progress).await
}
