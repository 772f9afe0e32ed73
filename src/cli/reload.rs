use super::{
    Client, Failure,
    change::{ChangeArgs, Request},
    progress::Progress,
};
use reqwest::Method;

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    change: ChangeArgs,
}

pub(super) async fn run(client: &Client, args: Args) -> Result<(), Failure> {
    let path = "/v1/reload".to_owned();
    Request::new(Method::POST, path, None, args.change).send(client, Progress::drains()).await
}
