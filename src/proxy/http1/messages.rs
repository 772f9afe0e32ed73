//! A request whose backend speaks HTTP/2: it goes on as a message, and its answer comes back as one. Bytes are
//! read and written here, in the client's own task; what lies between is `proxy/hyper/handler.rs`.

use super::{
    chunked::SizeLine,
    desk::READ,
    exchange::{Exchange, Outcome},
    message::{self, Scanned, Wire, status_line},
    relay::{HALF_CLOSED, READ_SLOWLY, poll_write},
    response::{Asked, persistence},
    scan::Line,
    session::Session,
    work::{Incoming, Outbox, Outgoing, Work},
};
use crate::{
    live::Reason,
    net::poll_read,
    proxy::{
        failure::Failure,
        fields::Lines,
        framing::Length,
        head::{Head, Version},
        headers::{Marks, Sink, to_client},
        http2::Interim,
        hyper::{ArrivingBody, Decided, Feed, Place, ReplyBody, answer_decided},
        record::Recorder,
    },
};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header, response,
    uri::{Parts, Scheme},
};
use http_body::{Body, Frame};
use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

type Answer = Result<Response<ReplyBody>, (Failure, Recorder)>;

/// A message on its way to the backend and back.
struct Passage {
    asked: Asked,
    feed: Feed,
    announced: Rc<RefCell<Vec<(StatusCode, HeaderMap)>>>,
    /// Where a tunnel is left, once it is agreed on.
    tunnel: Place,
    /// The client waits for 100 before it sends its body.
    awaits_continue: bool,
    stage: Stage,
}

enum Stage {
    Asking(Pin<Box<dyn Future<Output = Answer>>>),
    Answering(ReplyBody),
    /// All that there is lies in the outbox.
    Answered,
}

impl Session {
    /// Answers a request that was judged and decided, whatever happens.
    pub(super) async fn exchange_by_messages(&mut self, work: &mut Work) -> Outcome {
        let Some(exchange) = work.exchange.take() else { return Outcome::ClientGone };
        work.download.begin(!exchange.keeps);
        let mut passage = match self.depart(exchange, work) {
            Ok(passage) => passage,
            Err(refused) => return refused,
        };
        let outcome = poll_fn(|cx| self.poll_passage(cx, &mut passage, work)).await;
        let is_waiting = passage.awaits_continue && work.upload.incoming != Incoming::Ended;
        work.download.closes |= is_waiting;
        match outcome {
            Outcome::Answered if !self.flush(&mut work.download.out).await => Outcome::ClientGone,
            other => other,
        }
    }

    /// # Errors
    /// When it cannot be made a message, and was refused.
    fn depart(&self, exchange: Exchange, work: &mut Work) -> Result<Passage, Outcome> {
        let Work { request, scan, upload, download, .. } = work;
        let Exchange {
            recorder, asked, facts, length, tries, request_id, began, assignment, ..
        } = exchange;
        let mut refuse = |recorder: Recorder, reason: Reason| {
            self.refuse(asked.minor, asked.is_head, recorder, &reason.into(), download);
            Outcome::Refused
        };
        if upload.read > 0 {
            // An earlier attempt, on a backend that speaks HTTP/1, has framed what it has read of the body.
            return Err(refuse(recorder, Reason::UpstreamReset));
        }
        let lines = Scanned { lines: &scan.lines, bytes: request };
        let head = match message::head(scan, request, &lines).and_then(|head| as_message(&head)) {
            Ok(head) => head,
            Err(reason) => return Err(refuse(recorder, reason)),
        };
        let declared = match length {
            Length::Exact(bytes) => Some(bytes),
            Length::Chunked | Length::UntilClose => None,
        };
        let copying = upload.copying.take();
        upload.begin_as_data(length);
        // The pieces are taken here.
        upload.copying = copying;
        let feed = Feed::new(declared);
        if upload.incoming == Incoming::Ended {
            feed.end(None);
        }
        let announced = Rc::new(RefCell::new(Vec::new()));
        let tunnel = Place::default();
        let decided = Decided {
            facts,
            assignment,
            tries,
            request_id: HeaderValue::from_bytes(&request_id)
                .unwrap_or_else(|_| HeaderValue::from_static("0")),
            began_millis: began.millis(),
            copying: None,
        };
        let answer = answer_decided(
            self.connection.clone(),
            head.map(|()| ArrivingBody::Fed(feed.clone())),
            decided,
            Interim::Http1(announced.clone()),
            tunnel.clone(),
            recorder,
        );
        Ok(Passage {
            asked,
            feed,
            announced,
            tunnel,
            awaits_continue: facts.expects_continue,
            stage: Stage::Asking(Box::pin(answer)),
        })
    }

