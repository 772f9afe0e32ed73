use crate::support::*;
use crossfade::{
    control::Command,
    spec::{BackendAddress, Engine, Retries, RetryOn, Share, Spec, Tracing},
};
use http::{HeaderMap, Response, StatusCode};
use http_body_util::BodyExt;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{Span, span::SpanKind, status::StatusCode as SpanStatus},
};
use prost::Message;
use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU16, Ordering},
    },
    time::Duration,
};

const ENGINES: [Engine; 2] = [Engine::Native, Engine::Hyper];
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// Takes spans by OTLP over HTTP, and reads them by the official definitions.
struct Collector {
    backend: Backend,
    spans: Arc<Mutex<Vec<Span>>>,
    resources: Arc<Mutex<Vec<KeyValue>>>,
    /// What it answers.
    status: Arc<AtomicU16>,
}

impl Collector {
    async fn start() -> Self {
        let spans: Arc<Mutex<Vec<Span>>> = Arc::default();
        let resources: Arc<Mutex<Vec<KeyValue>>> = Arc::default();
        let status = Arc::new(AtomicU16::new(200));
        let (taken, told, answer) = (spans.clone(), resources.clone(), status.clone());
        let backend = Backend::start(move |request| {
            let (taken, told, answer) = (taken.clone(), told.clone(), answer.clone());
            async move {
                assert_eq!(request.uri().path(), "/v1/traces");
                assert_eq!(request.headers()["content-type"], "application/x-protobuf");
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let said = ExportTraceServiceRequest::decode(body).unwrap();
                let status = StatusCode::from_u16(answer.load(Ordering::SeqCst)).unwrap();
                if status.is_success() {
                    for of_resource in said.resource_spans {
                        *told.lock().unwrap() = of_resource.resource.unwrap().attributes;
                        let scopes = of_resource.scope_spans.into_iter();
                        taken.lock().unwrap().extend(scopes.flat_map(|scope| scope.spans));
                    }
                }
                Response::builder().status(status).body(full("")).unwrap()
            }
        })
        .await;
        Self { backend, spans, resources, status }
    }

    fn tracing(&self, sample: Share) -> Option<Arc<Tracing>> {
        let url = format!("http://{}/", self.backend.address);
        Some(Arc::new(Tracing { sample, ..Tracing::new(url.into()) }))
    }

    /// Its spans, once there are so many.
    async fn spans(&self, count: usize) -> Vec<Span> {
        until("the spans", || self.spans.lock().unwrap().len() >= count).await;
        let spans = self.spans.lock().unwrap().clone();
        assert_eq!(spans.len(), count);
        spans
    }
}

fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attributes(all: &[KeyValue]) -> HashMap<&str, String> {
    let text = |value: &Value| match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        Value::BoolValue(flag) => flag.to_string(),
        Value::DoubleValue(number) => number.to_string(),
        other => panic!("{other:?}"),
    };
    let pairs = all
        .iter()
        .map(|pair| (&*pair.key, text(pair.value.as_ref().unwrap().value.as_ref().unwrap())));
    let known: HashMap<_, _> = pairs.collect();
    assert_eq!(known.len(), all.len(), "an attribute is there twice: {all:?}");
    known
}

fn assert_has(span: &Span, expected: &[(&str, &str)]) {
    let known = attributes(&span.attributes);
    for (key, value) in expected {
        assert_eq!(known.get(key).map(String::as_str), Some(*value), "{key} of {known:?}");
    }
}

fn is_error(span: &Span) -> bool {
    span.status.as_ref().is_some_and(|status| status.code == SpanStatus::Error as i32)
}

/// Keeps the fields of the requests that it got.
async fn witness() -> (Backend, Arc<Mutex<Vec<HeaderMap>>>) {
    let heard: Arc<Mutex<Vec<HeaderMap>>> = Arc::default();
    let hears = heard.clone();
    let backend = Backend::start(move |request| {
        hears.lock().unwrap().push(request.headers().clone());
        async { text("hello") }
    })
    .await;
    (backend, heard)
}

fn one(engine: Engine, backend: &Backend) -> Spec {
    let mut spec = spec(&[("blue", pool("v1", 100, &[backend.spec_address()]))]);
    spec.engine = engine;
    spec
}

fn parts(parent: &http::HeaderValue) -> Vec<String> {
    parent.to_str().unwrap().split('-').map(str::to_owned).collect()
}

