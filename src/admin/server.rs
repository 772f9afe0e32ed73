//! The admin listener: one socket, HTTP/1.1, on the control plane's runtime.

use super::{
    Admin, Audit,
    access::{Failures, Peer, Source, UnixPeer, WRONG_BURST, WRONG_EACH},
    api,
    dashboard::{Feed, Painter},
    events::{Ending, LISTENERS},
    metrics,
    socket::{Accepted, Listener, Socket},
    tls::Tls,
    traffic::Traffic,
};
use crate::{
    config::Reloader,
    control::{Handle, News},
    live::Live,
    upgrade::Upgrader,
};
use axum::{Router, body::Body};
use http::{HeaderValue, Request, header};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    io,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Notify, Semaphore, broadcast::error::RecvError, watch},
    task::JoinSet,
    time::MissedTickBehavior,
};
use tower::ServiceExt;

/// For the head of a request, and so for the silence between two.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest head.
const HEAD_BYTES: usize = 64 << 10;

/// How the end comes.
#[derive(Clone, Copy, Debug)]
pub struct Farewell {
    /// What is being answered then may take so long.
    pub patience: Duration,
    /// Another process listens on the same socket: a unix socket's file stays, and who has just connected here is
    /// answered here.
    pub is_succeeded: bool,
}

impl Default for Farewell {
    fn default() -> Self {
        Self { patience: Duration::from_secs(5), is_succeeded: false }
    }
}

/// Who says nothing for so long, once another process has taken over, is about to say nothing.
const SILENCE: Duration = Duration::from_secs(1);

/// Before the next try when no connection can be accepted (no file descriptor left, mostly).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the admin API on `socket` until `end` resolves; what is being answered then is finished.
///
/// # Errors
/// When the socket cannot be used on this runtime.
pub async fn serve(
    live: Arc<Live>,
    handle: Handle,
    reloader: Option<Reloader>,
    upgrader: Option<Upgrader>,
    audit: Arc<Audit>,
    socket: Socket,
    end: impl Future<Output = Farewell>,
) -> io::Result<()> {
    let process = metrics::Process::new();
    let admin = Arc::new(Admin {
        live,
        handle,
        reloader,
        upgrader,
        traffic: Traffic::default(),
        failures: Failures::new(WRONG_BURST, WRONG_EACH),
        audit,
        process,
        places: Arc::default(),
        listeners: Arc::new(Semaphore::new(LISTENERS)),
        feed: Feed::default(),
    });
    let router = api::router(&admin);
    let listener = socket.listen()?;
    let mut tls = Tls::default();
    tls.of(admin.handle.view().spec.admin.tls.as_ref())
        .map_err(|error| io::Error::other(format!("the admin API cannot speak TLS: {error}")))?;
    tokio::select! {
        () = watch_traffic(&admin) => {}
        () = record_rollouts(&admin) => {}
        () = run(&admin, listener, tls, router, end) => {}
    }
    Ok(())
}

