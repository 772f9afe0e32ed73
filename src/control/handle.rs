use super::{Change, ChangeError, Issuance, Receipt, View};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};

/// What the control task is sent.
pub(super) enum Message {
    Apply(Box<Change>, oneshot::Sender<Result<Receipt, ChangeError>>),
    /// The file could not be loaded; what is in force stays.
    FileFailed(String),
    Issue(Issuance, oneshot::Sender<Result<(), ChangeError>>),
}

/// How everybody else speaks to the control task.
#[derive(Clone)]
pub struct Handle {
    messages: mpsc::Sender<Message>,
    view: watch::Receiver<Arc<View>>,
}

impl Handle {
    pub(super) fn new(messages: mpsc::Sender<Message>, view: watch::Receiver<Arc<View>>) -> Self {
        Self { messages, view }
    }

    /// Makes a change and returns once it is in force everywhere: no request is routed by the old table
    /// any more. What it left behind still drains then.
    ///
    /// # Errors
    /// When it is not made; nothing has changed then.
    pub async fn apply(&self, change: Change) -> Result<Receipt, ChangeError> {
        let (answer, answered) = oneshot::channel();
        let message = Message::Apply(Box::new(change), answer);
        self.messages.send(message).await.map_err(|_| ChangeError::Ended)?;
        answered.await.map_err(|_| ChangeError::Ended)?
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
        let (answer, answered) = oneshot::channel();
        let message = Message::Issue(issuance, answer);
        self.messages.send(message).await.map_err(|_| ChangeError::Ended)?;
        answered.await.map_err(|_| ChangeError::Ended)?
    }

    pub fn view(&self) -> Arc<View> {
        self.view.borrow().clone()
    }

    /// To wait for the next view.
    pub fn views(&self) -> watch::Receiver<Arc<View>> {
        self.view.clone()
    }
}
