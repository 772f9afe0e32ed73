//! What is written down of requests: lines of the access log, spans of traces. One thread takes what the cores hand
//! over ([`Journal`]), formats it and writes it; no core ever waits for it.

mod escape;
mod exporter;
mod line;
mod otlp;
mod spans;
mod target;
mod wall;

use crate::{
    live::{Account, Journal, Live},
    routing::Observed,
    spec::{AccessLog, Tracing},
};
use exporter::{Batch, Exporter};
use line::Lines;
use otlp::Span;
use std::{
    io,
    sync::{Arc, atomic::Ordering},
    thread,
    time::Duration,
};
use target::Target;
use wall::Wall;

/// How long what comes is gathered before it is written.
const GATHERING: Duration = Duration::from_millis(50);

/// Bytes that are written at once, and spans that are handed on.
const BATCH: usize = 64 << 10;
const SPANS: usize = 512;

/// How long what is left of the spans may take at the end.
const LAST_SPANS: Duration = Duration::from_millis(1500);

/// Starts the thread. It ends when the journal does.
///
/// # Errors
/// When the system gives no thread.
pub fn start(live: Arc<Live>) -> io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name("accounts".to_owned()).spawn(move || {
        live.journal.attach();
        let (room, text) = (Vec::new(), Vec::new());
        Writer { live, observed: None, log: None, room, text, lines: 0, exporter: None }.run();
    })
}

struct Writer {
    live: Arc<Live>,
    /// What was in force when it was last looked at.
    observed: Option<Arc<Observed>>,
    log: Option<Log>,
    /// Room for what is handed over.
    room: Vec<Account>,
    /// Lines that are still to be written, and how many they are.
    text: Vec<u8>,
    lines: u64,
    exporter: Option<Exporter>,
}

/// The access log as it is written.
struct Log {
    settings: Arc<AccessLog>,
    lines: Lines,
    target: Target,
}

impl Writer {
    fn run(mut self) {
        loop {
            let ends = self.journal().has_ended();
            let round = self.journal().begin_round();
            self.follow();
            if self.journal().take_reopen()
                && let Some(log) = &mut self.log
            {
                log.target.reopen();
            }
            let is_quiet = !self.write();
            self.journal().end_round(round);
            match (ends, is_quiet) {
                (true, _) => break,
                (false, true) => self.journal().sleep(),
                (false, false) => self.journal().pause(GATHERING),
            }
        }
        if let Some(exporter) = self.exporter {
            exporter.end(LAST_SPANS);
        }
    }

    fn journal(&self) -> &Journal {
        &self.live.journal
    }

    /// Brings what is written in line with what is in force. What was handed over before a log was turned off is
    /// still written where it belongs.
    fn follow(&mut self) {
        let observed = self.live.published.read(|snapshot| snapshot.table.observed.clone());
        if observed == self.observed {
            return;
        }
        if let Some(settings) = observed.as_ref().and_then(|observed| observed.access_log.clone())
            && self.log.as_ref().is_none_or(|log| log.settings != settings)
        {
            let (lines, target) = (Lines::new(&settings), Target::new(&settings.to));
            self.log = Some(Log { settings, lines, target });
        }
        if let Some(settings) = observed.as_ref().and_then(|observed| observed.tracing.clone()) {
            self.export_to(settings);
        }
        self.observed = observed;
    }

    fn export_to(&mut self, settings: Arc<Tracing>) {
        let is_same = |known: &Exporter| known.settings.otlp == settings.otlp;
        if self.exporter.as_ref().is_some_and(is_same) {
            return;
        }
        // What the one before still has to send it sends beside this.
        self.exporter = Exporter::start(settings, self.live.clone())
            .inspect_err(|error| tracing::error!(%error, "spans cannot be sent"))
            .ok();
    }

    /// Returns whether there was anything.
    fn write(&mut self) -> bool {
        let live = self.live.clone();
        let wall = Wall::now(live.clock);
        let (mut spans, mut requests) = (Vec::new(), 0);
        let mut has_any = false;
        let mut room = std::mem::take(&mut self.room);
        live.journal.take(&mut room, |account| {
            has_any = true;
            if account.to_spans {
                spans.extend(spans::spans(account, &wall));
                live.journal.exemplars.note(account, wall.at(account.ended));
                requests += 1;
                if spans.len() >= SPANS {
                    self.export(&mut spans, &mut requests);
                }
            }
            if let Some(log) = self.log.as_mut().filter(|_| account.to_log) {
                log.lines.add(account, &wall, &mut self.text);
                self.lines += 1;
                if self.text.len() >= BATCH {
                    self.flush();
                }
            }
        });
        self.room = room;
        self.flush();
        self.export(&mut spans, &mut requests);
        has_any
    }

    fn export(&self, spans: &mut Vec<Span>, requests: &mut u64) {
        let batch = Batch { spans: std::mem::take(spans), requests: std::mem::take(requests) };
        if batch.spans.is_empty() {
            return;
        }
        match &self.exporter {
            Some(exporter) => exporter.send(batch, self.journal()),
            None => {
                let failed = &self.journal().sinks.spans.failed;
                failed.fetch_add(batch.requests, Ordering::Relaxed);
            }
        }
    }

    fn flush(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        let Some(log) = self.log.as_mut().filter(|_| lines > 0) else { return };
        let (written, failed) = log.target.write(&self.text, lines);
        let sink = &self.live.journal.sinks.log;
        sink.written.fetch_add(written, Ordering::Relaxed);
        sink.failed.fetch_add(failed, Ordering::Relaxed);
        self.text.clear();
    }
}
