//! The command line: one file a verb. Most of them talk to the admin API of a running crossfade.

mod arrival;
mod backend;
mod change;
mod check;
mod client;
mod client_tls;
mod cutover;
mod demo;
pub mod demo_app;
mod drain;
mod failure;
mod generate;
mod healthcheck;
mod history;
mod hold;
mod output;
mod path;
mod plan;
mod progress;
mod reload;
mod rollout;
mod schema;
mod serve;
mod status;
mod top;
mod upgrade;
mod weights;
mod yaml;

use crate::config::parse_duration;
use clap::{Parser, Subcommand, ValueEnum};
use client::Client;
use failure::Failure;
use std::{path::PathBuf, process::ExitCode, time::Duration};

/// A layer-7 traffic-splitting reverse proxy: releases a new version of a service without a gap.
#[derive(Parser)]
#[command(name = "crossfade", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Args)]
struct Global {
    /// The admin API: http://HOST:PORT, https://HOST:PORT or unix:PATH
    #[arg(
        long,
        global = true,
        env = "CROSSFADE_ADMIN",
        value_name = "URL",
        default_value = "http://127.0.0.1:9900"
    )]
    admin: String,
    /// The file with the token to show to the admin API; instead of it, CROSSFADE_TOKEN may have the token
    #[arg(long, global = true, env = "CROSSFADE_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// With https: PEM file of the authorities that vouch for the admin API [default: those of the system]
    #[arg(long, global = true, env = "CROSSFADE_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// With https: PEM file of the certificate to show to the admin API
    #[arg(long, global = true, env = "CROSSFADE_CERT", value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// With https: PEM file of its private key
    #[arg(long, global = true, env = "CROSSFADE_KEY", value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// What to print: text for people, json is what the API said
    #[arg(short, long, global = true, value_enum, value_name = "FORMAT", default_value_t = Format::Text)]
    output: Format,
    /// Longest wait for an answer of the admin API, besides what --wait asks for [default: 30s]; of a rollout's --wait the
    /// longest wait for its end [default: none]
    #[arg(long, global = true, value_parser = duration, value_name = "DURATION")]
    timeout: Option<Duration>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

#[derive(Subcommand)]
enum Verb {
    /// See it work: two versions of a service, the proxy and live traffic in one process
    Demo(demo::Args),
    /// Run the proxy
    Serve(serve::Args),
    /// Say what is wrong with a configuration file
    Check(check::Args),
    /// Print the JSON Schema of the configuration file
    Schema,
    /// Show services, pools, health and traffic
    Status(status::Args),
    /// Show the same and more on one screen, as it happens
    Top(top::Args),
    /// Change how a service's traffic is shared
    Weights(weights::Args),
    /// Move all traffic of a service to one pool at once
    Cutover(cutover::Args),
    /// No new requests for a pool or a backend; what is in flight finishes
    Drain(drain::Args),
    /// New requests for a pool or a backend again
    Undrain(drain::Args),
    /// Let the requests of a service wait while its backends restart
    Hold(hold::Args),
    /// Let the requests of a held service go on
    Release(hold::ReleaseArgs),
    /// Add or remove a backend
    Backend(backend::Args),
    /// Move a service to a new version, step by step, while both are watched
    Rollout(rollout::Args),
    /// Say what a configuration file would change, and for which of the last hour's requests
    Plan(plan::Args),
    /// List the changes that were made: number, when, who, why, what
    History(history::HistoryArgs),
    /// Show a revision and what it put in force
    Show(history::ShowArgs),
    /// Say what differs between two revisions
    Diff(history::DiffArgs),
    /// Put in force again what was before the newest change; a second undo undoes the first
    Undo(history::UndoArgs),
    /// Print the configuration file that says what is in force
    Adopt(history::AdoptArgs),
    /// Read the configuration file again
    Reload(reload::Args),
    /// Have a new process take over, of another binary or the same, without a gap
    Upgrade(upgrade::Args),
    /// Succeed if crossfade lives, for container health checks
    Healthcheck(healthcheck::Args),
    /// Print what completes the words of this command line in a shell
    Completions(generate::CompletionsArgs),
    /// Print the manual page of crossfade, or of a verb
    Man(generate::ManArgs),
    /// Run a small backend to try crossfade with
    #[command(hide = true)]
    DemoApp(demo_app::Args),
}

/// Does what the command line asks for. The exit code: 0 done, 1 failed or refused, 2 wrong usage or invalid
/// configuration, 3 rollout aborted, 4 gave up waiting, 5 admin API out of reach.
pub fn run() -> ExitCode {
    let Cli { global, verb } = Cli::parse();
    let result = match verb {
        Verb::Demo(args) => return demo::run(args),
        Verb::Serve(args) => return serve::run(args),
        Verb::Check(args) => check::run(&args),
        Verb::Schema => schema::run(),
        Verb::Completions(args) => generate::completions(&args),
        Verb::Man(args) => generate::man(&args),
        verb => asynchronously(talk(&global, verb)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// Verbs that wait for somebody.
async fn talk(global: &Global, verb: Verb) -> Result<(), Failure> {
    let client = Client::new(global)?;
    match verb {
        Verb::Status(args) => status::run(&client, args).await,
        Verb::Top(args) => top::run(&client, args).await,
        Verb::Weights(args) => weights::run(&client, args).await,
        Verb::Cutover(args) => cutover::run(&client, args).await,
        Verb::Drain(args) => drain::run(&client, args, "drain").await,
        Verb::Undrain(args) => drain::run(&client, args, "undrain").await,
        Verb::Hold(args) => hold::run(&client, args).await,
        Verb::Release(args) => hold::release(&client, args).await,
        Verb::Backend(args) => backend::run(&client, args).await,
        Verb::Rollout(args) => rollout::run(&client, args).await,
        Verb::Plan(args) => plan::run(&client, args).await,
        Verb::History(args) => history::history(&client, args).await,
        Verb::Show(args) => history::show(&client, args).await,
        Verb::Diff(args) => history::diff(&client, args).await,
        Verb::Undo(args) => history::undo(&client, args).await,
        Verb::Adopt(args) => history::adopt(&client, args).await,
        Verb::Reload(args) => reload::run(&client, args).await,
        Verb::Upgrade(args) => upgrade::run(&client, args).await,
        Verb::Healthcheck(args) => healthcheck::run(&client, args).await,
        Verb::DemoApp(args) => demo_app::run(args).await,
        Verb::Demo(_)
        | Verb::Serve(_)
        | Verb::Check(_)
        | Verb::Schema
        | Verb::Completions(_)
        | Verb::Man(_) => Ok(()),
    }
}

fn asynchronously(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::failed(format!("no runtime: {error}")))?.block_on(work)
}

/// For arguments.
fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "use a duration such as 500ms, 30s or 5m".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
