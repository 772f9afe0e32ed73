use super::{Client, Failure, duration, output};
use crate::{config::format_duration, upgrade::PATIENCE};
use reqwest::Method;
use serde_json::{Map, Value};
use std::{path::PathBuf, time::Duration};

#[derive(clap::Args)]
pub(super) struct Args {
    /// The binary, on the machine that crossfade runs on [default: what is now where it was started from]
    binary: Option<PathBuf>,
    /// How long the new process may take to become ready
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "60s")]
    within: Duration,
}

/// The old process answers, when the new one accepts.
pub(super) async fn run(client: &Client, args: Args) -> Result<(), Failure> {
    let mut body = Map::new();
    if let Some(binary) = args.binary {
        let binary = std::path::absolute(&binary)
            .map_err(|error| Failure::usage(format!("{}: {error}", binary.display())))?;
        let binary = binary.into_os_string().into_string();
        let binary = binary.map_err(|_| Failure::usage("the path of the binary is not UTF-8"))?;
        body.insert("binary".to_owned(), binary.into());
    }
    if args.within != PATIENCE {
        body.insert("within".to_owned(), format_duration(args.within).into());
    }
    let body = Value::from(body);
    let asked = client.change(Method::POST, "/v1/upgrade", &[], Some(&body), args.within);
    let upgraded = asked.await?;
    if client.json() {
        output::print(&format!("{upgraded:#}\n"));
    } else {
        let (pid, version) = (&upgraded["pid"], upgraded["version"].as_str().unwrap_or_default());
        output::print(&format!(
            "process {pid} of crossfade {version} has taken over; what is in flight in the old one is finished \
             there\n"
        ));
    }
    Ok(())
}
