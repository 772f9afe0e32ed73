use super::{Failure, output};
use crate::config;
use std::path::PathBuf;

#[derive(clap::Args)]
pub(super) struct Args {
    /// The configuration file
    config: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let file = args.config.display();
    let outcome = config::load(&args.config).outcome;
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
