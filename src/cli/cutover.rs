use super::{
    Client, Failure,
    change::{ChangeArgs, Request, TrafficArgs},
    path,
    progress::Progress,
};
use reqwest::Method;
use serde_json::json;

#[derive(clap::Args)]
pub(super) struct Args {
    /// As named in the configuration
    service: String,
    /// The pool that gets all traffic
    pool: String,
    #[command(flatten)]
    traffic: TrafficArgs,
    #[command(flatten)]
    change: ChangeArgs,
}

pub(super) async fn run(client: &Client, args: Args) -> Result<(), Failure> {
    let path = format!("{}/cutover", path::service(&args.service));
    let body = json!({ "to": args.pool });
    let to = args.pool;
    let progress = Progress::pools(&args.service, move |pool| pool["name"] != *to);
    Request::new(Method::POST, path, Some(body), args.change)
        .traffic(&args.traffic)
        .send(client, progress)
        .await
}
