//! gRPC as HTTP/2 carries it: calls and streams both ways, and what their statuses are counted as.

#![allow(unreachable_pub)]

mod support;

use bytes::Bytes;
use crossfade::{
    live::{Fault, HealthState, Reason},
    spec::{HealthCheck, PoolProtocol, Spec},
};
use http::{HeaderMap, Request, Response};
use std::{sync::atomic::Ordering, time::Duration};
use support::{Backend, Proxy, dead_address, health_check, pool, spec, until};

fn h2_spec(backend: crossfade::spec::BackendAddress) -> Spec {
    let mut pool = pool("v1", 1, &[backend]);
    pool.protocol = PoolProtocol::H2;
    let mut spec = spec(&[("blue", pool)]);
    spec.services["shop"].retries.attempts = 1;
    spec
}

async fn client(proxy: &Proxy) -> h2::client::SendRequest<Bytes> {
    let stream = proxy.connect().await;
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    sender.ready().await.unwrap()
}

fn call(path: &str) -> Request<()> {
    Request::post(format!("http://a{path}"))
        .header("content-type", "application/grpc+proto")
        .header("te", "trailers")
        .body(())
        .unwrap()
}

fn status(status: &str) -> HeaderMap {
    HeaderMap::from_iter([("grpc-status".parse().unwrap(), status.parse().unwrap())])
}

fn head() -> Response<()> {
    Response::builder().header("content-type", "application/grpc").body(()).unwrap()
}

fn failures(proxy: &Proxy) -> u64 {
    let totals = proxy.live.pools()[0].stats.totals();
    totals.failures[Fault::Upstream as usize][Reason::GrpcStatus as usize]
}

/// Answers with the status that the path names: in trailers, or (`/alone/`) instead of all the rest.
async fn named() -> Backend {
    Backend::bare_http2(|mut request, mut respond| async move {
        while let Some(Ok(_)) = request.body_mut().data().await {}
        let path = request.uri().path().to_owned();
        if let Some(code) = path.strip_prefix("/alone/") {
            let mut head = head();
            head.headers_mut().extend(status(code));
            respond.send_response(head, true).unwrap();
            return;
        }
        let mut stream = respond.send_response(head(), false).unwrap();
        stream.send_data("\0\0\0\0\u{1}x".into(), path == "/none").unwrap();
        if let Some(code) = path.strip_prefix("/call/") {
            stream.send_trailers(status(code)).unwrap();
        }
    })
    .await
}

#[tokio::test]
async fn a_call_ends_when_its_client_waits_no_longer() {
    let backend = Backend::bare_http2(|request, respond| async move {
        assert_eq!(request.headers()["grpc-timeout"], "300m", "the server is told");
        std::future::pending::<()>().await;
        drop(respond);
    })
    .await;
    let proxy = Proxy::start(h2_spec(backend.spec_address())).await;
    let mut client = client(&proxy).await;
    let mut call = call("/call/0");
    call.headers_mut().insert("grpc-timeout", "300m".parse().unwrap());
    let (response, _) = client.send_request(call, true).unwrap();
    let response = tokio::time::timeout(support::PATIENCE, response).await.unwrap().unwrap();
    assert_eq!(response.headers()["grpc-status"], "4", "DEADLINE_EXCEEDED");
    assert_eq!(response.headers()["x-crossfade-error"], "request_deadline");
    until("nothing is in flight", || proxy.open() == 0).await;
}

#[tokio::test]
async fn a_calls_status_is_its_outcome() {
    let backend = named().await;
    let proxy = Proxy::start(h2_spec(backend.spec_address())).await;
    let mut client = client(&proxy).await;
    let mut failed = 0;
    for (path, fails) in [
        ("/call/0", false),
        ("/call/14", true),
        ("/call/5", false),
        ("/call/12", true),
        ("/call/x", true),
        ("/alone/0", false),
        ("/alone/13", true),
        ("/alone/16", false),
        ("/none", true),
    ] {
        let (response, mut upload) = client.send_request(call(path), false).unwrap();
        upload.send_data("\0\0\0\0\0".into(), true).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        let alone = response.headers().get("grpc-status").cloned();
        let mut body = response.into_body();
        while let Some(data) = body.data().await {
            data.unwrap();
        }
        let trailers = body.trailers().await.unwrap().unwrap_or_default();
        let told = alone.or(trailers.get("grpc-status").cloned());
        let wanted = path.rsplit('/').next().unwrap();
        assert_eq!(told.as_ref().map_or("none", |told| told.to_str().unwrap()), wanted);
        failed += u64::from(fails);
        until(path, || proxy.open() == 0).await;
        assert_eq!(failures(&proxy), failed, "{path}");
    }
    let totals = proxy.live.pools()[0].stats.totals();
    let ok = crossfade::live::code_index(200);
    assert_eq!(totals.requests.iter().map(|method| method[ok]).sum::<u64>(), 9, "codes are HTTP's");
}

