use super::{
    Client, Failure,
    change::{ChangeArgs, Request, TrafficArgs},
    path,
    progress::Progress,
};
use crate::spec::Weight;
use reqwest::Method;
use serde_json::{Map, Value, json};

#[derive(clap::Args)]
pub(super) struct Args {
    /// As named in the configuration
    service: String,
    /// POOL=WEIGHT, 0 to 1000000; pools that are not named keep theirs
    #[arg(required = true, value_name = "POOL=WEIGHT", value_parser = weight)]
    weights: Vec<(String, u32)>,
    #[command(flatten)]
    traffic: TrafficArgs,
    #[command(flatten)]
    change: ChangeArgs,
}

pub(super) async fn run(client: &Client, args: Args) -> Result<(), Failure> {
    let mut weights = Map::new();
    for (pool, weight) in args.weights {
        if weights.insert(pool.clone(), weight.into()).is_some() {
            return Err(Failure::usage(format!("{pool} is named twice; name each pool once")));
        }
    }
    let path = format!("{}/weights", path::service(&args.service));
    let body = json!({ "weights": Value::Object(weights) });
    let progress = Progress::pools(&args.service, |pool| pool["weight"] == 0);
    Request::new(Method::PUT, path, Some(body), args.change)
        .traffic(&args.traffic)
        .send(client, progress)
        .await
}

fn weight(text: &str) -> Result<(String, u32), String> {
    let (pool, weight) = text.rsplit_once('=').ok_or("use POOL=WEIGHT, such as green=5")?;
    let weight = weight.parse().ok().and_then(Weight::new);
    let weight =
        weight.ok_or_else(|| format!("a weight is a whole number from 0 to {}", Weight::MAX))?;
    Ok((pool.to_owned(), weight.get()))
}

#[cfg(test)]
mod tests {
    use super::weight;

    #[test]
    fn weights_of_the_command_line() {
        assert_eq!(weight("green=5").unwrap(), ("green".to_owned(), 5));
        assert_eq!(weight("a=b=0").unwrap(), ("a=b".to_owned(), 0));
        for bad in ["green", "green=", "green=-1", "green=1000001", "green=1.5"] {
            assert!(weight(bad).is_err(), "{bad}");
        }
    }
}
