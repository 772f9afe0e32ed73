//! The loop: which certificates are due, and what became of their orders.

use super::{
    account,
    failure::Failure,
    https::Https,
    order::{self, Board, Issued},
    schedule::{pause, renewal},
    store::{Postponed, Store},
};
use crate::{
    control::{Handle, Issuance, OrderStatus},
    live::{Live, Phase},
    spec::{Acme, Certificate, Name},
};
use jiff::{SignedDuration, Timestamp};
use rand::RngExt;
use std::{future, io, sync::Arc, time::Duration};
use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::{sleep, timeout},
};

/// An order that takes longer comes to nothing.
const LONGEST_ORDER: Duration = Duration::from_secs(10 * 60);

/// The clock on the wall is looked at this often: it may be set, and it goes on while a machine sleeps.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);

/// Nothing that failed waits longer.
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_hours(24);

/// Starts to order what the spec wants, now and after each change. When this returns, what was kept is in force.
/// The task ends when the process is asked to; if it ends before, nothing is renewed any more and the process
/// should end.
pub async fn start(live: Arc<Live>, handle: Handle) -> JoinHandle<()> {
    let mut task = Task { handle, acme: None, entries: Vec::new() };
    task.follow().await;
    tokio::spawn(task.run(live))
}

struct Task {
    handle: Handle,
    acme: Option<Acme>,
    entries: Vec<Entry>,
}

/// One certificate.
struct Entry {
    hosts: Vec<Name>,
    certificate: Option<Certificate>,
    due: Timestamp,
    /// In a row.
    failures: u32,
    error: Option<String>,
    issued: u64,
    failed: u64,
}

impl Task {
    async fn run(mut self, live: Arc<Live>) {
        let mut views = self.handle.views();
        let mut phases = live.lifecycle.subscribe();
        loop {
            let known = self.acme.clone();
            let changed = views.wait_for(|view| !is_same(&view.spec.acme, &known));
            tokio::select! {
                changed = changed => {
                    // Nobody is left who could be told.
                    if changed.is_err() {
                        return;
                    }
                }
                _ = phases.wait_for(|phase| *phase >= Phase::Leaving) => return,
                () = self.work() => {}
            }
            self.follow().await;
        }
    }

    /// Takes over what the spec wants; what fails is tried again at once, since somebody has mended something.
    async fn follow(&mut self) {
        let acme = self.handle.view().spec.acme.clone();
        let mut before = std::mem::take(&mut self.entries);
        if !(self.acme.as_ref().zip(acme.as_ref()))
            .is_some_and(|(old, new)| is_kept_there(old, new))
        {
            before.clear();
        }
        for hosts in acme.iter().flat_map(|acme| &acme.hosts) {
            let known = before.iter().position(|entry| entry.hosts == *hosts);
            let entry = match (known, &acme) {
                (Some(index), _) => {
                    let mut entry = before.swap_remove(index);
                    entry.schedule(acme.as_ref());
                    entry
                }
                (None, Some(acme)) => Entry::found(acme, hosts).await,
                (None, None) => continue,
            };
            self.entries.push(entry);
        }
        self.acme = acme;
        self.tell().await;
    }

    /// Orders what is due, again and again. To be given up when something else is to be ordered.
    async fn work(&mut self) {
        loop {
            let next = self.entries.iter().enumerate().min_by_key(|(_, entry)| entry.due);
            let Some((index, due)) = next.map(|(index, entry)| (index, entry.due)) else {
                return future::pending().await;
            };
            match Duration::try_from(due.duration_since(Timestamp::now())) {
                Ok(wait) if !wait.is_zero() => sleep(wait.min(LONGEST_SLEEP)).await,
                // It is past.
                _ => self.order(index).await,
            }
        }
    }

    async fn order(&mut self, index: usize) {
        let Some(acme) = self.acme.clone() else { return };
        let hosts = self.entries[index].hosts.clone();
        let board = Board { handle: self.handle.clone(), issuance: self.issuance() };
        let ordering = timeout(LONGEST_ORDER, obtain(&acme, &hosts, &board)).await;
        let outcome = ordering.unwrap_or_else(|_| {
            Err(Failure::here(format_args!("not done within {LONGEST_ORDER:?}")))
        });
        let entry = &mut self.entries[index];
        match outcome {
            Ok(issued) => entry.succeed(&acme, issued).await,
            Err(failure) => entry.fail(&acme, &failure).await,
        }
        self.tell().await;
    }

    /// Tells the control task how things stand; no proof is shown from then on.
    async fn tell(&self) {
        // If it cannot, everybody is about to end.
        if let Err(error) = self.handle.issue(self.issuance()).await {
            tracing::error!(%error, "certificates cannot be put in force");
        }
    }

    fn issuance(&self) -> Issuance {
        Issuance {
            certificates: self.entries.iter().filter_map(|it| it.certificate.clone()).collect(),
            challenges: Arc::default(),
            orders: self.entries.iter().map(Entry::status).collect(),
        }
    }
}

impl Entry {
    /// With what is kept of it.
    async fn found(acme: &Acme, hosts: &[Name]) -> Self {
        let (store, names) = (Store::of(acme), hosts.to_vec());
        let kept = spawn_blocking(move || (store.certificate(&names), store.postponed(&names)));
        let (certificate, postponed) = kept.await.unwrap_or_default();
        let mut entry = Self {
            hosts: hosts.to_vec(),
            certificate,
            due: Timestamp::now(),
            failures: 0,
            error: None,
            issued: 0,
            failed: 0,
        };
        entry.schedule(Some(acme));
        if let Some(postponed) = postponed {
            // A clock that went back is no reason to wait for ever.
            let longest = Timestamp::now().checked_add(LONGEST_PAUSE).unwrap_or(Timestamp::MAX);
            let due = time(postponed.due).min(longest);
            if due > entry.due {
                entry.due = due;
                entry.failures = postponed.failures;
                entry.error = Some(postponed.error);
            }
        }
        entry
    }