    fn poll_passage(
        &mut self,
        cx: &mut Context<'_>,
        passage: &mut Passage,
        work: &mut Work,
    ) -> Poll<Outcome> {
        loop {
            if let Err(gone) = self.feed(cx, passage, work) {
                return Poll::Ready(gone);
            }
            let taken = match self.poll_taken(cx, &mut work.download.out) {
                Poll::Ready(Err(gone)) => return Poll::Ready(gone),
                taken => taken.is_ready(),
            };
            let moved = match &mut passage.stage {
                // Whether or not the client takes what there is: what is announced is bounded.
                Stage::Asking(answer) => {
                    let answer = answer.as_mut().poll(cx);
                    let has_announced = passage.announce(work);
                    match answer {
                        Poll::Ready(answer) => {
                            if let Err(refused) = self.begin_answer(passage, answer, work) {
                                return Poll::Ready(refused);
                            }
                            true
                        }
                        Poll::Pending => has_announced,
                    }
                }
                // The answer may be given up meanwhile.
                Stage::Answering(body) if !taken => {
                    return body.poll_verdict(cx).map(|_| Outcome::Cut);
                }
                Stage::Answering(body) => match Pin::new(body).poll_frame(cx) {
                    Poll::Pending => false,
                    Poll::Ready(Some(Err(_))) => return Poll::Ready(Outcome::Cut),
                    Poll::Ready(frame) => {
                        let frame = frame.and_then(Result::ok);
                        passage.frame(frame, work);
                        true
                    }
                },
                // Who flushes it has a deadline.
                Stage::Answered => return Poll::Ready(Outcome::Answered),
            };
            if !moved && !taken {
                return Poll::Pending;
            }
            if !moved {
                return self.watch(cx, work);
            }
        }
    }

    /// Hands on what the client says, as far as it is waited for.
    fn feed(
        &mut self,
        cx: &mut Context<'_>,
        passage: &Passage,
        work: &mut Work,
    ) -> Result<(), Outcome> {
        let Work { ahead, upload, .. } = work;
        while upload.incoming != Incoming::Ended && passage.feed.poll_wanted(cx).is_ready() {
            let taken = if ahead.is_empty() {
                let mut scratch = self.connection.core.desk.scratch.borrow_mut();
                match poll_read(&mut self.client, cx, &mut scratch[..READ]) {
                    Poll::Pending => return Ok(()),
                    // Its message is incomplete (RFC 9112 section 8).
                    Poll::Ready(Ok(0) | Err(_)) => return Err(Outcome::ClientGone),
                    Poll::Ready(Ok(read)) => {
                        let bytes = &mut scratch[..read];
                        upload.take(bytes).map(|of_body| ahead.extend(&bytes[of_body..]))
                    }
                }
            } else {
                upload.take_ahead(ahead)
            };
            if taken.is_err() {
                passage.feed.fail(Reason::BadRequest);
                return Ok(());
            }
            if !upload.body.is_empty() {
                passage.feed.give(Bytes::copy_from_slice(upload.body.rest()));
                upload.body.clear();
            }
            if upload.incoming == Incoming::Ended {
                passage.feed.end(trailers(upload.chunked.trailers()));
            }
        }
        Ok(())
    }

