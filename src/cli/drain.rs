use super::{
    Client, Failure,
    change::{ChangeArgs, Request},
    path,
    progress::Progress,
};
use reqwest::Method;

#[derive(clap::Args)]
pub(super) struct Args {
    /// As named in the configuration
    service: String,
    /// As named in the configuration
    pool: String,
    /// One backend of the pool (HOST:PORT); else all of it
    backend: Option<String>,
    #[command(flatten)]
    change: ChangeArgs,
}

/// `verb`: `drain` or `undrain`.
pub(super) async fn run(client: &Client, args: Args, verb: &str) -> Result<(), Failure> {
    let Args { service, pool, backend, change } = args;
    let (place, progress) = match backend {
        Some(address) => {
            (path::backend(&service, &pool, &address), Progress::backend(&service, &pool, &address))
        }
        None => {
            let place = path::pool(&service, &pool);
            (place, Progress::pools(&service, move |view| view["name"] == *pool))
        }
    };
    let path = format!("{place}/{verb}");
    Request::new(Method::POST, path, None, change).send(client, progress).await
}