#[tokio::test]
async fn a_trace_goes_on_through_the_proxy() {
    for engine in ENGINES {
        let (backend, heard) = witness().await;
        let collector = Collector::start().await;
        let mut desired = one(engine, &backend);
        desired.tracing = collector.tracing(Share::NONE);
        let proxy = Proxy::start(desired).await;
        for (nth, mut client) in [proxy.h1().await, proxy.h2().await].into_iter().enumerate() {
            let request = get("/a?token=x")
                .header("traceparent", format!("00-{TRACE}-{PARENT}-01"))
                .header("tracestate", "rojo=1,congo=2")
                .header("x-request-id", "my-id");
            client.send(request.body(full("")).unwrap()).await;
            let spans = collector.spans(2 * (nth + 1)).await;
            let [server, attempt] = &spans[2 * nth..] else { panic!() };
            assert_eq!(
                (hex(&server.trace_id), hex(&server.parent_span_id)),
                (TRACE.into(), PARENT.into())
            );
            assert_eq!(
                (hex(&attempt.trace_id), &attempt.parent_span_id),
                (TRACE.into(), &server.span_id)
            );
            assert_eq!(server.kind, SpanKind::Server as i32);
            assert_eq!(attempt.kind, SpanKind::Client as i32);
            assert_eq!((&*server.name, &*attempt.name), ("GET", "GET"));
            assert_eq!((server.flags, attempt.flags), (0x301, 0x101));
            assert!(!is_error(server) && !is_error(attempt));
            let fields = heard.lock().unwrap().last().unwrap().clone();
            assert_eq!(parts(&fields["traceparent"]), ["00", TRACE, &hex(&attempt.span_id), "01"]);
            assert_eq!(fields["tracestate"], "rojo=1,congo=2");
            let address = backend.address.to_string();
            let port = backend.address.port().to_string();
            let ours = [
                ("crossfade.service", "shop"),
                ("crossfade.pool", "blue"),
                ("crossfade.version", "v1"),
                ("crossfade.backend", &*address),
                ("http.request.method", "GET"),
                ("http.response.status_code", "200"),
            ];
            assert_has(server, &ours);
            assert_has(attempt, &ours);
            let version = if nth == 0 { "1.1" } else { "2" };
            assert_has(
                server,
                &[
                    ("url.path", "/a"),
                    ("url.scheme", "http"),
                    ("server.address", "shop.example.com"),
                    ("client.address", "127.0.0.1"),
                    ("network.protocol.version", version),
                    ("http.response.body.size", "5"),
                    ("crossfade.route", "all"),
                    ("crossfade.request_id", "my-id"),
                    ("crossfade.attempts", "1"),
                ],
            );
            assert_has(attempt, &[("server.address", "127.0.0.1"), ("server.port", &port)]);
            let (began, ended) = (server.start_time_unix_nano, server.end_time_unix_nano);
            assert!(began <= attempt.start_time_unix_nano && attempt.end_time_unix_nano <= ended);
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
            assert!(Duration::from_nanos(began).abs_diff(now) < Duration::from_secs(60));
            assert!(!format!("{spans:?}").contains("token"), "a query is nobody's business");
        }
        let told = collector.resources.lock().unwrap().clone();
        assert_eq!(attributes(&told)["service.name"], "crossfade");
    }
}

#[tokio::test]
async fn what_is_not_sampled_passes_as_it_came() {
    for engine in ENGINES {
        let (backend, heard) = witness().await;
        let collector = Collector::start().await;
        let mut desired = one(engine, &backend);
        desired.tracing = collector.tracing(Share::NONE);
        let proxy = Proxy::start(desired).await;
        let mut client = proxy.h1().await;
        let parent = format!("00-{TRACE}-{PARENT}-00");
        let request = get("/").header("traceparent", &parent).header("tracestate", "a=b");
        client.send(request.body(full("")).unwrap()).await;
        let fields = heard.lock().unwrap().pop().unwrap();
        assert_eq!(fields["traceparent"], parent);
        assert_eq!(fields["tracestate"], "a=b");
        // A trace that begins here, and that nobody behind is to record either.
        let invalid = format!("00-{TRACE}-{}-01", "0".repeat(16));
        let request = get("/").header("traceparent", invalid).header("tracestate", "a=b");
        client.send(request.body(full("")).unwrap()).await;
        let fields = heard.lock().unwrap().pop().unwrap();
        let [version, trace, span, flags] = &parts(&fields["traceparent"])[..] else { panic!() };
        assert_eq!((&**version, &**flags), ("00", "00"));
        assert!(trace != TRACE && trace.len() == 32 && span.len() == 16);
        assert_eq!(*trace, fields["x-request-id"]);
        assert!(!fields.contains_key("tracestate"));
        // One that is sampled comes last: nothing came before it.
        let request = get("/").header("traceparent", format!("00-{TRACE}-{PARENT}-01"));
        let request = request.header("tracestate", "no state");
        client.send(request.body(full("")).unwrap()).await;
        assert!(!heard.lock().unwrap().pop().unwrap().contains_key("tracestate"));
        let spans = collector.spans(2).await;
        assert!(spans.iter().all(|span| hex(&span.trace_id) == TRACE));
    }
}

