//! A small backend to try crossfade with: says which version it is, and fails when told to.

use super::{Failure, duration, serve::Signals};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rand::RngExt;
use serde_json::json;
use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};
use tokio::{net::TcpListener, task::JoinSet};

#[derive(clap::Args)]
pub(super) struct Args {
    #[arg(long)]
    address: SocketAddr,
    #[arg(long = "version")]
    version_label: String,
    /// Of 100 requests, so many are answered 500
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    fail_percent: u8,
    /// Time that an answer takes
    #[arg(long, value_parser = duration, default_value = "0s")]
    latency: Duration,
}

/// How a demo backend behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// What it says it is.
    pub version: String,
    /// Of 100 requests, so many are answered 500; `POST /fail?percent=50` changes it.
    pub fail_percent: u8,
    /// Time that an answer takes.
    pub latency: Duration,
}

struct App {
    version: String,
    fail_percent: AtomicU8,
    latency: Duration,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let listener = TcpListener::bind(args.address)
        .await
        .map_err(|error| Failure::failed(format!("{}: {error}", args.address)))?;
    let Args { version_label: version, fail_percent, latency, .. } = args;
    // As the first process of a container it would not even end on SIGTERM by itself.
    let mut signals =
        Signals::new().map_err(|error| Failure::failed(format!("no signals: {error}")))?;
    tokio::select! {
        () = serve(listener, Options { version, fail_percent, latency }) => {}
        () = signals.end() => {}
    }
    Ok(())
}

/// Answers every connection of `listener` until dropped.
pub async fn serve(listener: TcpListener, options: Options) {
    let Options { version, fail_percent, latency } = options;
    let app = Arc::new(App { version, fail_percent: AtomicU8::new(fail_percent), latency });
    // Dropped with this future, and its connections with it.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let app = Arc::clone(&app);
                    let service = service_fn(move |request| answer(Arc::clone(&app), request));
                    connections.spawn(async move {
                        let _ = http1::Builder::new()
                            .timer(TokioTimer::new())
                            .serve_connection(TokioIo::new(stream), service)
                            .await;
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the demo backend cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
}

async fn answer(
    app: Arc<App>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, mut body) = request.into_parts();
    // Read to its end, so that the connection can be used again.
    while let Some(Ok(_)) = body.frame().await {}
    let path = head.uri.path();
    let (status, note) = match (&head.method, path) {
        (_, "/health/ready") => (StatusCode::OK, "ready"),
        (&Method::POST, "/fail") => app.set_fail_percent(head.uri.query().unwrap_or_default()),
        _ => app.work().await,
    };
    let text = json!({ "version": app.version, "path": path, "note": note });
    let mut response = Response::new(Full::from(format!("{text}\n")));
    *response.status_mut() = status;
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    Ok(response)
}

impl App {
    fn set_fail_percent(&self, query: &str) -> (StatusCode, &'static str) {
        let percent = form_urlencoded::parse(query.as_bytes())
            .find(|(key, _)| key == "percent")
            .and_then(|(_, value)| value.parse::<u8>().ok())
            .filter(|percent| *percent <= 100);
        match percent {
            Some(percent) => {
                self.fail_percent.store(percent, Ordering::Relaxed);
                (StatusCode::OK, "as you wish")
            }
            None => (StatusCode::BAD_REQUEST, "use /fail?percent=50, 0 to 100"),
        }
    }

    async fn work(&self) -> (StatusCode, &'static str) {
        if !self.latency.is_zero() {
            tokio::time::sleep(self.latency).await;
        }
        if rand::rng().random_range(0..100) < self.fail_percent.load(Ordering::Relaxed) {
            (StatusCode::INTERNAL_SERVER_ERROR, "fails because it was told to")
        } else {
            (StatusCode::OK, "hello")
        }
    }
}
