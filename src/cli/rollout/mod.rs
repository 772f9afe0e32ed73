//! Rollouts on the command line.
//!
//! - `asked`: what a rollout is started with
//! - `follow`: waits for its end
//! - `show`: what is told of it

mod asked;
mod follow;
mod show;

use super::{
    Client, Failure,
    change::{ChangeArgs, Request, TrafficArgs},
    duration, output, path,
};
use crate::config::format_duration;
use asked::Asked;
use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use follow::Until;
use reqwest::Method;
use serde_json::{Value, json};
pub(super) use show::{live, notice, said, stage};
use std::time::Duration;

/// Between two looks of `--watch`.
const LOOK: Duration = Duration::from_secs(1);

#[derive(ClapArgs)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Move a service to another pool, by its plan
    Start(Box<StartArgs>),
    /// Show the rollout that runs, or the last one
    Status(StatusArgs),
    /// Stay where it is
    Pause(PauseArgs),
    /// Go on after a pause
    Resume(SteerArgs),
    /// Go on to the next step, whatever is missing; after the last one it is done
    Promote(SteerArgs),
    /// Back to stable, at once
    Abort(SteerArgs),
    /// Start the last one, which has ended and was not promoted, once more
    Retry(SteerArgs),
    /// List the rollouts that were, with their numbers
    History(HistoryArgs),
    /// Say what could be seen at the present traffic, and how long each step would take
    Plan(PlanArgs),
}

#[derive(ClapArgs)]
struct StartArgs {
    #[command(flatten)]
    asked: Asked,
    /// Take over from a rollout that runs
    #[arg(long)]
    supersede: bool,
    #[command(flatten)]
    traffic: TrafficArgs,
    /// Why, for whoever looks at it later
    #[arg(long, value_name = "TEXT")]
    cause: Option<String>,
    /// Say what would change, change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    waiting: WaitArgs,
}

