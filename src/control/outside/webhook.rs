use super::Outside;
use crate::{rollout::Answer, spec::WebhookGate};
use serde_json::Value;

impl Outside {
    /// Whether `gate` says yes (200) to `body`. Any other status is a no, or not yet; who cannot be reached has said
    /// neither.
    pub async fn ask_webhook(&self, gate: &WebhookGate, body: &Value) -> Answer {
        let body = body.to_string().into_bytes();
        let asked = self.post(&gate.url, gate.key_file.as_deref(), None, body, gate.timeout);
        match asked.await {
            Ok(200) => Answer::Pass("answers 200".to_owned()),
            Ok(status) => Answer::Fail(format!("answers {status}")),
            Err(why) => Answer::Inconclusive(why),
        }
    }
}
