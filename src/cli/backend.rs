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
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Add a backend to a pool, or change its weight
    Add {
        #[command(flatten)]
        place: Place,
        /// Relative to the other backends of the pool
        #[arg(long, default_value_t = 1)]
        weight: u32,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Drain a backend, then remove it
    Remove {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        change: ChangeArgs,
    },
}

#[derive(clap::Args)]
struct Place {
    /// As named in the configuration
    service: String,
    /// As named in the configuration
    pool: String,
    /// HOST:PORT or unix:/PATH
    address: BackendAddress,
}

pub(super) async fn run(client: &Client, args: Args) -> Result<(), Failure> {
    let (method, place, body, change) = match args.verb {
        Verb::Add { place, weight, change } => {
            (Method::PUT, place, Some(json!({ "weight": weight })), change)
        }
        Verb::Remove { place, change } => (Method::DELETE, place, None, change),
    };
    let Place { service, pool, address } = place;
    let address = address.to_string();
    let path = path::backend(&service, &pool, &address);
    let progress = Progress::backends(&service, &pool, vec![address]);
    Request::new(method, path, body, change).send(client, progress).await
}