    /// One that is for all of its hosts is renewed in time, else it is due.
    fn schedule(&mut self, acme: Option<&Acme>) {
        let covers = |it: &&Certificate| self.hosts.iter().all(|host| it.pair.names.cover(host));
        let good = self.certificate.as_ref().filter(covers);
        self.due = good.map_or_else(Timestamp::now, |certificate| {
            let pair = &certificate.pair;
            let before = acme.and_then(|acme| acme.renew_before);
            let at = renewal(pair.not_before, pair.not_after, before, dice());
            Timestamp::from_second(at).unwrap_or(Timestamp::MAX)
        });
    }

    async fn succeed(&mut self, acme: &Acme, issued: Issued) {
        let store = Store::of(acme);
        let certificate = store.named(&self.hosts, issued.pair);
        let not_after = time(certificate.pair.not_after);
        self.certificate = Some(certificate);
        self.issued += 1;
        self.failures = 0;
        self.error = None;
        self.schedule(Some(acme));
        tracing::info!(hosts = %self.names(), %not_after, renewal = %self.due, "certificate issued");
        let hosts = self.hosts.clone();
        let kept = keep(move || {
            store.keep_certificate(&hosts, issued.pem.as_bytes())?;
            store.forget_postponed(&hosts)
        });
        if let Err(failure) = kept.await {
            let why =
                format!("the certificate is in force, but a restart loses it: {}", failure.why);
            tracing::error!(hosts = %self.names(), "{why}");
            self.error = Some(why);
        }
    }

    async fn fail(&mut self, acme: &Acme, failure: &Failure) {
        self.failed += 1;
        self.failures = self.failures.saturating_add(1);
        let wait = pause(self.failures, failure.blame, failure.asked, dice());
        let wait = SignedDuration::try_from(wait).unwrap_or(SignedDuration::MAX);
        self.due = Timestamp::now().checked_add(wait).unwrap_or(Timestamp::MAX);
        let expires = self.certificate.as_ref().map(|it| time(it.pair.not_after).to_string());
        tracing::error!(
            hosts = %self.names(),
            why = failure.why,
            next_try = %self.due,
            current_expires = expires.as_deref().unwrap_or("there is none"),
            "no certificate was issued"
        );
        self.error = Some(failure.why.clone());
        let (store, hosts) = (Store::of(acme), self.hosts.clone());
        let postponed = Postponed {
            failures: self.failures,
            due: self.due.as_second(),
            error: failure.why.clone(),
        };
        if let Err(failure) = keep(move || store.postpone(&hosts, &postponed)).await {
            tracing::error!(hosts = %self.names(), why = failure.why, "a restart orders at once");
        }
    }

    fn status(&self) -> OrderStatus {
        OrderStatus {
            hosts: self.hosts.clone(),
            not_after: self.certificate.as_ref().map(|it| time(it.pair.not_after)),
            next: self.due,
            error: self.error.clone(),
            issued: self.issued,
            failed: self.failed,
        }
    }

    fn names(&self) -> String {
        self.hosts.join(", ")
    }
}

/// # Errors
/// When there is no certificate in the end.
async fn obtain(acme: &Acme, hosts: &[Name], board: &Board) -> Result<Issued, Failure> {
    let https = Https::new(acme).map_err(Failure::here)?;
    let issued = obtain_by(&https, acme, hosts, board).await;
    issued.map_err(|failure| Failure { asked: https.asked().or(failure.asked), ..failure })
}

async fn obtain_by(
    https: &Https,
    acme: &Acme,
    hosts: &[Name],
    board: &Board,
) -> Result<Issued, Failure> {
    let store = Store::of(acme);
    let by_kept = async {
        let account = account::open(acme, &store, https).await?;
        order::place(&account, acme, hosts, board).await
    };
    match by_kept.await {
        Err(failure) if failure.account_is_gone => {
            tracing::warn!(
                why = failure.why,
                "the issuer does not know the account; making another"
            );
            let account = account::create(acme, &store, https).await?;
            order::place(&account, acme, hosts, board).await
        }
        outcome => outcome,
    }
}

/// # Errors
/// When it is not kept for sure.
async fn keep(keep: impl FnOnce() -> io::Result<()> + Send + 'static) -> Result<(), Failure> {
    let kept = spawn_blocking(keep).await.map_err(Failure::here)?;
    kept.map_err(|error| Failure::of_store(&error))
}

/// Nothing has changed for who orders.
fn is_same(one: &Option<Acme>, other: &Option<Acme>) -> bool {
    let says_the_same = match (one, other) {
        (Some(one), Some(other)) => one.says_the_same(other),
        _ => true,
    };
    one == other && says_the_same
}

/// What was issued for the one is what the other finds.
fn is_kept_there(one: &Acme, other: &Acme) -> bool {
    one.directory == other.directory && one.state == other.state
}

fn time(seconds: i64) -> Timestamp {
    // A certificate cannot be good for longer than the years that there are.
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
}

/// From 0 to 1.
fn dice() -> f64 {
    rand::rng().random_range(0.0..1.0)
}
