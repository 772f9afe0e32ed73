use super::{Failure, output};
use crate::config;
use std::{fs, path::PathBuf};

#[derive(clap::Args)]
pub(super) struct Args {
    /// The configuration file
    config: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let file = args.config.display();
    let text = fs::read_to_string(&args.config)
        .map_err(|error| Failure::usage(format!("{file}:1:1: cannot be read: {error}")))?;
    let outcome = config::parse(&text, &args.config, &|name| std::env::var(name).ok());
    for warning in &outcome.warnings {
        output::say(&format!("{warning} (warning)"));
    }
    for error in &outcome.errors {
        output::say(&error.to_string());
    }
    match outcome.spec {
        Some(spec) => {
            let (services, routes) = (spec.services.len(), spec.routes.len());
            output::print(&format!("{file}: valid (services: {services}, routes: {routes})\n"));
            Ok(())
        }
        None => Err(Failure::usage(format!(
            "{file} is invalid: {} to correct",
            count(outcome.errors.len())
        ))),
    }
}

fn count(errors: usize) -> String {
    if errors == 1 { "1 error".to_owned() } else { format!("{errors} errors") }
}
