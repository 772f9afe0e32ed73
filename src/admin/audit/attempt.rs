use super::{Audit, Entry, Event};
use crate::{
    admin::problem::{Problem, Refusal},
    config,
    control::{ChangeError, Receipt},
};
use axum::response::Response;
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

/// In characters.
const LONGEST_DETAIL: usize = 500;

/// Paths that are told of one change.
const MOST_CHANGED: usize = 50;

/// A change that is asked for. Whatever becomes of it is recorded once: also when who asked has left, which ends the
/// request and not the change.
#[derive(Clone, Default)]
pub(in crate::admin) struct Attempt(Option<Arc<Pending>>);

struct Pending {
    audit: Arc<Audit>,
    /// `None`: it is recorded.
    entry: Mutex<Option<Entry>>,
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Attempt")
    }
}

impl Attempt {
    /// By who is in `entry`.
    pub(in crate::admin) fn new(audit: Arc<Audit>, entry: Entry) -> Self {
        Self(Some(Arc::new(Pending { audit, entry: Mutex::new(Some(entry)) })))
    }

    /// Makes the change and records what became of it; `receipt` is that of a change that was made just now.
    ///
    /// # Errors
    /// When it is not made.
    pub(in crate::admin) async fn follow<T: Send + 'static>(
        self,
        change: impl Future<Output = Result<T, ChangeError>> + Send + 'static,
        receipt: fn(&T) -> Option<&Receipt>,
        is_patient: bool,
    ) -> Result<T, ChangeError> {
        let told = async move {
            let result = change.await;
            match &result {
                Ok(made) => self.settle(receipt(made).map(Ok)),
                Err(error) => self.settle(Some(Err(error))),
            }
            result
        };
        if is_patient {
            // When who waits for a healthy backend leaves, nobody waits any more.
            return told.await;
        }
        // In a task of its own: when who asks leaves now, the change is made all the same.
        tokio::spawn(told).await.unwrap_or(Err(ChangeError::Ended))
    }

    /// `None`: it was made before.
    fn settle(&self, result: Option<Result<&Receipt, &ChangeError>>) {
        self.end(|entry| match result? {
            // A dry run, or nothing to change.
            Ok(receipt) => made(receipt, entry),
            Err(error) => {
                let (status, refusal) = of_control(error);
                Some(refused(Some(status), refusal, entry))
            }
        });
    }

    /// Another process has taken over, as it was asked for.
    pub(in crate::admin) fn upgraded(&self) {
        self.end(|entry| Some(Entry { event: Event::ProcessUpgraded, ..entry }));
    }

    /// The answer, after whatever was asked of the control plane.
    pub(in crate::admin) fn answered(&self, response: &Response) {
        self.end(|entry| {
            let status = response.status();
            let is_refused = status.is_client_error() || status.is_server_error();
            let refusal = response.extensions().get::<Refusal>().cloned().unwrap_or_default();
            is_refused.then(|| refused(Some(status.as_u16()), refusal, entry))
        });
    }

    /// Nothing after this counts.
    fn end(&self, become_of: impl FnOnce(Entry) -> Option<Entry>) {
        let Some(pending) = &self.0 else { return };
        let entry = pending.entry.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(entry) = entry.and_then(become_of) {
            pending.audit.record(entry);
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let entry = self.entry.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(entry) = entry {
            self.audit.record(Entry { event: Event::ChangeUnanswered, ..entry });
        }
    }
}

fn refused(status: Option<u16>, refusal: Refusal, entry: Entry) -> Entry {
    Entry {
        event: Event::ChangeRefused,
        status,
        reason: refusal.reason.map(str::to_owned),
        detail: refusal.detail,
        ..entry
    }
}

/// What the control plane says has names of the configuration in it, and nothing else of a request.
fn of_control(error: &ChangeError) -> (u16, Refusal) {
    let detail = error.to_string().chars().take(LONGEST_DETAIL).collect();
    let problem = Problem::from(error.clone());
    (problem.status(), Refusal { detail: Some(detail), ..problem.refusal() })
}

/// What a change did; `None`: nothing.
pub(super) fn made(receipt: &Receipt, entry: Entry) -> Option<Entry> {
    let revision = receipt.revision?;
    let entry = Entry { cause: receipt.cause.clone(), ..entry };
    if receipt.before == receipt.after {
        let event = if receipt.hold.is_some() {
            Event::ServiceHeld
        } else if receipt.released.is_some() {
            Event::ServiceReleased
        } else if receipt.rollout.is_some() {
            Event::RolloutSteered
        } else if receipt.after.is_renewed(&receipt.before) {
            Event::FilesRenewed
        } else {
            return None;
        };
        return Some(Entry { event, ..entry });
    }
    let changed = config::changes(&receipt.before, &receipt.after);
    let changed = changed.into_iter().take(MOST_CHANGED).map(|change| change.path).collect();
    Some(Entry { event: Event::ChangeMade, revision: Some(revision), changed, ..entry })
}

impl Audit {
    /// What became of the file, which nobody asked for.
    pub(in crate::admin) fn loaded(&self, result: &Result<Receipt, ChangeError>) {
        let entry = of_file(Event::ChangeRefused);
        let entry = match result {
            Ok(receipt) => made(receipt, entry),
            Err(error) => Some(refused(None, of_control(error).1, entry)),
        };
        if let Some(entry) = entry {
            self.record(entry);
        }
    }

    /// A file with mistakes.
    pub(in crate::admin) fn unreadable(&self, mistakes: usize) {
        let detail = Some(format!("the file has {mistakes} mistakes, which /v1/status shows"));
        let reason = Some("invalid".to_owned());
        self.record(Entry { reason, detail, ..of_file(Event::ChangeRefused) });
    }
}

fn of_file(event: Event) -> Entry {
    Entry {
        author: Some("file".to_owned()),
        by: Some("file".to_owned()),
        operation: Some("load".to_owned()),
        ..Entry::new(event)
    }
}
