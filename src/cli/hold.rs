use super::{
    Client, Failure,
    change::{ChangeArgs, Request},
    duration, path,
    progress::Progress,
};
use crate::config::format_duration;
use reqwest::Method;
use serde_json::json;
use std::time::Duration;

#[derive(clap::Args)]
pub(super) struct Args {
    /// As named in the configuration
    service: String,
    /// How long, unless it is released before: who has waited until then is answered 503
    #[arg(long = "for", value_name = "DURATION", value_parser = duration, default_value = "30s")]
    time: Duration,
    #[command(flatten)]
    change: ChangeArgs,
}

#[derive(clap::Args)]
pub(super) struct ReleaseArgs {
    /// As named in the configuration
    service: String,
    #[command(flatten)]
    change: ChangeArgs,
}

pub(super) async fn run(client: &Client, args: Args) -> Result<(), Failure> {
    let path = format!("{}/hold", path::service(&args.service));
    let body = json!({ "for": format_duration(args.time) });
    let progress = Progress::pools(&args.service, |_| true);
    Request::new(Method::POST, path, Some(body), args.change).send(client, progress).await
}

pub(super) async fn release(client: &Client, args: ReleaseArgs) -> Result<(), Failure> {
    let path = format!("{}/release", path::service(&args.service));
    let progress = Progress::pools(&args.service, |_| true);
    Request::new(Method::POST, path, None, args.change).send(client, progress).await
}
