//! A copy of a request on its way to a backend, whose answer nobody gets.

use super::{
    super::{
        core::{Core, CorePolicy},
        http2,
        upstream::{Opened, Upstream, dial_apart},
    },
    body::{ArrivingBody, UpstreamBody},
    conn::Conn,
    sending::Link,
};
use crate::{live::Reason, spec::PoolProtocol};
use bytes::Bytes;
use http::{Request, Response};
use std::{future::poll_fn, time::Duration};
use tokio::time::timeout;

/// Sends it and tells the status of the answer, if there is one in time. The answer is read to its end, within
/// `timeouts.body`, so that the connection can serve again.
pub(in crate::proxy) async fn send_copy(
    core: &Core,
    upstream: &Upstream,
    policy: &CorePolicy,
    request: Request<Bytes>,
    answered: impl FnOnce(u16),
) {
    let timeouts = policy.timeouts;
    let whole = if timeouts.request.is_zero() { Duration::MAX } else { timeouts.request };
    let exchange = async {
        // What is waited for of a connection has a limit of its own.
        let asked = ask(core, upstream, policy, request.map(UpstreamBody::whole));
        let Ok((link, response)) = asked.await else { return };
        answered(response.status().as_u16());
        let mut body = response.into_body();
        let drained = timeout(timeouts.body, async {
            while let Some(frame) = poll_fn(|cx| body.poll_frame(cx)).await {
                if frame.is_err() {
                    return false;
                }
            }
            true
        });
        if drained.await == Ok(true) {
            link.park(upstream, core.live.clock.now(), timeouts.upstream_idle);
        }
    };
    // A copy that is late is given up.
    let _ = timeout(whole, exchange).await;
}

async fn ask(
    core: &Core,
    upstream: &Upstream,
    policy: &CorePolicy,
    request: Request<UpstreamBody>,
) -> Result<(Link, Response<ArrivingBody>), Reason> {
    let late = |_| Reason::ResponseTimeout;
    match upstream.backend.protocol {
        PoolProtocol::H1 => {
            let mut conn = connection(core, upstream, policy).await?;
            let asked = timeout(policy.timeouts.response, conn.sender.send_request(request));
            let response = asked.await.map_err(late)?.map_err(|_| Reason::UpstreamReset)?;
            conn.observe(response.headers());
            Ok((Link::Http1(conn), response.map(ArrivingBody::Hyper)))
        }
        PoolProtocol::H2 => {
            let backend = &upstream.backend;
            let times = (policy.timeouts.connect, policy.timeouts.upstream_idle);
            let most = policy.limits.backend_connections;
            let dial = dial_apart(upstream, policy);
            let lease = upstream.http2.lease(backend, core.live.clock, false, times, most, dial);
            let lease = timeout(policy.timeouts.response, lease).await.map_err(late)??;
            let mut request = request;
            http2::translate(&mut request, lease.scheme(), &upstream.authority);
            let asked = timeout(policy.timeouts.response, http2::send(lease, request, None));
            let (sent, response) = asked.await.map_err(late)?.map_err(|_| Reason::UpstreamReset)?;
            Ok((Link::Http2(sent), response.map(ArrivingBody::Http2)))
        }
    }
}

async fn connection(core: &Core, upstream: &Upstream, policy: &CorePolicy) -> Result<Conn, Reason> {
    let epoch = upstream.backend.tls_epoch();
    let idle = Conn::checkout(&upstream.hyper, core.live.clock, epoch, true).await;
    match idle {
        Some(conn) => Ok(conn),
        None => {
            let opened: Opened = dial_apart(upstream, policy).await?;
            Conn::new(opened).await.map_err(|_| Reason::ConnectFailed)
        }
    }
}