async fn run(
    admin: &Admin,
    listener: Listener,
    mut tls: Tls,
    router: Router,
    end: impl Future<Output = Farewell>,
) {
    let (ending, ended) = watch::channel(Duration::ZERO);
    let mut connections = JoinSet::new();
    let mut end = pin!(end);
    let Farewell { patience, is_succeeded } = loop {
        let next = async {
            admin.places.free(|| admin.handle.view().spec.admin.limits.connections).await;
            listener.accept().await
        };
        let accepted = tokio::select! {
            farewell = &mut end => break farewell,
            Some(_) = connections.join_next() => continue,
            next = next => next,
        };
        let (router, ended) = (router.clone(), ended.clone());
        let settings = &admin.handle.view().spec.admin;
        let place = |source| {
            let place = admin.places.take(source, settings.limits.connections_each);
            if place.is_none() {
                tracing::debug!(?source, "a client has too many connections to the admin API");
            }
            place
        };
        match accepted {
            Ok(Accepted::Tcp { stream, local, remote }) => {
                let Some(place) = place(Source::of(remote.ip())) else { continue };
                let secured = match tls.of(settings.tls.as_ref()) {
                    Ok(secured) => secured,
                    Err(error) => {
                        tracing::error!(%error, "the admin API cannot speak TLS");
                        continue;
                    }
                };
                let peer = move |certificate| Peer::Tcp { local, remote, certificate };
                connections.spawn(async move {
                    match secured {
                        None => connection(stream, peer(None), router, ended).await,
                        Some(secured) => match secured.shake(stream).await {
                            Ok(Some((stream, shown))) => {
                                connection(stream, peer(shown.map(Arc::new)), router, ended).await;
                            }
                            Ok(None) => {}
                            Err(error) => {
                                tracing::debug!(%remote, %error, "no TLS handshake with the admin API");
                            }
                        },
                    }
                    drop(place);
                })
            }
            Ok(Accepted::Unix(stream, credentials)) => {
                let Some(place) = place(Source::User(credentials.uid())) else { continue };
                connections.spawn(async move {
                    let peer = Peer::Unix(Arc::new(UnixPeer::of(credentials).await));
                    connection(stream, peer, router, ended).await;
                    drop(place);
                })
            }
            Err(error) => {
                tracing::warn!(%error, "the admin API cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
    };
    listener.close(is_succeeded);
    ending.send_replace(if is_succeeded { SILENCE } else { Duration::ZERO });
    let farewell = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(patience, farewell).await.is_err() {
        tracing::warn!("requests to the admin API were cut short by the end");
    }
}

/// `ended` changes when this is to be the last request, and says how long that is waited for.
async fn connection<S>(stream: S, peer: Peer, router: Router, mut ended: watch::Receiver<Duration>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let asked = Notify::new();
    let ending = Ending(ended.clone());
    let service = service_fn(|request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ending.clone());
        request.extensions_mut().insert(peer.clone());
        asked.notify_waiters();
        let (answer, ending) = (router.clone().oneshot(request), ending.clone());
        async move {
            let mut answer = answer.await;
            if let (Ok(answer), true) = (&mut answer, ending.0.has_changed().unwrap_or(true)) {
                answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            answer
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let result = tokio::select! {
        _ = ended.changed() => {
            let silence = *ended.borrow();
            tokio::select! {
                result = connection.as_mut() => result,
                () = last_request(&asked, silence) => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            }
        }
        result = connection.as_mut() => result,
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection to the admin API broke");
    }
}

/// Returns when a request has come, or none within this time.
async fn last_request(asked: &Notify, silence: Duration) {
    // Late is as good as in time.
    let _ = tokio::time::timeout(silence, asked.notified()).await;
}

/// What happens to rollouts, in the audit log too.
async fn record_rollouts(admin: &Admin) {
    let mut news = admin.handle.rollout_news();
    loop {
        match news.recv().await {
            Ok(News { rollout, notice }) => admin.audit.happened(&rollout, &notice),
            Err(RecvError::Lagged(missed)) => {
                tracing::warn!(missed, "the audit log lacks what happened to rollouts");
            }
            // The control plane has ended; the audit log can still be read until the end.
            Err(RecvError::Closed) => return std::future::pending().await,
        }
    }
}

/// Looks at the counters of every pool once a second, and at once at those of pools that are new; shows what there is to
/// see to those who follow.
async fn watch_traffic(admin: &Admin) {
    let mut views = admin.handle.views();
    let mut painter = Painter::new();
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = seconds.tick() => {
                admin.traffic.sample(&admin.live.pools(), Instant::now());
                admin.process.upkeep();
                admin.feed.show(|| painter.paint(admin));
            }
            () = admin.feed.joined() => admin.feed.show(|| painter.paint(admin)),
            changed = views.changed() => match changed {
                Ok(()) => admin.traffic.meet(&admin.live.pools(), Instant::now()),
                // The control plane has ended; what is there can still be looked at until the end.
                Err(_) => std::future::pending().await,
            },
        }
    }
}
