use super::{
    Client, Failure,
    change::{ChangeArgs, Request},
    output,
    progress::Progress,
};
use crate::config;
use reqwest::Method;
use std::path::PathBuf;

#[derive(clap::Args)]
pub(super) struct Args {
    /// The configuration file, as it would be loaded
    file: PathBuf,
}

/// Read here, where its variables and relative paths mean what they say.
pub(super) async fn run(client: &Client, args: Args) -> Result<(), Failure> {
    let outcome = config::load(&args.file).outcome;
    outcome.warnings.iter().for_each(|warning| output::say(&format!("{warning} (warning)")));
    let Some(spec) = outcome.spec else {
        outcome.errors.iter().for_each(|error| output::say(&error.to_string()));
        return Err(Failure::usage(format!("{} is invalid", args.file.display())));
    };
    let document = config::document(&spec);
    let change = ChangeArgs::dry_run();
    let path = "/v1/plan".to_owned();
    Request::new(Method::POST, path, Some(document), change)
        .told(&outcome.warnings)
        .send(client, Progress::drains())
        .await
}
