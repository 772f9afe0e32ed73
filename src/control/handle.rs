use super::{Change, ChangeError, Issuance, Once, Receipt, Reply, Store, View};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};

/// What the control task is sent.
pub(super) enum Message {
    Apply(Box<Change>, Option<Once>, oneshot::Sender<Result<Reply, ChangeError>>),
    /// The file could not be loaded; what is in force stays.
    FileFailed(String),
    Issue(Issuance, oneshot::Sender<Result<(), ChangeError>>),
    HandOver(oneshot::Sender<Result<(), ChangeError>>),
    TakeBack(oneshot::Sender<Result<(), ChangeError>>),
}

/// How everybody else speaks to the control task.
#[derive(Clone)]
pub struct Handle {
    messages: mpsc::Sender<Message>,
    view: watch::Receiver<Arc<View>>,
    store: Store,
}

impl Handle {
    pub(super) fn new(
        messages: mpsc::Sender<Message>,
        view: watch::Receiver<Arc<View>>,
        store: Store,
    ) -> Self {
        Self { messages, view, store }
    }

    /// Makes a change and returns once it is in force everywhere: no request is routed by the old table
    /// any more. What it left behind still drains then.
    ///
    /// # Errors
    /// When it is not made; nothing has changed then.
    pub async fn apply(&self, change: Change) -> Result<Receipt, ChangeError> {
        match self.ask(|answer| Message::Apply(Box::new(change), None, answer)).await? {
            Reply::Made(receipt) => Ok(*receipt),
            // Without a key nothing is known.
            Reply::Known(_) => Err(ChangeError::KeyReused),
        }
    }

    /// The same, but a change whose key is known already is not made again. Who made it gives the answer to
    /// [`Store::remember`], for who asks again.
    ///
    /// # Errors
    /// When it is not made; nothing has changed then.
    pub async fn apply_once(&self, change: Change, once: Once) -> Result<Reply, ChangeError> {
        self.ask(|answer| Message::Apply(Box::new(change), Some(once), answer)).await
    }

    /// Shows that the file as it is now cannot be loaded; every error a line.
    pub async fn file_failed(&self, error: String) {
        // When the task has ended there is nobody left to show it to.
        let _ = self.messages.send(Message::FileFailed(error)).await;
    }

    /// Puts ordered certificates, and proofs for who issues them, in force; returns once every new handshake and
    /// request sees them. It is no new revision.
    ///
    /// # Errors
    /// When a listener cannot use them, or the control plane has ended.
    pub async fn issue(&self, issuance: Issuance) -> Result<(), ChangeError> {
        self.ask(|answer| Message::Issue(issuance, answer)).await
    }

    /// Lets go of the state once all changes before are made, so that another process can open it. From then on
    /// every change is refused here; traffic and health checks go on.
    ///
    /// # Errors
    /// When the control plane has ended.
    pub async fn hand_over(&self) -> Result<(), ChangeError> {
        self.ask(Message::HandOver).await
    }

    /// The other process did not take over: opens the state again and makes changes as before.
    ///
    /// # Errors
    /// When the state cannot be opened, above all because the other process has it.
    pub async fn take_back(&self) -> Result<(), ChangeError> {
        self.ask(Message::TakeBack).await
    }

    async fn ask<T>(
        &self,
        message: impl FnOnce(oneshot::Sender<Result<T, ChangeError>>) -> Message,
    ) -> Result<T, ChangeError> {
        let (answer, answered) = oneshot::channel();
        self.messages.send(message(answer)).await.map_err(|_| ChangeError::Ended)?;
        answered.await.map_err(|_| ChangeError::Ended)?
    }

    /// What is kept of changes.
    pub fn history(&self) -> &Store {
        &self.store
    }

    pub fn view(&self) -> Arc<View> {
        self.view.borrow().clone()
    }

    /// To wait for the next view.
    pub fn views(&self) -> watch::Receiver<Arc<View>> {
        self.view.clone()
    }
}
