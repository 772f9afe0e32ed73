//! Why a rollout is where it is, in words and figures: what was compared, how strong the evidence is, what is missing
//! and how long that will take at the present traffic.

use super::{Answer, Goal, Paused, Phase, Rollout, Task, Total};
use crate::rollout::sequential::{Bad, Concern, Verdict, requests_to_promote};

/// For who asks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Explained {
    /// Where it is, and why.
    pub summary: String,
    /// What the step still asks for.
    pub lacks: Vec<Lack>,
    /// Seconds until all of it is there, at the present traffic; `None`: nobody knows.
    pub eta: Option<f64>,
    /// The evidence against the canary; at 1 / (1 - confidence) it is aborted.
    pub evidence: f64,
    pub evidence_needed: f64,
    /// The canary's share.
    pub share: f64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Lack {
    pub text: String,
    /// Seconds; `None`: nobody knows.
    pub eta: Option<f64>,
}

/// Without any error the canary is taken to have had this part of one, as likely as not.
const NO_ERROR_YET: f64 = 0.5;

impl Rollout {
    pub fn explain(&self) -> Explained {
        let lacks = self.lacks();
        let eta = lacks.iter().try_fold(0.0_f64, |most, lack| Some(most.max(lack.eta?)));
        Explained {
            summary: self.summary(&lacks),
            eta: eta.filter(|_| self.asks()),
            lacks,
            evidence: self.judge.parts().sum(),
            evidence_needed: 1.0 / self.judge.config().alpha,
            share: self.layout.share.as_f64(),
        }
    }

    fn summary(&self, lacks: &[Lack]) -> String {
        let (step, steps) = (self.step(), self.steps());
        let place = match self.stage().map(|stage| stage.task) {
            None => "before the first step".to_owned(),
            Some(Task::Touch(_)) => {
                format!("first touch, {} % on `{}`", self.layout.share, self.canary)
            }
            Some(_) => {
                format!("step {step} of {steps}, {} % on `{}`", self.layout.share, self.canary)
            }
        };
        let because = match &self.why {
            Some(why) => format!(": {}", why.text),
            None => lacks.first().map_or(String::new(), |lack| match self.phase {
                Phase::Waiting => format!(": {}", lack.text),
                _ => String::new(),
            }),
        };
        let phase = match (&self.goal, self.phase) {
            (Some(Goal::Return { .. }), Phase::Running | Phase::Waiting) => "aborting",
            (_, phase) => phase.as_str(),
        };
        if self.phase.is_over() {
            format!("{phase}{because}")
        } else {
            format!("{phase}, {place}{because}")
        }
    }

    /// Whether what is missing keeps it where it is: of one that has failed there is evidence enough.
    fn asks(&self) -> bool {
        let has_failed = matches!(self.phase, Phase::Paused { by: Paused::Failure, .. });
        !(has_failed || self.is_returning() || self.phase.is_over())
    }

    fn lacks(&self) -> Vec<Lack> {
        let Some(asked) = self.asked().filter(|_| self.asks()) else { return Vec::new() };
        let share = self.layout.share.as_f64();
        let missing = self.judge.missing(asked, share);
        let rate = self.totals.rate * share;
        let soon = |requests: f64| (rate > 0.0).then(|| requests / rate);
        let mut lacks = Vec::new();
        let mut lack = |text: String, eta| lacks.push(Lack { text, eta });
        let seconds = missing.time;
        if seconds > 0.0 && !matches!(self.stage().map(|it| it.task), Some(Task::Experiment)) {
            lack(format!("{seconds:.0} s of its time are left"), Some(seconds));
        }
        if missing.requests > 0 {
            let text = format!("{} more requests on `{}`", missing.requests, self.canary);
            lack(text, soon(missing.requests as f64));
        }
        for of in &missing.guards {
            lack(format!("{} on `{}`", self.limit(*of), self.canary), None);
        }
        if let Some(nats) = missing.errors {
            let text = format!(
                "evidence that its errors are not more by {} % of the requests: {:.0} % of it is there",
                self.plan.gates.regression.unwrap_or_default().error_rate,
                self.there(nats)
            );
            lack(text, soon(self.requests_until(nats, share)));
        }
        if let Some(nats) = missing.latency {
            let text =
                format!("evidence that it is not slower: {:.0} % of it is there", self.there(nats));
            // What is needed for that depends on latencies; errors are the better known measure.
            lack(text, soon(self.requests_until(nats, share)));
        }
        if missing.suspected {
            lack(
                format!("there is some evidence against `{}`, though not enough", self.canary),
                None,
            );
        }
        if missing.incident {
            lack(format!("`{}` itself is above a limit now", self.stable), None);
        }
        if let Some((got, wanted)) = self.ratio.mismatch() {
            let text = format!(
                "sample ratio mismatch: `{}` got {:.2} % of the requests instead of {:.2} %",
                self.canary,
                got * 100.0,
                wanted * 100.0
            );
            lack(text, None);
        }
        if self.crowded {
            lack("too many users with errors to tell them apart".to_owned(), None);
        }
        for gate in self.gates_wanted() {
            let name = self.gate_name(gate);
            match &self.gates[gate].answer {
                Some(Answer::Pass(_)) => {}
                Some(Answer::Fail(said) | Answer::Inconclusive(said)) => {
                    lack(format!("gate `{name}`: {said}"), None);
                }
                None => lack(format!("gate `{name}` has not answered yet"), None),
            }
        }
        lacks
    }

