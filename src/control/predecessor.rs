//! The process that this one has taken over from: it is told what changes as long as something is in flight there, and
//! asked what is.

use super::{Estate, Open};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};

/// Who asks what is in flight there. No answer: it has ended. `None`: something may be, there or in a process before it.
pub type Question = oneshot::Sender<Option<Vec<Open>>>;

/// What is to be in force there; changes count from 1.
#[derive(Clone, Debug, Default)]
struct Wanted {
    change: u64,
    estate: Option<Arc<Estate>>,
}

/// The control task's side.
#[derive(Debug)]
pub(super) struct Predecessor {
    wanted: watch::Sender<Wanted>,
    followed: watch::Receiver<u64>,
    questions: mpsc::Sender<Question>,
}

/// The side of who speaks with the other process. Dropped once that has ended.
#[derive(Debug)]
pub struct Lead {
    wanted: watch::Receiver<Wanted>,
    followed: watch::Sender<u64>,
    questions: mpsc::Receiver<Question>,
}

/// What is to be said next to the process before this one.
#[derive(Debug)]
pub enum Word {
    /// This is in force from now on. With the change's number, for [`Lead::has_followed`].
    Changed(u64, Arc<Estate>),
    /// What is in flight there?
    Open(Question),
}

impl Predecessor {
    pub(super) fn new() -> (Self, Lead) {
        let (wanted, wants) = watch::channel(Wanted::default());
        let (follows, followed) = watch::channel(0);
        let (questions, asked) = mpsc::channel(1);
        let lead = Lead { wanted: wants, followed: follows, questions: asked };
        (Self { wanted, followed, questions }, lead)
    }

    /// Returns once `estate` is in force there, or after `patience`; who did not follow the last change in time is not
    /// waited for again until they have. False: it has ended.
    pub(super) async fn tell(&mut self, estate: Estate, patience: Duration) -> bool {
        let told = self.wanted.borrow().change;
        let is_behind = *self.followed.borrow() < told;
        let change = told + 1;
        if self.wanted.send(Wanted { change, estate: Some(Arc::new(estate)) }).is_err() {
            return false;
        }
        let patience = if is_behind { Duration::ZERO } else { patience };
        match timeout(patience, self.followed.wait_for(|followed| *followed >= change)).await {
            Ok(followed) => followed.is_ok(),
            Err(_) => {
                if !is_behind {
                    tracing::warn!("the process before this one is slow to follow a change");
                }
                true
            }
        }
    }

    pub(super) fn questions(&self) -> mpsc::Sender<Question> {
        self.questions.clone()
    }
}

impl Lead {
    /// A question comes after the changes that were made before it was asked, so that nothing begins any more on what
    /// those took away. `None`: nobody leads.
    pub async fn next(&mut self) -> Option<Word> {
        tokio::select! {
            biased;
            changed = self.wanted.changed() => {
                changed.ok()?;
                let Wanted { change, estate } = self.wanted.borrow_and_update().clone();
                Some(Word::Changed(change, estate?))
            }
            question = self.questions.recv() => question.map(Word::Open),
        }
    }

    /// The change is in force there.
    pub fn has_followed(&self, change: u64) {
        self.followed.send_replace(change);
    }
}