#[derive(ClapArgs)]
struct WaitArgs {
    /// Return when it is over: exit code 0 promoted, 1 superseded, 3 aborted, 4 after --timeout
    #[arg(long)]
    wait: bool,
    /// With --wait: return also when it is paused, with 0 when that was planned or wanted
    #[arg(long, value_enum, value_name = "STATE", requires = "wait")]
    until: Option<UntilArg>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum UntilArg {
    Paused,
}

impl WaitArgs {
    fn until(&self) -> Until {
        if self.until.is_some() { Until::Paused } else { Until::Over }
    }
}

#[derive(ClapArgs)]
struct StatusArgs {
    /// As named in the configuration
    service: String,
    /// Again and again, until it is over
    #[arg(short, long)]
    watch: bool,
}

#[derive(ClapArgs)]
struct PauseArgs {
    /// As named in the configuration
    service: String,
    /// How long, if it shall go on by itself
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    time: Option<Duration>,
    /// Why, for whoever looks at it later
    #[arg(long, value_name = "TEXT")]
    cause: Option<String>,
}

#[derive(ClapArgs)]
struct SteerArgs {
    /// As named in the configuration
    service: String,
    /// Why, for whoever looks at it later
    #[arg(long, value_name = "TEXT")]
    cause: Option<String>,
    #[command(flatten)]
    waiting: WaitArgs,
}

#[derive(ClapArgs)]
struct HistoryArgs {
    /// Only those of this service
    service: Option<String>,
    /// So many at most, 1 to 200
    #[arg(short = 'n', long, value_name = "NUMBER", default_value_t = 20)]
    limit: u32,
    /// Only those that were started before this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    before: Option<String>,
}

#[derive(ClapArgs)]
struct PlanArgs {
    #[command(flatten)]
    asked: Asked,
}

pub(super) async fn run(client: &Client, args: Args) -> Result<(), Failure> {
    match args.verb {
        Verb::Start(args) => start(client, *args).await,
        Verb::Status(args) => status(client, &args).await,
        Verb::Pause(PauseArgs { service, time, cause }) => {
            let body = time.map_or_else(|| json!({}), |it| json!({ "for": format_duration(it) }));
            let request = Request::new(
                Method::POST,
                place(&service, "/pause"),
                Some(body),
                ChangeArgs::new(cause, false),
            );
            told(client, &request.ask(client).await?, false);
            Ok(())
        }
        Verb::Resume(args) => steer(client, args, "/resume").await,
        Verb::Promote(args) => steer(client, args, "/promote").await,
        Verb::Abort(args) => steer(client, args, "/abort").await,
        Verb::Retry(args) => steer(client, args, "/retry").await,
        Verb::History(args) => history(client, args).await,
        Verb::Plan(args) => plan(client, args).await,
    }
}

async fn start(client: &Client, args: StartArgs) -> Result<(), Failure> {
    let path = place(args.asked.service(), "");
    let mut body = args.asked.body()?;
    if args.supersede {
        body.insert("supersede".to_owned(), true.into());
    }
    let change = ChangeArgs::new(args.cause, args.dry_run);
    let request =
        Request::new(Method::POST, path, Some(body.into()), change).traffic(&args.traffic);
    if args.waiting.wait && !args.dry_run {
        let receipt = request.patient().ask(client).await?;
        return follow::follow(client, &receipt["rollout"], args.waiting.until()).await;
    }
    let receipt = request.ask(client).await?;
    told(client, &receipt, args.dry_run);
    Ok(())
}

async fn steer(client: &Client, args: SteerArgs, verb: &str) -> Result<(), Failure> {
    let SteerArgs { service, cause, waiting } = args;
    let change = ChangeArgs::new(cause, false);
    let request = Request::new(Method::POST, place(&service, verb), Some(json!({})), change);
    if waiting.wait {
        let receipt = request.patient().ask(client).await?;
        return follow::follow(client, &receipt["rollout"], waiting.until()).await;
    }
    told(client, &request.ask(client).await?, false);
    Ok(())
}

/// What a verb has done.
fn told(client: &Client, receipt: &Value, dry_run: bool) {
    if client.json() {
        output::print(&format!("{receipt:#}\n"));
        return;
    }
    super::change::show(receipt, dry_run);
    let rollout = &receipt["rollout"];
    let text = |key: &str| rollout[key].as_str().unwrap_or_default();
    let will = if dry_run { " would be" } else { "" };
    let (id, service, summary) = (text("id"), text("service"), text("summary"));
    output::print(&format!("rollout {id} of {service}{will}: {summary}\n"));
}

async fn status(client: &Client, args: &StatusArgs) -> Result<(), Failure> {
    let (path, colours) = (place(&args.service, ""), output::colours());
    // Without a terminal there is nothing to clear: one look after the other.
    let clear = if args.watch && output::to_terminal() { super::status::HOME } else { "" };
    loop {
        let rollout = client.get(&path).await?;
        if client.json() {
            output::print(&format!("{rollout:#}\n"));
        } else {
            output::print(&format!("{clear}{}", show::whole(&rollout, colours)));
        }
        if !args.watch || follow::is_over(&rollout) {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn history(client: &Client, args: HistoryArgs) -> Result<(), Failure> {
    let mut query = vec![("limit", args.limit.to_string())];
    query.extend(args.before.map(|before| ("before", before)));
    query.extend(args.service.map(|service| ("service", service)));
    let rollouts = client.ask("/v1/rollouts", &query).await?;
    if client.json() {
        output::print(&format!("{rollouts:#}\n"));
        return Ok(());
    }
    let list = rollouts.as_array().map(Vec::as_slice).unwrap_or_default();
    if list.is_empty() {
        output::say("no such rollout is kept");
    } else {
        output::print(&show::past(list, output::colours()));
    }
    Ok(())
}

async fn plan(client: &Client, args: PlanArgs) -> Result<(), Failure> {
    let path = place(args.asked.service(), "/plan");
    let body = args.asked.body()?.into();
    let outlook = client.change(Method::POST, &path, &[], Some(&body), Duration::ZERO).await?;
    if client.json() {
        output::print(&format!("{outlook:#}\n"));
    } else {
        output::print(&show::outlook(&outlook, output::colours()));
    }
    Ok(())
}

/// The path of a service's rollout, or of a verb there.
fn place(service: &str, verb: &str) -> String {
    format!("{}/rollout{verb}", path::service(service))
}
