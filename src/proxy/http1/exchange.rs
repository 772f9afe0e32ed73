//! A request and its answer: decide, send, record.

use super::{
    conn::Conn,
    message::{self, Scanned, Wire},
    relay::{Attempt, End, HALF_CLOSED, Relay},
    response::Asked,
    scan::RequestScan,
    session::Session,
    work::{Download, Incoming, Outbox, Outgoing, Upload, Work},
};
use crate::{
    live::{Fault, Held, Moment, Reason, method_index, millis},
    net::Stream,
    proxy::{
        connection::ClientConnection,
        core::Core,
        decide::{Assignment, Query, Refusal, decide},
        failure::{Failure, Reply, fault_of},
        fields::{Known, first},
        flight::Ticket,
        framing::Length,
        head::{Facts, Head},
        headers::{Added, Changes, add_to_backend, to_backend},
        hyper::Agreed,
        mirror::Original,
        note::{self, note_refused},
        queue::{Turn, Waiting},
        record::{Answerer, Recorder},
        tries::{Miss, Next, Tries},
        tunnel::Tunnel,
    },
    spec::PoolProtocol,
};
use std::{
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::sleep;

/// What comes after an exchange.
pub(super) enum After {
    /// The next request; the rest of this one's body, if there is any, is not wanted.
    Next,
    /// The client knows that nothing more comes.
    Linger,
    /// Nobody is there, or must see that something is missing.
    Close,
    Tunnel(Box<Switched>),
    /// The same with a backend that takes messages.
    Agreed(Box<Agreed>),
}

/// The backend has switched: what goes on as a tunnel.
pub(super) struct Switched {
    backend: Stream,
    held: Held,
    ticket: Ticket,
    /// The head that says 101.
    head: Vec<u8>,
    /// What came behind it.
    to_client: Vec<u8>,
    /// What the client has sent since it asked.
    to_backend: Vec<u8>,
    idle: Duration,
    websocket: bool,
}

impl Switched {
    pub(super) fn with(self, client: Stream) -> Tunnel<Stream, Stream> {
        let Self { backend, held, ticket, head, to_client, to_backend, idle, websocket } = self;
        let tunnel = Tunnel::between(client, backend, ticket, idle, websocket);
        Tunnel { held: Some(held), head, to_client, to_backend, ..tunnel }
    }
}

/// How a request was answered.
pub(super) enum Outcome {
    Answered,
    /// Not yet: its backend takes messages.
    ByMessages,
    Tunnel(Box<Switched>),
    Agreed(Box<Agreed>),
    /// By a reply of the proxy's own, which is in the outbox.
    Refused,
    Cut,
    ClientGone,
}

/// Why a request does not go on to a backend now.
enum Stop {
    For(Outcome),
    /// It waits for its turn.
    Queued(Box<Queued>),
}

struct Queued {
    waiting: Waiting,
    recorder: Recorder,
    began: Moment,
}

/// What is left of a request that has waited.
struct Arrived {
    turn: Turn,
    recorder: Recorder,
    began: Moment,
}

/// A request on its way. It lives with the buffers, so that an idle connection does not carry its size.
pub(super) struct Exchange {
    pub(super) recorder: Recorder,
    pub(super) facts: Facts,
    pub(super) asked: Asked,
    pub(super) length: Length,
    /// The client would go on after this.
    pub(super) keeps: bool,
    pub(super) tries: Tries,
    /// For a request that has none.
    pub(super) request_id: [u8; 32],
    pub(super) began: Moment,
    /// Later than it began, if it has waited.
    decided: Moment,
    pub(super) assignment: Assignment,
    stage: Stage,
}

enum Stage {
    /// Without a connection; one that has served before will do unless it must be `fresh`.
    Free {
        fresh: bool,
    },
    Connecting(Connecting),
    Attempt(Conn, Attempt),
}

type Connecting = Pin<Box<dyn Future<Output = Result<Conn, Reason>>>>;

impl Session {
    /// Answers the request whose head has been read, whatever happens, and sees to it that it is recorded
    /// once.
    pub(super) async fn exchange(&mut self) -> After {
        let Some(mut work) = self.work.take() else { return After::Close };
        let mut begun = self.begin(&mut work, None);
        while let Err(Stop::Queued(queued)) = begun {
            // Few come here; a connection shall not carry what that needs.
            begun = match Box::pin(self.queue(queued)).await {
                Some(arrived) => self.begin(&mut work, Some(arrived)),
                None => Err(Stop::For(Outcome::ClientGone)),
            };
        }
        let outcome = match begun {
            Err(Stop::For(outcome)) => outcome,
            _ => poll_fn(|cx| self.poll_exchange(cx, &mut work)).await,
        };
        let outcome = match outcome {
            Outcome::ByMessages => Box::pin(self.exchange_by_messages(&mut work)).await,
            other => other,
        };
        let after = match outcome {
            Outcome::Answered => after_answer(&work.download),
            Outcome::Refused if self.flush(&mut work.download.out).await => {
                after_answer(&work.download)
            }
            Outcome::Tunnel(switched) => After::Tunnel(switched),
            Outcome::Agreed(agreed) => After::Agreed(agreed),
            Outcome::Cut => {
                if work.download.outgoing == Outgoing::UntilClose {
                    // The end of the connection would be the end of the message.
                    self.reset_client();
                }
                After::Close
            }
            Outcome::Refused | Outcome::ByMessages | Outcome::ClientGone => After::Close,
        };
        self.work = Some(work);
        after
    }

    /// Waits for the request's turn; `None` when the client has left meanwhile.
    async fn queue(&mut self, queued: Box<Queued>) -> Option<Arrived> {
        let Queued { waiting, recorder, began } = *queued;
        tokio::select! {
            turn = waiting.turn() => Some(Arrived { turn, recorder, began }),
            () = left(&mut self.client) => None,
        }
    }

    /// Judges the request and decides where it goes; `arrived` when it has waited for that.
    ///
    /// # Errors
    /// When it was refused, or has to wait.
    fn begin(&self, work: &mut Work, arrived: Option<Arrived>) -> Result<(), Stop> {
        let connection = &self.connection;
        let core = &connection.core;
        let Work { request, scan, upload, download, exchange, .. } = work;
        let now = core.live.clock.now();
        let method = scan.method.of(request);
        let (turn, mut recorder, began) = match arrived {
            Some(Arrived { turn, recorder, began }) => (turn, recorder, began),
            None => (Turn::First, Recorder::new(core.clone(), method_index(method), now), now),
        };
        let is_head = method == b"HEAD";
        let mut closes = true;
        let lines = Scanned { lines: &scan.lines, bytes: request };
        let refuse = |mut recorder: Recorder, reply: Reply, download: &mut Download, closes| {
            download.begin(closes);
            let head = message::head(scan, request, &lines).ok();
            note_refused(connection, head.as_ref(), &mut recorder);
            self.refuse(scan.minor, is_head, recorder, &reply, download);
            Stop::For(Outcome::Refused)
        };
        // Not put together, because every request would be copied about for it.
        let head = match message::head(scan, request, &lines) {
            Ok(head) => head,
            Err(reason) => return Err(refuse(recorder, reason.into(), download, closes)),
        };
        let (mut facts, host) = match Facts::of(&head) {
            Ok(judged) => judged,
            Err(reason) => return Err(refuse(recorder, reason.into(), download, closes)),
        };
        let keeps = !facts.close && (scan.minor > 0 || facts.keep_alive);
        // The facts have checked it.
        let length = facts.framing.of_request(scan.minor).unwrap_or(Length::Exact(0));
        let has_body = length != Length::Exact(0);
        closes = !keeps || has_body;
        if let Some(reply) = connection.steps_in(&head, host.as_ref()) {
            return Err(refuse(recorder, reply, download, closes));
        }

        let decided = now;
        let query = Query::new(connection, &head, &facts, host, now);
        let assignment = match decide(&query, turn) {
            Ok(assignment) => assignment,
            Err(Refusal::Waits(waiting)) => {
                note_refused(connection, Some(&head), &mut recorder);
                return Err(Stop::Queued(Box::new(Queued { waiting, recorder, began })));
            }
            Err(refusal) => {
                let reply = recorder.note_refusal(refusal);
                return Err(refuse(recorder, reply, download, closes));
            }
        };
        recorder.set_answerer(Answerer::Backend(assignment.ticket.flight.upstream.clone()));
        if let Some(reason) = unfit(&facts, length, &assignment) {
            return Err(refuse(recorder, reason.into(), download, closes));
        }
        // `Connection` may name trailers too (RFC 9110 section 7.6.1), and what stays behind or is set by the route
        // must not come in by them.
        let changes = Changes::of(&assignment.policy, assignment.withheld.as_deref());
        let trailers = !facts.names_fields && !changes.edit_fields();
        upload.begin(length, trailers, assignment.policy.retries.buffer as usize);
        let tries = Tries::new(head.method);
        let has_ids = facts.has_request_id && !connection.client.traces;
        let request_id = if has_ids { [0; 32] } else { core.random_hex() };
        if assignment.policy.is_attended {
            let (head, request_id, assignment) = (&head, &request_id, &assignment);
            note::Decided { connection, head, request_id, assignment, at: decided }
                .note(&mut facts, &mut recorder);
            if let Some(mirror) = &assignment.policy.mirror {
                let (facts, note) = (&facts, recorder.note());
                let original = Original { connection, head, facts, request_id, assignment, note };
                upload.copying = original.mirror(mirror, has_body).map(Box::new);
            }
        }
        let exchange = exchange.insert(Exchange {
            recorder,
            facts,
            asked: Asked { minor: scan.minor, is_head, wants_trailers: facts.wants_trailers },
            length,
            keeps,
            tries,
            request_id,
            began,
            decided,
            assignment,
            stage: Stage::Free { fresh: false },
        });
        if let Some(conn) = exchange.take_idle() {
            exchange.send(connection, conn, &head, scan, upload, download);
        }
        Ok(())
    }

    fn poll_exchange(&mut self, cx: &mut Context<'_>, work: &mut Work) -> Poll<Outcome> {
        loop {
            let connection = &self.connection;
            let Work { request, scan, ahead, upload, download, exchange: place } = work;
            let Some(exchange) = place else { return Poll::Ready(Outcome::ClientGone) };
            let lines = Scanned { lines: &scan.lines, bytes: request };
            let missed = match &mut exchange.stage {
                Stage::Free { fresh } => {
                    let fresh = *fresh;
                    if exchange.takes_messages() {
                        return Poll::Ready(Outcome::ByMessages);
                    }
                    let idle = if fresh { None } else { exchange.take_idle() };
                    let Some(conn) = idle else {
                        exchange.stage = exchange.connect(&connection.core);
                        continue;
                    };
                    match message::head(scan, request, &lines) {
                        Ok(head) => {
                            exchange.send(connection, conn, &head, scan, upload, download);
                            continue;
                        }
                        Err(reason) => Miss::Failed { reason, whole: false },
                    }
                }
                Stage::Connecting(connecting) => {
                    let conn = ready!(connecting.as_mut().poll(cx));
                    match conn.and_then(|conn| Ok((conn, message::head(scan, request, &lines)?))) {
                        Ok((conn, head)) => {
                            exchange.send(connection, conn, &head, scan, upload, download);
                            continue;
                        }
                        Err(reason) => Miss::Failed { reason, whole: upload.is_whole() },
                    }
                }
                Stage::Attempt(backend, attempt) => {
                    let mut relay = Relay {
                        connection,
                        assignment: &exchange.assignment,
                        asked: &exchange.asked,
                        upgrade: match exchange.facts.upgrades {
                            true => first(&lines, Known::Upgrade),
                            false => None,
                        },
                        client: &mut self.client,
                        backend,
                        ahead,
                        upload,
                        download,
                        recorder: &mut exchange.recorder,
                        deadline: &self.deadline,
                        half_closed: &mut self.half_closed,
                        idempotent: exchange.tries.idempotent,
                        attempt,
                    };
                    match ready!(relay.poll(cx)) {
                        End::Missed(miss) => {
                            if upload.written && !upload.is_sent() {
                                backend.stream.set_reset();
                            }
                            miss
                        }
                        end => return Poll::Ready(self.conclude(end, work)),
                    }
                }
            };
            if let Err(refused) = self.try_again(missed, work) {
                return Poll::Ready(refused);
            }
        }
    }

    /// # Errors
    /// When there is no other attempt to make, and the request was refused.
    fn try_again(&self, missed: Miss, work: &mut Work) -> Result<(), Outcome> {
        let Work { request, scan, upload, download, exchange: place, .. } = work;
        let Some(exchange) = place.take() else { return Err(Outcome::ClientGone) };
        let Exchange { mut recorder, mut tries, assignment, .. } = exchange;
        let lines = Scanned { lines: &scan.lines, bytes: request };
        let next = message::head(scan, request, &lines).map_err(Failure::from).and_then(|head| {
            tries.after(missed, &self.connection, &head, &exchange.facts, assignment, &mut recorder)
        });
        let (assignment, fresh) = match next {
            Ok(Next::Fresh(same)) => (same, true),
            Ok(Next::Elsewhere(other)) => (other, false),
            Err(failure) => {
                recorder.note_bytes(|| (upload.read, 0));
                let is_read = upload.incoming == Incoming::Ended;
                download.begin(!exchange.keeps || !is_read);
                let Asked { minor, is_head, .. } = exchange.asked;
                self.refuse(minor, is_head, recorder, &failure.into(), download);
                return Err(Outcome::Refused);
            }
        };
        let stage = Stage::Free { fresh };
        *place = Some(Exchange { recorder, tries, assignment, stage, ..exchange });
        Ok(())
    }

    /// Sees to everything that was held for the request.
    fn conclude(&mut self, end: End, work: &mut Work) -> Outcome {
        let Work { ahead, upload, download, exchange: place, .. } = work;
        let Some(exchange) = place else { return Outcome::ClientGone };
        let stage = std::mem::replace(&mut exchange.stage, Stage::Free { fresh: true });
        let Stage::Attempt(backend, _) = stage else { return Outcome::ClientGone };
        let Exchange { recorder, assignment, .. } = exchange;
        let outcome = match end {
            End::Answered => {
                self.quiet_since = recorder.finish_with(|| (upload.read, download.passed));
                if !upload.is_sent() || backend.stream.is_unsettled() {
                    backend.stream.set_reset();
                } else if download.reusable {
                    let idle = assignment.policy.timeouts.upstream_idle;
                    assignment.ticket.flight.upstream.park(backend, self.quiet_since, idle);
                }
                Outcome::Answered
            }
            End::Switched => {
                recorder.finish();
                return match place.take() {
                    Some(Exchange { assignment, .. }) => {
                        Outcome::Tunnel(switched(assignment, backend, ahead, download))
                    }
                    None => Outcome::ClientGone,
                };
            }
            End::Cut(reason) => {
                let fault = match reason {
                    // The client did not take what there was.
                    Reason::IdleTimeout if !download.out.is_empty() => Fault::Downstream,
                    _ => fault_of(reason),
                };
                recorder.fail(fault, reason);
                recorder.note_bytes(|| (upload.read, download.delivered()));
                if fault == Fault::Upstream {
                    assignment.ticket.flight.note_cut();
                }
                backend.stream.set_reset();
                Outcome::Cut
            }
            End::ClientGone | End::Missed(_) => {
                recorder.note_bytes(|| (upload.read, download.delivered()));
                backend.stream.set_reset();
                Outcome::ClientGone
            }
        };
        *place = None;
        outcome
    }
}

/// Returns when the client has left: one that has closed its side gets some time. A client whose next bytes are
/// there already is not known to have left.
async fn left(client: &mut Stream) {
    match client.readable().await {
        Ok(false) => sleep(HALF_CLOSED).await,
        Ok(true) => std::future::pending().await,
        Err(_) => {}
    }
}

fn switched(
    assignment: Assignment,
    backend: Conn,
    ahead: &mut Outbox,
    download: &mut Download,
) -> Box<Switched> {
    Box::new(Switched {
        backend: backend.stream,
        held: backend.held,
        head: download.out.rest().to_vec(),
        to_client: std::mem::take(&mut download.partial),
        to_backend: ahead.rest().to_vec(),
        websocket: download.websocket,
        idle: assignment.policy.timeouts.tunnel_idle,
        ticket: assignment.ticket,
    })
}

fn after_answer(download: &Download) -> After {
    if download.closes { After::Linger } else { After::Next }
}

/// Why the request cannot be sent although its head is good.
pub(super) fn unfit(facts: &Facts, length: Length, assignment: &Assignment) -> Option<Reason> {
    if facts.upgrades && length != Length::Exact(0) {
        return Some(Reason::BadRequest);
    }
    match length {
        Length::Exact(bytes) if bytes > assignment.policy.limits.body_bytes => {
            Some(Reason::BodyTooLarge)
        }
        _ => None,
    }
}

impl Exchange {
    fn takes_messages(&self) -> bool {
        self.assignment.ticket.flight.upstream.backend.protocol == PoolProtocol::H2
    }

    fn has_body(&self) -> bool {
        self.length != Length::Exact(0)
    }

    /// An idle connection.
    #[inline]
    fn take_idle(&self) -> Option<Conn> {
        let delicate = self.has_body() || !self.tries.idempotent;
        Conn::take_idle(&self.assignment.ticket.flight.upstream, self.decided, delicate)
    }

    fn connect(&self, core: &Rc<Core>) -> Stage {
        let (core, flight) = (core.clone(), self.assignment.ticket.flight.clone());
        let policy = self.assignment.policy.clone();
        Stage::Connecting(Box::pin(async move { Conn::open(&core, &flight, &policy).await }))
    }

    /// Begins an attempt.
    fn send(
        &mut self,
        connection: &ClientConnection,
        conn: Conn,
        head: &Head<'_, Scanned<'_>>,
        scan: &RequestScan,
        upload: &mut Upload,
        download: &mut Download,
    ) {
        let timeouts = &self.assignment.policy.timeouts;
        let flight = &self.assignment.ticket.flight;
        if !timeouts.request.is_zero() {
            flight.limit((self.began + timeouts.request).millis());
        }
        upload.rewind();
        download.begin(!self.keeps);
        let added = Added {
            client: &connection.client,
            request_id: &self.request_id,
            backend: flight.upstream.authority.as_bytes(),
            changes: Changes::of(&self.assignment.policy, self.assignment.withheld.as_deref()),
            note: self.recorder.note(),
        };
        write_head(&mut upload.head, head, scan, &self.facts, self.length, &added);
        // An idle connection is at hand at once.
        let at_hand = conn.reused && self.tries.is_first();
        let sent = if at_hand { self.decided } else { connection.core.live.clock.now() };
        let until = sent.millis().saturating_add(millis(timeouts.response));
        flight.arm_until(until, Reason::ResponseTimeout);
        let body = self.has_body().then(|| connection.listener.spec.timeouts.body);
        let awaits_continue = self.facts.expects_continue && self.has_body();
        self.stage = Stage::Attempt(conn, Attempt::new(sent, body, awaits_continue));
    }
}

pub(super) fn write_head(
    out: &mut Vec<u8>,
    head: &Head<'_, Scanned<'_>>,
    scan: &RequestScan,
    facts: &Facts,
    length: Length,
    added: &Added<'_>,
) {
    match scan.even(head.lines.bytes) {
        // Nothing of it is to be changed: what was judged is sent byte for byte.
        Some(all)
            if facts.passes
                && scan.minor > 0
                && head.authority.is_none()
                && !added.client.traces
                && added.changes.are_none() =>
        {
            out.extend_from_slice(all);
            add_to_backend(head, facts, added, &mut Wire(out));
        }
        _ => {
            message::request_line(out, head, added.changes.rewrite);
            to_backend(head, facts, added, &mut Wire(out));
        }
    }
    message::end_head(out, length);
}