#[tokio::test]
async fn a_share_of_the_traces_that_begin_here_is_recorded() {
    let (backend, heard) = witness().await;
    let collector = Collector::start().await;
    let mut desired = one(Engine::Native, &backend);
    desired.tracing = collector.tracing(Share::of_percent(30));
    let proxy = Proxy::start(desired).await;
    let mut client = proxy.h1().await;
    for _ in 0..400 {
        client.get("/").await;
    }
    let heard = heard.lock().unwrap().clone();
    let sampled: HashSet<String> = heard
        .iter()
        .map(|fields| parts(&fields["traceparent"]))
        .filter(|parts| parts[3] == "01")
        .map(|parts| parts[1].clone())
        .collect();
    assert!((60..180).contains(&sampled.len()), "{}", sampled.len());
    let spans = collector.spans(2 * sampled.len()).await;
    let recorded: HashSet<String> = spans.iter().map(|span| hex(&span.trace_id)).collect();
    assert_eq!(recorded, sampled);
}

#[tokio::test]
async fn each_attempt_has_a_span_and_failures_are_errors() {
    let (good, heard) = witness().await;
    let dead = dead_address();
    for engine in ENGINES {
        let collector = Collector::start().await;
        let mut desired = spec(&[("blue", pool("v1", 100, &[dead.clone(), good.spec_address()]))]);
        desired.engine = engine;
        desired.tracing = collector.tracing(Share::ALL);
        let shop = &mut desired.services["shop"];
        let on = RetryOn { connect: true, reset: true };
        shop.retries = Retries { attempts: 3, on, ..shop.retries };
        shop.ejection.consecutive = 1000;
        let proxy = Proxy::start(desired).await;
        let mut client = proxy.h1().await;
        let mut seen = 0;
        let retried = loop {
            assert_eq!(client.get("/").await.status, 200);
            let fields = heard.lock().unwrap().pop().unwrap();
            let trace = parts(&fields["traceparent"])[1].clone();
            let is_of = |span: &&Span| hex(&span.trace_id) == trace;
            let ended = || {
                let spans = collector.spans.lock().unwrap();
                spans.iter().filter(is_of).any(|span| {
                    let sent = parts(&fields["traceparent"])[2].clone();
                    hex(&span.span_id) == sent
                })
            };
            until("its spans", ended).await;
            let spans = collector.spans.lock().unwrap();
            let mine: Vec<Span> = spans.iter().filter(is_of).cloned().collect();
            if mine.len() == 3 {
                break mine;
            }
            seen += 1;
            assert!(seen < 100, "never tried again");
        };
        let [server, failed, answered] = &retried[..] else { panic!() };
        assert!(!is_error(server) && is_error(failed) && !is_error(answered));
        assert_has(failed, &[("error.type", "connect_failed")]);
        assert_has(answered, &[("http.request.resend_count", "1")]);
        assert_has(server, &[("crossfade.attempts", "2")]);
        assert!([failed, answered].iter().all(|span| span.parent_span_id == server.span_id));
        assert!(failed.end_time_unix_nano <= answered.end_time_unix_nano);
    }
    let fails = Arc::new(AtomicBool::new(true));
    let backend = Backend::failing("bad", &fails).await;
    let collector = Collector::start().await;
    let mut desired = one(Engine::Native, &backend);
    desired.tracing = collector.tracing(Share::ALL);
    let proxy = Proxy::start(desired).await;
    assert_eq!(proxy.h1().await.get("/").await.status, 500);
    let spans = collector.spans(2).await;
    assert!(spans.iter().all(is_error));
    assert_has(&spans[0], &[("error.type", "500"), ("http.response.status_code", "500")]);
}

#[tokio::test]
async fn a_collector_that_fails_costs_spans_alone() {
    let (backend, _heard) = witness().await;
    let collector = Collector::start().await;
    // It says that it is no use to come again.
    collector.status.store(400, Ordering::SeqCst);
    let mut desired = one(Engine::Native, &backend);
    desired.tracing = collector.tracing(Share::ALL);
    let proxy = Proxy::start(desired.clone()).await;
    let mut client = proxy.h1().await;
    client.get("/").await;
    until("it is counted", || proxy.live.journal.dropped().1 == 1).await;
    collector.status.store(200, Ordering::SeqCst);
    client.get("/").await;
    collector.spans(2).await;
    // Another one takes over, at which nobody is.
    let BackendAddress::Socket(nowhere) = dead_address() else { panic!() };
    desired.tracing = Some(Arc::new(Tracing::new(format!("http://{nowhere}").into())));
    proxy.apply(Command::Load { file: Box::new(desired) }).await.unwrap();
    for _ in 0..10 {
        assert_eq!(client.get("/").await.status, 200);
    }
    until("they are counted", || proxy.live.journal.dropped().1 > 1).await;
}
