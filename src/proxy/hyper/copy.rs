//! A copy of a request on its way to a backend, whose answer nobody gets.

use super::{
    super::{
        core::{Core, CorePolicy},
        http1::{self, Asking, Conn},
        http2,
        upstream::{Upstream, dial_apart},
    },
    body::{ArrivingBody, UpstreamBody},
    sending::Link,
};
use crate::{
    live::Reason,
    spec::{ListenerLimits, PoolProtocol},
};
use bytes::Bytes;
use http::{Request, Response};
use std::{future::poll_fn, rc::Rc, time::Duration};
use tokio::time::timeout;

/// Where a copy goes, and how.
pub(in crate::proxy) struct Course {
    pub(in crate::proxy) core: Rc<Core>,
    pub(in crate::proxy) upstream: Rc<Upstream>,
    pub(in crate::proxy) policy: CorePolicy,
    /// Of the listener that the request came by.
    pub(in crate::proxy) limits: ListenerLimits,
}

impl Course {
    /// Sends it and tells the status of the answer, if there is one in time. The answer is read to its end, within
    /// `timeouts.body`, so that the connection can serve again.
    pub(in crate::proxy) async fn send(&self, request: Request<Bytes>, answered: impl FnOnce(u16)) {
        let timeouts = self.policy.timeouts;
        let whole = if timeouts.request.is_zero() { Duration::MAX } else { timeouts.request };
        let exchange = async {
            let Ok((link, response)) = self.ask(request).await else { return };
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
                link.park(&self.upstream, self.core.live.clock.now(), timeouts.upstream_idle);
            }
        };
        // A copy that is late is given up.
        let _ = timeout(whole, exchange).await;
    }

    async fn ask(&self, request: Request<Bytes>) -> Result<(Link, Response<ArrivingBody>), Reason> {
        let patience = self.policy.timeouts.response;
        let late = |_| Reason::ResponseTimeout;
        match self.upstream.backend.protocol {
            PoolProtocol::H1 => {
                let conn = self.connection().await?;
                let (head, body) = request.into_parts();
                let asking = Asking::as_it_is(&head, body);
                let asked = http1::ask(self.core.clone(), &self.limits, conn, asking, |_, _| ());
                let (sent, response) = timeout(patience, asked)
                    .await
                    .map_err(late)?
                    .map_err(|_| Reason::UpstreamReset)?;
                Ok((Link::Http1(sent), response.map(ArrivingBody::Http1)))
            }
            PoolProtocol::H2 => {
                let lease = timeout(patience, self.lease()).await.map_err(late)??;
                let mut request = request.map(UpstreamBody::whole);
                http2::translate(&mut request, lease.scheme(), &self.upstream.authority);
                let asked = http2::send(lease, request, None);
                let (sent, response) = timeout(patience, asked)
                    .await
                    .map_err(late)?
                    .map_err(|_| Reason::UpstreamReset)?;
                Ok((Link::Http2(sent), response.map(ArrivingBody::Http2)))
            }
        }
    }

    async fn connection(&self) -> Result<Conn, Reason> {
        match Conn::take_idle(&self.upstream, self.core.live.clock.now(), true) {
            Some(conn) => Ok(conn),
            None => Conn::new(dial_apart(&self.upstream, &self.policy).await?),
        }
    }

    async fn lease(&self) -> Result<http2::Lease, Reason> {
        let Self { core, upstream, policy, .. } = self;
        let most = policy.limits.backend_connections;
        let dial = || dial_apart(upstream, policy);
        upstream
            .http2
            .lease(&upstream.backend, core.live.clock, false, &policy.timeouts, most, dial)
            .await
    }
}