    /// Ready when the client has taken all that there is for it.
    fn poll_taken(&mut self, cx: &mut Context<'_>, out: &mut Outbox) -> Poll<Result<(), Outcome>> {
        while !out.is_empty() {
            match ready!(poll_write(&mut self.client, cx, out.rest(), &[])) {
                Ok(n) if n > 0 => out.advance(n),
                _ => return Poll::Ready(Err(Outcome::ClientGone)),
            }
        }
        self.client.poll_settled(cx).map_err(|_| Outcome::ClientGone)
    }

    /// Nothing else can be done: does the client go, or say more?
    fn watch(&mut self, cx: &mut Context<'_>, work: &mut Work) -> Poll<Outcome> {
        if work.upload.incoming != Incoming::Ended {
            return Poll::Pending;
        }
        while !self.half_closed && work.ahead.rest().len() < READ_SLOWLY {
            let mut scratch = self.connection.core.desk.scratch.borrow_mut();
            match poll_read(&mut self.client, cx, &mut scratch[..READ_SLOWLY]) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(_)) => return Poll::Ready(Outcome::ClientGone),
                Poll::Ready(Ok(0)) => {
                    self.half_closed = true;
                    self.deadline.wait(cx, HALF_CLOSED);
                }
                // The next request; it waits until this one is answered.
                Poll::Ready(Ok(read)) => work.ahead.extend(&scratch[..read]),
            }
        }
        if self.half_closed && self.deadline.take_passed() {
            return Poll::Ready(Outcome::ClientGone);
        }
        Poll::Pending
    }

    /// Puts the head of the answer into the outbox.
    ///
    /// # Errors
    /// When the proxy refuses instead, or a tunnel begins.
    fn begin_answer(
        &self,
        passage: &mut Passage,
        answer: Answer,
        work: &mut Work,
    ) -> Result<(), Outcome> {
        let Asked { minor, is_head, wants_trailers } = passage.asked;
        let download = &mut work.download;
        let (head, body) = match answer {
            Ok(response) => response.into_parts(),
            Err((failure, recorder)) => {
                download.closes |= work.upload.incoming != Incoming::Ended;
                self.refuse(minor, is_head, recorder, &failure.into(), download);
                return Err(Outcome::Refused);
            }
        };
        if let Some(mut agreed) = passage.tunnel.take() {
            let out = &mut download.out;
            write_head(&head, &mut out.bytes);
            out.extend(b"\r\n");
            agreed.head = out.rest().to_vec();
            agreed.to_backend = work.ahead.rest().to_vec();
            return Err(Outcome::Agreed(agreed));
        }
        let is_bodiless = is_head || matches!(head.status.as_u16(), 204 | 304);
        let has_body = matches!(body, ReplyBody::Stream(_)) && !is_bodiless;
        let is_declared = head.headers.contains_key(header::CONTENT_LENGTH);
        download.outgoing = match (has_body && !is_declared, minor) {
            (false, _) => Outgoing::Plain,
            (true, 0) => Outgoing::UntilClose,
            (true, _) => Outgoing::Chunked,
        };
        download.closes |=
            download.outgoing == Outgoing::UntilClose || self.connection.is_leaving();
        let out = &mut download.out.bytes;
        write_head(&head, out);
        let mut wire = Wire(out);
        if download.outgoing == Outgoing::Chunked {
            wire.line(b"transfer-encoding", b"chunked");
        } else if !is_declared && !has_body && !is_bodiless {
            wire.line(b"content-length", b"0");
        }
        if !head.headers.contains_key(header::DATE) {
            let core = &self.connection.core;
            core.desk.add_date(core.now_millis(), wire.0);
        }
        if let Some(option) = persistence(download.closes, minor) {
            wire.line(b"connection", option);
        }
        out.extend_from_slice(b"\r\n");
        download.trailers = wants_trailers && download.outgoing == Outgoing::Chunked;
        download.begun = true;
        passage.stage = if has_body { Stage::Answering(body) } else { Stage::Answered };
        Ok(())
    }
}

