use super::{
    Client, Failure,
    change::{ChangeArgs, Request},
    progress::Progress,
};
use reqwest::Method;
use serde_json::json;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Go on although more requests than `reload.max_stranded` allows would have nobody to answer them
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    change: ChangeArgs,
}

pub(super) async fn run(client: &Client, args: Args) -> Result<(), Failure> {
    let path = "/v1/reload".to_owned();
    let body = args.force.then(|| json!({ "force": true }));
    Request::new(Method::POST, path, body, args.change).send(client, Progress::drains()).await
}
