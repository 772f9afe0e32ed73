//! Takes spans to the collector, in a thread of its own: whoever waits for the network writes no lines meanwhile.

use super::otlp::{
    ExportRequest, ExportResponse, KeyValue, Resource, ResourceSpans, Scope, ScopeSpans, Span,
};
use crate::{
    live::{Journal, Live},
    net,
    spec::Tracing,
};
use percent_encoding::percent_decode_str;
use prost::Message;
use reqwest::{
    Client,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER},
    redirect::Policy,
};
use std::{
    env, io,
    sync::{
        Arc,
        atomic::Ordering::Relaxed,
        mpsc::{self, Receiver, SyncSender, TrySendError},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use tokio::{
    runtime::{Builder, Runtime},
    time::{sleep, timeout},
};

/// Batches that wait while one is on its way. With a collector that is gone, what comes beyond them is lost.
const WAITING: usize = 16;

/// Spans that are sent at once.
const MOST: usize = 512;

/// How long spans wait for others to be sent with.
const GATHERING: Duration = Duration::from_secs(1);

/// How long a collector may take, and how often it is asked again what it could not take for the moment.
const PATIENCE: Duration = Duration::from_secs(10);
const ATTEMPTS: u32 = 4;
const BETWEEN: Duration = Duration::from_millis(500);

/// The same when the process ends.
const LAST_PATIENCE: Duration = Duration::from_secs(1);

/// How often it is said that nothing can be sent.
const COMPLAINT: Duration = Duration::from_secs(60);

/// What a collector says that is read.
const LONGEST_WORDS: usize = 64 << 10;

/// Spans, and of how many requests they are.
pub(super) struct Batch {
    pub(super) spans: Vec<Span>,
    pub(super) requests: u64,
}

/// The way to the thread, as long as the same collector is wanted.
pub(super) struct Exporter {
    pub(super) settings: Arc<Tracing>,
    batches: SyncSender<Batch>,
    thread: JoinHandle<()>,
}

impl Exporter {
    /// # Errors
    /// When the system gives no thread, or there is no client.
    pub(super) fn start(settings: Arc<Tracing>, live: Arc<Live>) -> io::Result<Self> {
        let (batches, received) = mpsc::sync_channel(WAITING);
        let sending = Sending::new(&settings, live)?;
        let thread = thread::Builder::new()
            .name("spans".to_owned())
            .spawn(move || sending.run(&received))?;
        Ok(Self { settings, batches, thread })
    }

    /// Never waits: what there is no room for is lost, and counted.
    pub(super) fn send(&self, batch: Batch, journal: &Journal) {
        if let Err(TrySendError::Full(batch) | TrySendError::Disconnected(batch)) =
            self.batches.try_send(batch)
        {
            journal.sinks.spans.failed.fetch_add(batch.requests, Relaxed);
        }
    }

    /// Nothing more comes; returns when the rest has been sent, or it is too late for that.
    pub(super) fn end(self, patience: Duration) {
        drop(self.batches);
        let until = Instant::now() + patience;
        while !self.thread.is_finished() && Instant::now() < until {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

struct Sending {
    runtime: Runtime,
    http: Client,
    url: String,
    headers: HeaderMap,
    resource: Resource,
    live: Arc<Live>,
    complained: Option<Instant>,
}

impl Sending {
    fn new(settings: &Tracing, live: Arc<Live>) -> io::Result<Self> {
        let http = Client::builder()
            .no_proxy()
            .redirect(Policy::none())
            .user_agent(concat!("crossfade/", env!("CARGO_PKG_VERSION")))
            .tls_backend_preconfigured(net::config_for_others().map_err(io::Error::other)?)
            .build()
            .map_err(io::Error::other)?;
        Ok(Self {
            runtime: Builder::new_current_thread().enable_all().build()?,
            http,
            url: format!("{}/v1/traces", settings.otlp.trim_end_matches('/')),
            headers: headers(&variable("OTEL_EXPORTER_OTLP_HEADERS")),
            resource: resource(
                &variable("OTEL_RESOURCE_ATTRIBUTES"),
                &variable("OTEL_SERVICE_NAME"),
            ),
            live,
            complained: None,
        })
    }

    /// Until nobody can send any more.
    fn run(mut self, batches: &Receiver<Batch>) {
        while let Ok(mut batch) = batches.recv() {
            let until = Instant::now() + GATHERING;
            while batch.spans.len() < MOST
                && let left = until.saturating_duration_since(Instant::now())
                && let Ok(more) = batches.recv_timeout(left)
            {
                batch.spans.extend(more.spans);
                batch.requests += more.requests;
            }
            let Batch { spans, requests } = batch;
            let count = spans.len() as u64;
            let sinks = &self.live.journal.sinks.spans;
            match self.runtime.block_on(self.export(spans)) {
                Ok(rejected) => {
                    sinks.written.fetch_add(count.saturating_sub(rejected), Relaxed);
                    self.complained = None;
                }
                Err(error) => {
                    sinks.failed.fetch_add(requests, Relaxed);
                    if self.complained.is_none_or(|at| at.elapsed() >= COMPLAINT) {
                        self.complained = Some(Instant::now());
                        let lost = sinks.failed.load(Relaxed);
                        tracing::error!(error, url = self.url, lost, "spans cannot be sent");
                    }
                }
            }
        }
    }

    /// Returns how many of them the collector has rejected.
    async fn export(&self, spans: Vec<Span>) -> Result<u64, String> {
        let scope = Scope { name: "crossfade".into(), version: env!("CARGO_PKG_VERSION").into() };
        let scope_spans = vec![ScopeSpans { scope: Some(scope), spans }];
        let resource = Some(self.resource.clone());
        let resource_spans = vec![ResourceSpans { resource, scope_spans }];
        let body = bytes::Bytes::from(ExportRequest { resource_spans }.encode_to_vec());
        let mut attempts = 0;
        loop {
            attempts += 1;
            let ends = self.live.journal.has_ended();
            let patience = if ends { LAST_PATIENCE } else { PATIENCE };
            let answer = timeout(patience, self.post(body.clone())).await;
            let (error, wait) = match answer.unwrap_or_else(|_| Err(("no answer".into(), None))) {
                Ok(rejected) => return Ok(rejected),
                Err((error, wait)) => (error, wait),
            };
            let Some(wait) = wait.filter(|_| attempts < ATTEMPTS && !ends) else {
                return Err(error);
            };
            sleep(wait.min(PATIENCE)).await;
        }
    }

    /// # Errors
    /// With how long to wait before it is worth another try, if it is (OTLP/HTTP, "Failures").
    async fn post(&self, body: bytes::Bytes) -> Result<u64, (String, Option<Duration>)> {
        let request = self.http.post(&self.url).headers(self.headers.clone());
        let request = request.header(CONTENT_TYPE, "application/x-protobuf").body(body);
        let mut answer = request.send().await.map_err(|error| (words(&error), Some(BETWEEN)))?;
        let status = answer.status();
        let wait = answer.headers().get(RETRY_AFTER).and_then(|it| it.to_str().ok()?.parse().ok());
        let mut said = Vec::new();
        while let Ok(Some(piece)) = answer.chunk().await {
            if said.len() + piece.len() > LONGEST_WORDS {
                break;
            }
            said.extend_from_slice(&piece);
        }
        if status.is_success() {
            let partial = ExportResponse::decode(&*said).ok().and_then(|it| it.partial_success);
            let rejected = partial.map_or(0, |partial| partial.rejected_spans);
            return Ok(u64::try_from(rejected).unwrap_or(0));
        }
        let is_worth_it = matches!(status.as_u16(), 429 | 502 | 503 | 504);
        let wait = is_worth_it.then(|| wait.map_or(BETWEEN, Duration::from_secs));
        Err((format!("the collector answers {status}"), wait))
    }
}

/// Why there is no answer: its innermost cause, since what is around it repeats the URL.
fn words(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_default()
}

/// `a=b,c=d`, with what is special in percent.
fn pairs(list: &str) -> impl Iterator<Item = (String, String)> {
    list.split(',').filter_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        let plain = |text: &str| percent_decode_str(text.trim()).decode_utf8_lossy().into_owned();
        let key = plain(key);
        (!key.is_empty()).then(|| (key, plain(value)))
    })
}

fn headers(list: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs(list) {
        if let (Ok(name), Ok(mut value)) =
            (HeaderName::try_from(name), HeaderValue::try_from(value))
        {
            value.set_sensitive(true);
            headers.insert(name, value);
        }
    }
    headers
}

/// What this process is, as its surroundings say.
fn resource(attributes: &str, service: &str) -> Resource {
    let mut known: Vec<(String, String)> = pairs(attributes).collect();
    let mut say = |key: &str, value: &str| {
        known.retain(|(known, _)| known != key);
        known.push((key.to_owned(), value.to_owned()));
    };
    if !service.is_empty() {
        say("service.name", service);
    }
    say("service.version", env!("CARGO_PKG_VERSION"));
    if !known.iter().any(|(key, _)| key == "service.name") {
        known.push(("service.name".into(), "crossfade".into()));
    }
    let attributes = known.into_iter().map(|(key, value)| KeyValue::text(&key, value));
    Resource { attributes: attributes.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_surroundings_say_what_it_is() {
        let said = |attributes, service| {
            let mut all = resource(attributes, service).attributes;
            all.sort_by(|a, b| a.key.cmp(&b.key));
            all
        };
        let version = KeyValue::text("service.version", env!("CARGO_PKG_VERSION"));
        let name = |name: &str| KeyValue::text("service.name", name);
        assert_eq!(said("", ""), [name("crossfade"), version.clone()]);
        let region = KeyValue::text("region", "eu west");
        let told = said("region=eu%20west, service.name=a,odd", "");
        assert_eq!(told, [region.clone(), name("a"), version.clone()]);
        assert_eq!(
            said("region=eu%20west,service.name=a", "edge"),
            [region, name("edge"), version]
        );
        let told = headers("authorization=Bearer%20x, bad name=1");
        assert_eq!(told.len(), 1);
        assert_eq!(told["authorization"], "Bearer x");
    }
}
