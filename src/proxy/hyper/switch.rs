//! A backend has switched to what its client asked for; each side has its own way to say so.

use super::{
    super::{
        connection::ClientConnection,
        decide::Assignment,
        failure::Failure,
        head::is_websocket,
        headers::{Marks, to_client},
        websocket,
    },
    answer::{Answer, CallFailed, with_head},
    body::ArrivingBody,
    sending::Link,
    tunnel::{self, Agreed, BackendEnd, ClientEnd},
};
use crate::live::Reason;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header, request::Parts};
use hyper_util::rt::TokioIo;
use std::rc::Rc;
use tokio::task::spawn_local;

pub(super) struct Switch<'a> {
    /// The request, as HTTP/1.1 has it.
    pub(super) asked: &'a Parts,
    pub(super) client: ClientEnd,
}

impl Switch<'_> {
    /// The answer, and a tunnel behind it.
    ///
    /// # Errors
    /// `BadResponse` when the backend has not switched to what it was asked for.
    pub(super) fn agree(
        self,
        connection: &Rc<ClientConnection>,
        assignment: Assignment,
        link: Link,
        response: Response<ArrivingBody>,
    ) -> Result<Answer, Failure> {
        let Some((protocol, mut headers, backend)) = self.backend(link, response) else {
            return Err(bad_response(connection, &assignment));
        };
        let Assignment { ticket, policy, .. } = assignment;
        let websocket = is_websocket(protocol.as_bytes());
        let idle = policy.timeouts.tunnel_idle;
        let (head, to_backend) = Default::default();
        let agreed = Agreed { backend, ticket, idle, websocket, head, to_backend };
        let status = match &self.client {
            ClientEnd::Http2(_) => {
                headers.remove(header::SEC_WEBSOCKET_ACCEPT);
                StatusCode::OK
            }
            ClientEnd::Hyper(_) | ClientEnd::Http1(_) => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
                headers.insert(header::UPGRADE, protocol);
                StatusCode::SWITCHING_PROTOCOLS
            }
        };
        match self.client {
            ClientEnd::Http1(place) | ClientEnd::Http2(place) => {
                place.replace(Some(Box::new(agreed)));
            }
            ClientEnd::Hyper(client) => {
                let client = async { client.await.ok().map(TokioIo::new) };
                spawn_local(tunnel::run(connection.clone(), agreed, client));
            }
        }
        Ok(Answer::Whole(with_head(status, headers, None), CallFailed(false)))
    }

    /// What it has switched to, what it says to the client, and its end of the tunnel. `None` when that is not
    /// what it was asked for.
    fn backend(
        &self,
        link: Link,
        response: Response<ArrivingBody>,
    ) -> Option<(HeaderValue, HeaderMap, BackendEnd)> {
        let proof = self.asked.headers.get(header::SEC_WEBSOCKET_KEY);
        let proof = proof.map(|key| websocket::accept(key.as_bytes()));
        let mut headers = HeaderMap::new();
        to_client(response.headers(), None, &Marks::default(), &mut headers);
        match link {
            Link::Http1(sent) => {
                // It was asked for.
                let protocol = response.headers().get(header::UPGRADE)?.clone();
                // Whoever has asked must look at the proof.
                let asked_by_proxy = matches!(self.client, ClientEnd::Http2(_));
                let is_proven = headers.get(header::SEC_WEBSOCKET_ACCEPT) == proof.as_ref();
                let (stream, held, said) = sent.switch()?;
                (is_proven || !asked_by_proxy).then_some((
                    protocol,
                    headers,
                    BackendEnd::Http1(stream, held, said),
                ))
            }
            Link::Http2(mut sent) => {
                let ArrivingBody::Http2(received) = response.into_body() else { return None };
                headers.remove(header::SEC_WEBSOCKET_ACCEPT);
                headers.extend(proof.map(|proof| (header::SEC_WEBSOCKET_ACCEPT, proof)));
                let duplex = received.with(sent.take_tunnel()?);
                // There is nothing else that the proxy has asked for.
                let protocol = HeaderValue::from_static("websocket");
                Some((protocol, headers, BackendEnd::Http2(duplex, sent)))
            }
        }
    }
}

/// Counts an answer that is none.
pub(super) fn bad_response(connection: &ClientConnection, assignment: &Assignment) -> Failure {
    let (core, flight) = (&connection.core, &assignment.ticket.flight);
    let upstream = &flight.upstream;
    flight.failed(core.live.clock, Reason::BadResponse);
    core.attempt_failed(&upstream.backend, &assignment.policy.ejection);
    Failure::of_attempt(core, upstream, Reason::BadResponse)
}
