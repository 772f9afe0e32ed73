//! `/metrics` as OpenMetrics, with the trace ids of recorded requests.

use crate::{
    api::{Api, eventually},
    support::*,
};
use crossfade::spec::{BackendAddress, Share, Tracing};
use http::Request;
use std::sync::Arc;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

#[tokio::test]
async fn a_bucket_leads_to_a_trace() {
    let backend = Backend::named("blue").await;
    let mut desired = spec(&[("blue", pool("v1", 100, &[backend.spec_address()]))]);
    // Nobody takes the spans; exemplars do not depend on that.
    let BackendAddress::Socket(nowhere) = dead_address() else { panic!() };
    let tracing = Tracing::new(format!("http://{nowhere}").into());
    desired.tracing = Some(Arc::new(Tracing { sample: Share::NONE, ..tracing }));
    let api = Api::start(desired).await;
    let mut client = api.proxy.h1().await;
    client.get("/").await;
    let request = get("/").header("traceparent", format!("00-{TRACE}-b7ad6b7169203331-01"));
    client.send(request.body(full("")).unwrap()).await;
    let asked = || Request::get("/metrics").header("accept", "application/openmetrics-text");
    let mut page = String::new();
    eventually("an exemplar", async || {
        let answer = api.ask(asked(), "").await;
        assert!(answer.header("content-type").starts_with("application/openmetrics-text"));
        page = answer.text;
        page.contains("# {trace_id=")
    })
    .await;
    let with: Vec<&str> = page.lines().filter(|line| line.contains(" # {")).collect();
    let [line] = with[..] else { panic!("{with:?}") };
    assert!(
        line.starts_with(
            "crossfade_request_duration_seconds_bucket{service=\"shop\",pool=\"blue\""
        )
    );
    let (sample, exemplar) = line.split_once(" # ").unwrap();
    let [labels, value, at] = exemplar.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
    assert_eq!(labels, format!("{{trace_id=\"{TRACE}\"}}"));
    let edge = sample.split("le=\"").nth(1).unwrap().split('"').next().unwrap();
    let (edge, value): (f64, f64) = (edge.parse().unwrap_or(f64::INFINITY), value.parse().unwrap());
    assert!(value > 0.0 && value <= edge, "{line}");
    assert!(at.parse::<f64>().unwrap() > 1.6e9);

    assert!(page.ends_with("# EOF\n") && !page.contains("\n\n"));
    assert!(
        page.contains("# TYPE crossfade_requests counter\n")
            && page.contains("\ncrossfade_requests_total{")
    );
    assert!(page.contains("# TYPE process_cpu_seconds counter\n"));
    // The text format stays as it is.
    let text = api.get("/metrics").await;
    assert!(text.header("content-type").starts_with("text/plain"));
    assert!(!text.text.contains("trace_id") && !text.text.contains("# EOF"));
    assert!(text.text.contains("# TYPE crossfade_requests_total counter\n"));
}