impl Passage {
    /// Puts what announces the answer into the outbox; true if there was something.
    fn announce(&mut self, work: &mut Work) -> bool {
        let announced = self.announced.take();
        let is_some = !announced.is_empty();
        for (status, fields) in announced {
            self.awaits_continue &= status != StatusCode::CONTINUE;
            // HTTP/1.0 does not know them.
            if self.asked.minor > 0 {
                let out = &mut work.download.out.bytes;
                let reason = status.canonical_reason().unwrap_or_default();
                status_line(out, status.as_u16(), reason.as_bytes());
                to_client(&fields, None, &Marks::default(), &mut Wire(out));
                out.extend_from_slice(b"\r\n");
            }
        }
        is_some
    }

    /// The next piece of the body, or its end.
    fn frame(&mut self, frame: Option<Frame<Bytes>>, work: &mut Work) {
        let download = &mut work.download;
        let is_chunked = download.outgoing == Outgoing::Chunked;
        let out = &mut download.out;
        let trailers = match frame.map(Frame::into_data) {
            Some(Ok(data)) => {
                if is_chunked && !data.is_empty() {
                    out.extend(SizeLine::new(data.len()).as_bytes());
                    out.extend(&data);
                    out.extend(b"\r\n");
                } else {
                    out.extend(&data);
                }
                return;
            }
            Some(Err(frame)) => frame.into_trailers().ok(),
            None => None,
        };
        if is_chunked {
            out.extend(b"0\r\n");
            for (known, name, value) in trailers.iter().flat_map(Lines::lines) {
                if download.trailers && known.may_trail() {
                    Wire(&mut out.bytes).line(name, value);
                }
            }
            out.extend(b"\r\n");
        }
        self.stage = Stage::Answered;
    }
}

fn write_head(head: &response::Parts, out: &mut Vec<u8>) {
    let reason = head.status.canonical_reason().unwrap_or_default();
    status_line(out, head.status.as_u16(), reason.as_bytes());
    for (name, value) in &head.headers {
        Wire(out).line(name.as_str().as_bytes(), value.as_bytes());
    }
}

/// # Errors
/// `BadRequest` for what a message cannot hold.
fn as_message(head: &Head<'_, Scanned<'_>>) -> Result<Request<()>, Reason> {
    let mut request = Request::new(());
    *request.method_mut() = head.method.parse().map_err(|_| Reason::BadRequest)?;
    *request.version_mut() = match head.version {
        Version::Http10 => http::Version::HTTP_10,
        _ => http::Version::HTTP_11,
    };
    let mut target = String::with_capacity(head.path.len() + 1);
    target.push_str(head.path);
    if let Some(query) = head.query {
        target.push('?');
        target.push_str(query);
    }
    let mut parts = Parts::default();
    parts.path_and_query = Some(target.try_into().map_err(|_| Reason::BadRequest)?);
    if let Some(authority) = head.authority {
        parts.authority = Some(authority.parse().map_err(|_| Reason::BadRequest)?);
        parts.scheme = Some(Scheme::HTTP);
    }
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| Reason::BadRequest)?;
    for (_, name, value) in head.lines.lines() {
        let name = HeaderName::from_bytes(name).map_err(|_| Reason::BadRequest)?;
        let value = HeaderValue::from_bytes(value).map_err(|_| Reason::BadRequest)?;
        request.headers_mut().try_append(name, value).map_err(|_| Reason::HeadersTooLarge)?;
    }
    Ok(request)
}

fn trailers((lines, bytes): (&[Line], &[u8])) -> Option<HeaderMap> {
    let mut trailers = HeaderMap::new();
    for (_, name, value) in (Scanned { lines, bytes }).lines() {
        trailers.line(name, value);
    }
    (!trailers.is_empty()).then_some(trailers)
}
