//! crossfade: a layer-7 traffic-splitting reverse proxy.
//!
//! # The map
//!
//! ```text
//! listener -> route -> service -> pool (a weight, a version) -> backend
//! ```
//!
//! A route decides which service a request is for; a service owns its pools and how traffic is shared
//! among them. What lives where, from the ground up; a room names only rooms above it in this list, and
//! `tests/house` fails on an arrow that runs the other way:
//!
//! | room | what it is | may name |
//! |---|---|---|
//! | [`spec`] | the valid desired state, as plain data; the two bucket tables | |
//! | [`routing`] | pure: which service, which pool, which backend | spec |
//! | [`rollout`] | pure: how weights move over time, and on what evidence | spec |
//! | [`live`] | the only state that cores share: the snapshot, tickets, health, counters | spec, routing |
//! | [`net`] | binding and dialling sockets, TLS on them | spec |
//! | [`system`] | what a service manager or a container expects of a process | spec, net |
//! | [`config`] | the file: one table of keys feeds reader, schema and reference | spec |
//! | [`proxy`] | the data plane, one thread a core | spec, routing, live, net |
//! | [`control`] | the control plane: one task, one writer of the desired state | spec, routing, rollout, live, net |
//! | [`acme`] | certificates that are ordered and renewed, by telling the control task | spec, live, net, control |
//! | [`accounts`] | what is written down of requests: the access log, spans | spec, routing, live, net |
//! | [`upgrade`] | another process takes over sockets and desired state | spec, rollout, config, live, net, control |
//! | [`admin`] | people and programs look in and steer, over HTTP | all but proxy and acme |
//! | [`process`] | control task and workers, put together | all but upgrade, admin and cli |
//! | [`cli`] | the command line, one file a verb | everything |
//!
//! `proxy` and `control` never see each other: they meet in [`live::Published`] alone.
//!
//! # The path of a request
//!
//! All of it happens on the core that accepted the connection. `proxy/connection.rs` gives it, with TLS after
//! its handshake (`proxy/handshake.rs`), to an engine,
//! which turns bytes into a head and back: `proxy/http1/` is crossfade's own for HTTP/1, `proxy/http2/` speaks
//! HTTP/2 by the h2 library, with a guard below it that counts frames and judges header blocks; `proxy/hyper/` takes its requests as
//! messages, and speaks HTTP/1 for tests and measurement (`engine: hyper`). `proxy/http1/messages.rs` makes messages
//! of the requests whose backends speak HTTP/2. What a request means is written
//! once and knows no engine: `proxy/head.rs` judges it, with `proxy/framing.rs` where its body ends;
//! `proxy/decide.rs` borrows the snapshot once, in a closure that cannot cross an await, and comes back with
//! a ticket (`proxy/flight.rs`): the backend knows of the request from then until its last byte.
//! `proxy/headers.rs` says what becomes of its fields (`proxy/withheld.rs` keeps back what denied pins read),
//! `proxy/tries.rs` what is sent again and where to, be it to the pool that rescues, `proxy/record.rs` counts it
//! once, in this core's own cells, and `proxy/booking.rs` what its first attempt says of the version that was drawn. `proxy/mirror.rs` sends copies elsewhere. Where a service has a limit, `live/gate.rs` lets requests in, and who must wait
//! does so in `proxy/queue.rs`, and is decided anew.
//!
//! In the native engine one task serves a connection: `session.rs` waits for a head without holding a buffer,
//! `scan/` judges its bytes, `exchange.rs` decides and keeps the ticket, `relay.rs` moves both directions
//! at once, `chunked.rs` takes bodies apart. For messages, `handler.rs`, `sending.rs` and `answer.rs` are that way, with
//! `http1/asking.rs` and `http2/asking.rs` to the backends, and
//! ticket and record ride in the response's body (`body.rs`).
//!
//! What is written down of a request, if anything is, gathers in its note (`proxy/note.rs`), which recorder, flight and
//! bodies share; when the last of them lets go, it is handed over ([`live::Journal`]) to the one thread that writes
//! (`accounts/`).
//!
//! # The path of a change
//!
//! File and API become a [`control::Command`] to the one control task: apply it to the desired state
//! (pure), validate the whole, keep it as a revision (`control/store/`, on a thread of its own; only other changes
//! wait for that), compile (cannot fail), build the snapshot from the live parts that stay, swap
//! it in, wait until nobody reads the old one (quiesce), answer with a receipt, drain what left. Once the
//! answer is out no request is routed by an older table, and no crash forgets it. A start merges the file with
//! what was kept (`control/start.rs`).
//!
//! Names among the backends are looked up beside that (`control/discovery.rs`): what they stand for goes into the
//! snapshot, never into the desired state, and takes the same way from there on.
//!
//! # The path of a rollout
//!
//! `rollout/machine/` is a rollout as a state, what happens to it and what follows; `rollout/sequential/` the
//! statistics. `control/rollout/` shows each of them a second after the other: what the cores have counted of both
//! versions (`live/trial.rs`, by `proxy/booking.rs`), shares, health. What it wants is a change like any other, kept in
//! one step with the state that it leads to; a change by others that touches its traffic ends it in the same revision.
//! Gates and hooks go out in tasks of their own (`control/outside/`): no change waits for them.
//!
//! # The rules
//!
//! One `ArcSwap` ([`live::Published`]); only the decision borrows a snapshot, everybody else copies what
//! they need and lets go. No lock and no await between borrowing it and taking the ticket. `routing` has no
//! clock, no dice and no I/O: they are arguments. The data plane never waits for the control plane; cores
//! write only their own cells, with relaxed loads and stores. A part that ends on its own ends the process,
//! loudly. Internal types are never serialised: the file's keys and the API's views are the only doors,
//! but for the state of a rollout, which has to be resumed to the bit.
//! Nothing that a peer, a file or an API client sends makes it panic. Everything has a limit. Every failure
//! knows whose fault it was.

pub mod accounts;
pub mod acme;
pub mod admin;
pub mod cli;
pub mod config;
pub mod control;
pub mod live;
pub mod net;
pub mod process;
pub mod proxy;
pub mod rollout;
pub mod routing;
pub mod spec;
pub mod system;
pub mod upgrade;