    /// Percent of the evidence for going on, of which so many nats are missing.
    fn there(&self, nats: f64) -> f64 {
        let needed = (1.0 / self.judge.config().promotion.beta).ln();
        (1.0 - nats / needed).clamp(0.0, 1.0) * 100.0
    }

    /// On the canary, if both versions go on as they are.
    fn requests_until(&self, nats: f64, share: f64) -> f64 {
        let (stable, config) = (&self.totals.stable, self.judge.config());
        let rate = (stable.errors as f64 + NO_ERROR_YET) / (stable.requests as f64 + 1.0);
        let needed = (1.0 / config.promotion.beta).ln();
        requests_to_promote(config, rate, share) * (nats / needed).min(1.0)
    }

    /// In words, what a guard allows.
    fn limit(&self, of: Bad) -> String {
        let gates = &self.plan.gates;
        match (of, gates.error_rate, gates.latency) {
            (Bad::Errors, Some(max), _) => format!("{max} % errors or more"),
            (Bad::Slow, _, Some(gate)) => format!(
                "{} % of the requests or more take longer than {} s",
                gate.quantile.rest(),
                gate.max.as_secs_f64()
            ),
            _ => "a limit is exceeded".to_owned(),
        }
    }
}

/// Why the canary is cut: a word and a sentence.
pub(super) fn failure(rollout: &Rollout, verdict: &Verdict) -> (&'static str, String) {
    let Rollout { stable, canary, totals, .. } = rollout;
    let errors = |total: &Total| {
        format!("{:.2} % ({} of {})", total.error_rate() * 100.0, total.errors, total.requests)
    };
    let slowest = |total: &Total, level| match total.quantile(level) {
        Some(seconds) => format!("{:.0} ms", seconds * 1e3),
        None => "nothing".to_owned(),
    };
    let compared = match verdict.parts.reason() {
        Concern::Errors => {
            let (new, old) = (errors(&totals.canary), errors(&totals.stable));
            return (
                "errors",
                format!(
                    "`{canary}` fails more often: {new} against {old} on `{stable}`{}",
                    odds(verdict)
                ),
            );
        }
        Concern::Latency => "latency",
        Concern::Guards => "guard",
    };
    let pairs = [0.5, 0.95, 0.99].map(|level| {
        let (new, old) = (slowest(&totals.canary, level), slowest(&totals.stable, level));
        format!("p{:.0} {new} against {old}", level * 100.0)
    });
    let text = match compared {
        "latency" => {
            format!("`{canary}` is slower than `{stable}`: {}{}", pairs.join(", "), odds(verdict))
        }
        _ => format!(
            "`{canary}` is above a limit: {} errors, {} slow, {}{}",
            errors(&totals.canary),
            totals.canary.slow,
            pairs[2],
            odds(verdict)
        ),
    };
    (compared, text)
}

fn odds(verdict: &Verdict) -> String {
    format!("; evidence {:.0}", verdict.log_evidence.exp().min(1e9))
}