#[tokio::test]
async fn messages_pass_both_ways_as_they_come() {
    let backend = Backend::bare_http2(|request, mut respond| async move {
        let mut body = request.into_body();
        let mut stream = respond.send_response(head(), false).unwrap();
        while let Some(Ok(message)) = body.data().await {
            let _ = body.flow_control().release_capacity(message.len());
            stream.send_data(message, false).unwrap();
        }
        stream.send_trailers(status("0")).unwrap();
    })
    .await;
    let proxy = Proxy::start(h2_spec(backend.spec_address())).await;
    let mut client = client(&proxy).await;
    let (response, mut upload) = client.send_request(call("/chat"), false).unwrap();
    let mut body = response.await.unwrap().into_body();
    for n in 0..100u8 {
        upload.send_data(Bytes::from(vec![n; 10]), false).unwrap();
        let message = body.data().await.unwrap().unwrap();
        assert_eq!(message, vec![n; 10]);
        let _ = body.flow_control().release_capacity(message.len());
    }
    upload.send_data(Bytes::new(), true).unwrap();
    assert!(body.data().await.is_none());
    assert_eq!(body.trailers().await.unwrap().unwrap()["grpc-status"], "0");
    until("nothing is in flight", || proxy.open() == 0).await;
    assert_eq!(failures(&proxy), 0);
}

#[tokio::test]
async fn what_the_proxy_refuses_is_a_status_too() {
    let mut spec = h2_spec(dead_address());
    spec.routes[0].matches.path = crossfade::spec::PathMatch::Prefix("/shop".into());
    let proxy = Proxy::start(spec).await;
    let mut client = client(&proxy).await;
    for (path, grpc, error) in
        [("/shop/x", "14", "connect_failed"), ("/elsewhere", "12", "no_route")]
    {
        let (response, _) = client.send_request(call(path), true).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["grpc-status"], grpc);
        assert_eq!(response.headers()["content-type"], "application/grpc");
        assert_eq!(response.headers()["x-crossfade-error"], error);
        assert!(response.headers().contains_key("grpc-message"));
        assert!(response.body().is_end_stream());
    }
    let totals = proxy.live.pools()[0].stats.totals();
    let code = crossfade::live::code_index(502);
    assert_eq!(
        totals.requests.iter().map(|method| method[code]).sum::<u64>(),
        1,
        "counted as it is"
    );
}

#[tokio::test]
async fn a_backend_of_http2_is_probed_in_http2() {
    let backend = Backend::bare_http2(|request, mut respond| async move {
        assert_eq!(request.uri().path(), "/health");
        respond.send_response(Response::new(()), true).unwrap();
    })
    .await;
    let mut spec = h2_spec(backend.spec_address());
    spec.services["shop"].health_check = Some(health_check());
    spec.startup_wait = Duration::from_secs(10);
    let proxy = Proxy::start(spec).await;
    let is_healthy = || {
        let backends = proxy.live.pools()[0].backends();
        backends.iter().all(|backend| backend.health.state() == HealthState::Healthy)
    };
    until("it is proven", is_healthy).await;
}

#[tokio::test]
async fn a_service_is_asked_after_in_grpcs_own_protocol() {
    let serves = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let told = serves.clone();
    let backend = Backend::bare_http2(move |mut request, mut respond| {
        let told = told.clone();
        async move {
            assert_eq!(request.uri().path(), HealthCheck::GRPC);
            let message = request.body_mut().data().await.unwrap().unwrap();
            assert_eq!(message, "\0\0\0\0\u{b}\n\tshop.Cart");
            let status_now = if told.load(Ordering::SeqCst) { "\u{1}" } else { "\u{2}" };
            let mut stream = respond.send_response(head(), false).unwrap();
            stream.send_data(format!("\0\0\0\0\u{2}\u{8}{status_now}").into(), false).unwrap();
            stream.send_trailers(status("0")).unwrap();
        }
    })
    .await;
    let mut spec = h2_spec(backend.spec_address());
    spec.services["shop"].health_check = Some(HealthCheck {
        interval: Duration::from_millis(50),
        ..HealthCheck::of_grpc("shop.Cart".into())
    });
    let proxy = Proxy::start(spec).await;
    let state = || proxy.live.pools()[0].backends()[0].health.state();
    until("it serves", || state() == HealthState::Healthy).await;
    serves.store(false, Ordering::SeqCst);
    until("it does not serve", || state() == HealthState::Unhealthy).await;
}
