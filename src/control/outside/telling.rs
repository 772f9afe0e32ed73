use crate::{
    rollout::{Notice, Rollout},
    spec::{Hook, HookEvent, Name, Service},
};
use indexmap::IndexMap;
use jiff::Timestamp;
use serde_json::json;

/// Who brings about what a rollout does by itself.
const ITSELF: &str = "rollout";

/// A notice of a rollout, for the hooks that want it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Telling {
    pub hooks: Vec<Hook>,
    /// The rollout's own name. No other telling has its name and number, and they stay the same however often it is
    /// told.
    pub rollout: Name,
    pub number: u64,
    pub service: Name,
    pub event: HookEvent,
    /// That the rollout is in.
    pub state: Name,
    /// Stable.
    pub from: Name,
    /// The canary.
    pub to: Name,
    /// From 1; 0: before the first.
    pub step: usize,
    /// Of all pools of the service.
    pub weights: IndexMap<Name, u32>,
    /// In words.
    pub reason: Option<String>,
    /// Who has brought it about.
    pub author: Name,
    pub at: Timestamp,
}

impl Telling {
    /// With state and weights as they are now.
    pub fn of(rollout: &Rollout, notice: &Notice, service: &Service) -> Self {
        let wants = |hook: &&Hook| hook.on.contains(&notice.event);
        let weights = service.pools.iter().map(|(name, pool)| (name.clone(), pool.weight.get()));
        let cause = notice.by.as_ref().and_then(|by| by.cause.clone());
        let millis = i64::try_from(notice.at).unwrap_or(i64::MAX);
        Self {
            hooks: rollout.plan().hooks.iter().filter(wants).cloned().collect(),
            rollout: rollout.id().clone(),
            number: notice.number,
            service: rollout.service().clone(),
            event: notice.event,
            state: rollout.phase().as_str().into(),
            from: rollout.stable().clone(),
            to: rollout.canary().clone(),
            step: notice.step,
            weights: weights.collect(),
            reason: notice.why.as_ref().map(|why| why.text.clone()).or(cause),
            author: notice.by.as_ref().map_or_else(|| ITSELF.into(), |by| by.author.clone()),
            at: Timestamp::from_millisecond(millis).unwrap_or(Timestamp::MAX),
        }
    }

    /// By which who hears it twice knows that it is the same.
    pub fn id(&self) -> String {
        format!("{}/{}", self.rollout, self.number)
    }

    /// As it is sent.
    pub(super) fn body(&self) -> Vec<u8> {
        let body = json!({
            "id": self.id(),
            "rollout": self.rollout,
            "service": self.service,
            "event": self.event.as_str(),
            "state": self.state,
            "from": self.from,
            "to": self.to,
            "step": self.step,
            "weights": self.weights,
            "reason": self.reason,
            "author": self.author,
            "at": self.at.to_string(),
        });
        body.to_string().into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        control::testing::{name, shop},
        rollout::{Beginning, By, Effect},
        spec::{Role, RolloutPlan},
    };
    use serde_json::Value;

    #[test]
    fn what_hooks_are_told() {
        let hook = |on: &[HookEvent], url| Hook { on: on.to_vec(), url: name(url), key_file: None };
        let hooks = vec![
            hook(&[HookEvent::Aborted], "http://a/"),
            hook(&[HookEvent::Step, HookEvent::Started], "http://b/"),
        ];
        let cause = Some("release 7".to_owned());
        let beginning = Beginning {
            id: name("r7"),
            service_name: name("shop"),
            service: &shop(),
            stable: name("blue"),
            canary: name("green"),
            plan: RolloutPlan { hooks, ..RolloutPlan::default() },
            by: By { author: name("ci"), role: Role::Operator, cause },
            rate: None,
            known: None,
            dispersion: 1.0,
        };
        let (rollout, effects) = Rollout::begin(beginning, 1_700_000_000_500).unwrap();
        let [Effect::Tell(notice)] = &effects[..] else { panic!("{effects:?}") };
        let telling = Telling::of(&rollout, notice, &shop());
        let urls: Vec<&str> = telling.hooks.iter().map(|hook| &*hook.url).collect();
        assert_eq!(urls, ["http://b/"], "those that want this event");
        let told: Value = serde_json::from_slice(&telling.body()).unwrap();
        assert_eq!(
            told,
            json!({ "id": "r7/1", "rollout": "r7", "service": "shop", "event": "started", "state": "running",
                "from": "blue", "to": "green", "step": 0, "weights": { "blue": 95, "green": 5 },
                "reason": "release 7", "author": "ci", "at": "2023-11-14T22:13:20.5Z" })
        );
        let itself = Notice { by: None, why: None, ..notice.clone() };
        let told = Telling::of(&rollout, &itself, &shop());
        assert_eq!((&*told.author, told.reason), ("rollout", None));
    }
}
