//! Questions to Prometheus, by its HTTP API: instant queries.

use super::{
    Outside,
    way::{content, within, words},
};
use crate::{rollout::Answer, spec::PrometheusGate};
use reqwest::{StatusCode, Url};
use serde_json::Value;

/// One number is a thousandth of it.
const LONGEST_ANSWER: usize = 1 << 20;

/// Of what a server says about an error.
const LONGEST_WORDS: usize = 200;

impl Outside {
    /// Whether the answer to the query of `gate`, one number, is not above its limit. Any other answer, or none, is
    /// neither a yes nor a no.
    pub async fn ask_prometheus(&self, gate: &PrometheusGate) -> Answer {
        match within(gate.timeout, self.number(gate)).await {
            Ok(number) if number > gate.max => {
                Answer::Fail(format!("{number}, which is above {}", gate.max))
            }
            Ok(number) => Answer::Pass(format!("{number}, which is not above {}", gate.max)),
            Err(why) => Answer::Inconclusive(why),
        }
    }

    async fn number(&self, gate: &PrometheusGate) -> Result<f64, String> {
        let response = self.get(question(gate)?).send().await.map_err(|error| words(&error))?;
        let status = response.status();
        let answer = content(response, LONGEST_ANSWER).await?;
        let answer = serde_json::from_slice::<Value>(&answer);
        match answer {
            Ok(answer) if status == StatusCode::OK => number(&answer),
            Ok(answer) => Err(refusal(status, &answer)),
            Err(_) if status == StatusCode::OK => Err("the answer is not JSON".to_owned()),
            Err(_) => Err(format!("the answer is {status}")),
        }
    }
}

fn question(gate: &PrometheusGate) -> Result<Url, String> {
    let mut url = Url::parse(&gate.url).map_err(|error| error.to_string())?;
    let segments = url.path_segments_mut();
    segments
        .map_err(|()| "the URL has no path".to_owned())?
        .pop_if_empty()
        .extend(["api", "v1", "query"]);
    // The server need not go on when nobody waits any more.
    let patience = gate.timeout.as_secs_f64().to_string();
    url.query_pairs_mut().append_pair("query", &gate.query).append_pair("timeout", &patience);
    Ok(url)
}

/// What the answer to a good query says.
fn number(answer: &Value) -> Result<f64, String> {
    if answer["status"] != "success" {
        return Err(refusal(StatusCode::OK, answer));
    }
    if let Some(warning) = warning(answer) {
        return Err(format!("the server warns: {warning}"));
    }
    let data = &answer["data"];
    let sample = match (data["resultType"].as_str(), &data["result"]) {
        (Some("scalar"), sample) => sample,
        (Some("vector"), Value::Array(series)) => match series.as_slice() {
            [] => return Err("the answer is empty".to_owned()),
            [one] => &one["value"],
            several => {
                return Err(format!("the answer has {} numbers, not one", several.len()));
            }
        },
        (Some(other), _) => {
            return Err(format!("the answer is a {}, not one number", brief(other)));
        }
        (None, _) => return Err("the answer is not Prometheus's".to_owned()),
    };
    // A pair of a time and a number as text; a histogram has none.
    let text = sample.get(1).and_then(Value::as_str);
    let text = text.ok_or("the answer is not a number")?;
    match text.parse::<f64>() {
        Ok(number) if number.is_nan() || number == f64::NEG_INFINITY => {
            Err(format!("the answer is {number}, which is no number"))
        }
        Ok(number) => Ok(number),
        Err(_) => Err(format!("the answer `{}` is not a number", brief(text))),
    }
}

/// Why the answer may not be the whole truth: a part of what was asked did not answer. Hints about the query are
/// warnings too, in some versions.
fn warning(answer: &Value) -> Option<String> {
    let warnings = answer["warnings"].as_array()?;
    let mut words = warnings.iter().filter_map(Value::as_str);
    words.find(|words| !words.starts_with("PromQL info")).map(brief)
}

fn refusal(status: StatusCode, answer: &Value) -> String {
    match answer["error"].as_str() {
        Some(error) => format!("the answer is {status}: {}", brief(error)),
        None => format!("the answer is {status}, and not Prometheus's"),
    }
}

fn brief(words: &str) -> String {
    words.chars().take(LONGEST_WORDS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::Duration;

    fn gate(url: &str) -> PrometheusGate {
        PrometheusGate {
            name: "errors".into(),
            url: url.into(),
            query: "sum(a{b=\"c&d\"}) + 1".into(),
            max: 1.0,
            interval: PrometheusGate::INTERVAL,
            timeout: Duration::from_millis(2500),
        }
    }

    #[test]
    fn the_path_of_the_url_is_kept() {
        let query = "query=sum%28a%7Bb%3D%22c%26d%22%7D%29+%2B+1&timeout=2.5";
        for (url, asked) in [
            ("http://p:9090", format!("http://p:9090/api/v1/query?{query}")),
            ("http://p/", format!("http://p/api/v1/query?{query}")),
            ("https://p/a/b/", format!("https://p/a/b/api/v1/query?{query}")),
            ("http://[::1]:1/a?t=1", format!("http://[::1]:1/a/api/v1/query?t=1&{query}")),
        ] {
            assert_eq!(question(&gate(url)).unwrap().as_str(), asked);
        }
        assert!(question(&gate("http://1.2.3.256/")).is_err());
    }

    fn vector(result: Value) -> Value {
        json!({ "status": "success", "data": { "resultType": "vector", "result": result } })
    }

    fn one(text: &str) -> Value {
        vector(json!([{ "metric": { "a": "b" }, "value": [1.5, text] }]))
    }

    #[test]
    fn one_number() {
        let scalar = json!({ "status": "success", "data": { "resultType": "scalar", "result": [1, "0.25"] } });
        assert_eq!(number(&scalar), Ok(0.25));
        assert_eq!(number(&one("-1e3")), Ok(-1000.0));
        assert_eq!(number(&one("+Inf")), Ok(f64::INFINITY), "a quantile beyond the last bucket");
        let mut hinted = one("1");
        hinted["warnings"] = json!(["PromQL info: metric might not be a counter"]);
        assert_eq!(number(&hinted), Ok(1.0));
    }

    #[test]
    fn whatever_is_not_one_number() {
        let typed = |kind: &str| json!({ "status": "success", "data": { "resultType": kind, "result": [] } });
        let mut partial = one("1");
        partial["warnings"] = json!(["PromQL info: x", "remote_read: store is down"]);
        let two = json!([{ "value": [1, "1"] }, { "value": [1, "2"] }]);
        for (answer, says) in [
            (vector(json!([])), "the answer is empty"),
            (vector(two), "has 2 numbers, not one"),
            (one("NaN"), "which is no number"),
            (one("-Inf"), "which is no number"),
            (one("many"), "`many` is not a number"),
            (vector(json!([{ "histogram": [1, {}] }])), "is not a number"),
            (vector(json!([5])), "is not a number"),
            (vector(json!("x")), "is a vector, not one number"),
            (typed("matrix"), "is a matrix, not one number"),
            (typed("string"), "is a string, not one number"),
            (json!({ "status": "success" }), "not Prometheus's"),
            (json!({ "status": "error", "error": "bad query" }), "bad query"),
            (json!([]), "not Prometheus's"),
            (partial, "the server warns: remote_read: store is down"),
        ] {
            let said = number(&answer).unwrap_err();
            assert!(said.contains(says), "{answer}: {said}");
        }
    }
}
