//! What was changed, by whom, and the way back.

use super::{
    Client, Failure,
    change::{ChangeArgs, Request, TrafficArgs, changes},
    output, path,
    progress::Progress,
    yaml,
};
use reqwest::Method;
use serde_json::{Map, Value};

#[derive(clap::Args)]
pub(super) struct HistoryArgs {
    /// Only what changed this service
    service: Option<String>,
    /// So many revisions at most, 1 to 1000
    #[arg(short = 'n', long, value_name = "NUMBER", default_value_t = 20)]
    limit: u32,
    /// Only those with a lower number
    #[arg(long, value_name = "REVISION")]
    before: Option<u64>,
}

#[derive(clap::Args)]
pub(super) struct ShowArgs {
    /// Its number
    revision: u64,
}

#[derive(clap::Args)]
pub(super) struct DiffArgs {
    /// The number of one
    revision: u64,
    /// The number of the other [default: what is in force]
    to: Option<u64>,
}

#[derive(clap::Args)]
pub(super) struct UndoArgs {
    /// Only this service [default: everything]
    service: Option<String>,
    /// Back to what this one put in force [default: what was before the newest change]
    #[arg(long, value_name = "REVISION")]
    to_revision: Option<u64>,
    #[command(flatten)]
    traffic: TrafficArgs,
    #[command(flatten)]
    change: ChangeArgs,
}

#[derive(clap::Args)]
pub(super) struct AdoptArgs {
    /// Only what differs in this service [default: everything]
    service: Option<String>,
}

pub(super) async fn history(client: &Client, args: HistoryArgs) -> Result<(), Failure> {
    let mut query = vec![("limit", args.limit.to_string())];
    query.extend(args.before.map(|before| ("before", before.to_string())));
    query.extend(args.service.map(|service| ("service", service)));
    let revisions = client.ask("/v1/revisions", &query).await?;
    if client.json() {
        output::print(&format!("{revisions:#}\n"));
        return Ok(());
    }
    let list = revisions.as_array().map(Vec::as_slice).unwrap_or_default();
    if list.is_empty() {
        output::say("no such change is kept");
    }
    list.iter().for_each(|revision| output::print(&describe(revision)));
    Ok(())
}

pub(super) async fn show(client: &Client, args: ShowArgs) -> Result<(), Failure> {
    let revision = client.get(&format!("/v1/revisions/{}", args.revision)).await?;
    if client.json() {
        output::print(&format!("{revision:#}\n"));
    } else {
        output::print(&format!("{}\n{}", describe(&revision), yaml::write(&revision["config"])));
    }
    Ok(())
}

pub(super) async fn diff(client: &Client, args: DiffArgs) -> Result<(), Failure> {
    let to: Vec<_> = args.to.iter().map(|to| ("to", to.to_string())).collect();
    let difference = client.ask(&format!("/v1/revisions/{}/diff", args.revision), &to).await?;
    if client.json() {
        output::print(&format!("{difference:#}\n"));
        return Ok(());
    }
    let lines = changes(&difference["changed"]);
    let heading = format!("from revision {} to {}\n", difference["from"], difference["to"]);
    output::print(&if lines.is_empty() {
        heading + "  nothing differs\n"
    } else {
        heading + &lines
    });
    Ok(())
}

pub(super) async fn undo(client: &Client, args: UndoArgs) -> Result<(), Failure> {
    let mut body = Map::new();
    body.extend(args.service.as_ref().map(|it| ("service".to_owned(), it.clone().into())));
    body.extend(args.to_revision.map(|it| ("to_revision".to_owned(), it.into())));
    let progress = match &args.service {
        Some(service) => Progress::pools(service, |pool| pool["weight"] == 0),
        None => Progress::drains(),
    };
    Request::new(Method::POST, "/v1/undo".to_owned(), Some(body.into()), args.change)
        .traffic(&args.traffic)
        .send(client, progress)
        .await
}

pub(super) async fn adopt(client: &Client, args: AdoptArgs) -> Result<(), Failure> {
    let service: Vec<_> = args.service.into_iter().map(|service| ("service", service)).collect();
    let file = client.ask(path::ADOPT, &service).await?;
    if client.json() {
        output::print(&format!("{file:#}\n"));
        return Ok(());
    }
    output::print(&yaml::write(&file));
    output::say(
        "comments, defaults and variables of the file are not in it: put what you need of it into yours",
    );
    Ok(())
}

/// A revision in a few lines.
fn describe(revision: &Value) -> String {
    let text = |key: &str| revision[key].as_str().unwrap_or_default();
    let (at, author, source) = (text("at"), text("author"), text("source"));
    let mut head = format!("{}  {at}  {author}", revision["revision"]);
    if source != author {
        head.push_str(&format!(" ({source})"));
    }
    if let Some(rollout) = revision["rollout"].as_str() {
        head.push_str(&format!(", rollout {rollout}"));
    }
    if let Some(cause) = revision["cause"].as_str() {
        head.push_str(&format!(": {cause}"));
    }
    format!("{head}\n{}", changes(&revision["changed"]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn revisions_in_words() {
        let mut revision = json!({
            "revision": 7, "at": "2026-01-02T03:04:05Z", "author": "ci", "source": "api",
            "cause": "release 2", "rollout": null,
            "changed": [{"path": "services.shop.pools.blue.weight", "from": 95, "to": 0}],
        });
        assert_eq!(
            describe(&revision),
            "7  2026-01-02T03:04:05Z  ci (api): release 2\n  services.shop.pools.blue.weight: 95 -> 0\n"
        );
        revision["source"] = "ci".into();
        revision["cause"] = Value::Null;
        revision["rollout"] = "r-1".into();
        revision["changed"] = json!([]);
        assert_eq!(describe(&revision), "7  2026-01-02T03:04:05Z  ci, rollout r-1\n");
    }
}
