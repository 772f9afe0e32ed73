use super::{Client, Failure};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Also fail while starting or draining: whether it should get new clients
    #[arg(long)]
    ready: bool,
}

/// A container that drains is healthy: who killed it now would cut what is in flight.
pub(super) async fn run(client: &Client, args: Args) -> Result<(), Failure> {
    let path = if args.ready { "/readyz" } else { "/healthz" };
    client.get(path).await.map(drop)
}
