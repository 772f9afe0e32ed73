//! What is written down of requests: lines of the access log, spans of traces. One thread takes what the cores hand
//! over ([`Journal`](crate::live::Journal)), formats it and writes it; no core ever waits for it.

mod escape;
mod line;
mod target;
mod wall;

use crate::{
    live::{Handed, Journal, Live},
    routing::Observed,
    spec::AccessLog,
};
use line::Lines;
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

/// Bytes that are written at once.
const BATCH: usize = 64 << 10;

/// Starts the thread. It ends when the journal does.
///
/// # Errors
/// When the system gives no thread.
pub fn start(live: Arc<Live>) -> io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name("accounts".to_owned()).spawn(move || {
        live.journal.attach();
        Writer { live, observed: None, log: None, text: Vec::new() }.run();
    })
}

struct Writer {
    live: Arc<Live>,
    /// What was in force when it was last looked at.
    observed: Option<Arc<Observed>>,
    log: Option<Log>,
    text: Vec<u8>,
}

/// The access log as it is written.
struct Log {
    settings: Arc<AccessLog>,
    lines: Lines,
    target: Target,
}

impl Writer {
    fn run(mut self) {
        let mut handed = Vec::new();
        loop {
            let ends = self.journal().has_ended();
            let round = self.journal().begin_round();
            self.follow();
            if self.journal().take_reopen()
                && let Some(log) = &mut self.log
            {
                log.target.reopen();
            }
            self.journal().take(&mut handed);
            let is_quiet = handed.is_empty();
            self.write(&mut handed);
            self.journal().end_round(round);
            match (ends, is_quiet) {
                (true, _) => return,
                (false, true) => self.journal().sleep(),
                (false, false) => self.journal().pause(GATHERING),
            }
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
        self.observed = observed;
    }

    fn write(&mut self, handed: &mut Vec<Handed>) {
        let wall = Wall::now(self.live.clock);
        for Handed { account, to_log, .. } in handed.drain(..) {
            if let Some(log) = self.log.as_mut().filter(|_| to_log) {
                log.lines.add(&account, &wall, &mut self.text);
                if self.text.len() >= BATCH {
                    flush(log, &mut self.text, &self.live.journal);
                }
            }
        }
        if let Some(log) = &mut self.log {
            flush(log, &mut self.text, &self.live.journal);
        }
    }
}

fn flush(log: &mut Log, text: &mut Vec<u8>, journal: &Journal) {
    if text.is_empty() {
        return;
    }
    let (written, failed) = log.target.write(text);
    journal.sinks.log.written.fetch_add(written, Ordering::Relaxed);
    journal.sinks.log.failed.fetch_add(failed, Ordering::Relaxed);
    text.clear();
}
