//! Under which conditions a change is asked for: the query, `If-Match`, and the keys that the body of any
//! change may have.

use super::{access::Caller, audit::Attempt, problem::Problem};
use crate::{
    config::{format_duration, parse_duration},
    control::Once,
};
use axum::{
    extract::{FromRequestParts, Query},
    http::{HeaderMap, header, request::Parts},
};
use indexmap::IndexMap;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::{fmt, ops::RangeInclusive, time::Duration};
use utoipa::{IntoParams, ToSchema};

/// Longest `wait` and `wait_healthy`.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// Longest `cause`, in bytes.
const LONGEST_CAUSE: usize = 1000;

/// The query of a change, unchecked.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Asked {
    /// Answer when what was left is idle, at the latest after this time (`30s`, at most `1h`).
    wait: Option<String>,
    /// Say what would change, change nothing.
    #[param(value_type = Option<bool>)]
    dry_run: Option<String>,
    /// Why; may be in the body instead.
    cause: Option<String>,
    /// Go on although a pool that gets traffic has no healthy backend; may be in the body instead.
    #[param(value_type = Option<bool>)]
    force: Option<String>,
    /// Wait this long for a healthy backend in the pools that get traffic; may be in the body instead.
    wait_healthy: Option<String>,
    #[serde(flatten)]
    #[param(ignore)]
    unknown: IndexMap<String, String>,
    #[serde(skip)]
    #[param(ignore)]
    if_match: IfMatch,
    #[serde(skip)]
    #[param(ignore)]
    caller: Caller,
    #[serde(skip)]
    #[param(ignore)]
    once: Option<Once>,
    #[serde(skip)]
    #[param(ignore)]
    attempt: Attempt,
}

/// Keys that the body of any change may have.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(super) struct Common {
    /// Why.
    #[schema(value_type = Option<String>)]
    cause: Option<Value>,
    /// Go on although a pool that gets traffic has no healthy backend.
    #[schema(value_type = Option<bool>)]
    force: Option<Value>,
    /// Wait this long for a healthy backend in the pools that get traffic (`30s`, at most `1h`).
    #[schema(value_type = Option<String>)]
    wait_healthy: Option<Value>,
    /// The keys that are none of a change's: for whoever knows more.
    #[serde(flatten)]
    #[schema(ignore)]
    pub(super) others: Map<String, Value>,
}

impl Common {
    /// The keys that are none of a change's, and the rest.
    pub(super) fn without_others(mut self) -> (Value, Self) {
        let others = std::mem::take(&mut self.others);
        (Value::Object(others), self)
    }
}

/// Checked.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    pub(super) wait: Option<Duration>,
    pub(super) dry_run: bool,
    pub(super) cause: Option<String>,
    pub(super) force: bool,
    pub(super) wait_healthy: Option<Duration>,
    pub(super) if_match: IfMatch,
    pub(super) once: Option<Once>,
    pub(super) caller: Caller,
    pub(super) attempt: Attempt,
}

/// The revisions that the change was made up for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum IfMatch {
    #[default]
    Any,
    /// Empty: a tag that no revision ever has.
    Revisions(Vec<u64>),
}

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Query(mut asked): Query<Self> = Query::try_from_uri(&parts.uri)
            .map_err(|error| Problem::malformed(format!("the query cannot be read: {error}")))?;
        asked.if_match = IfMatch::of(&parts.headers)?;
        asked.once = parts.extensions.get().cloned();
        asked.caller = parts.extensions.get().cloned().unwrap_or_default();
        asked.attempt = parts.extensions.get().cloned().unwrap_or_default();
        Ok(asked)
    }
}

impl Asked {
    /// Adds everything that is wrong to `errors`; keys of the body win over those of the query.
    pub(super) fn conditions(self, body: Common, errors: &mut Errors) -> Conditions {
        let text = |text: Option<String>| text.map(Value::String);
        for key in self.unknown.keys() {
            errors.add(
                key,
                "is no query parameter here; use wait, dry_run, cause, force, wait_healthy",
            );
        }
        Conditions {
            wait: errors.duration("wait", text(self.wait)),
            dry_run: errors.flag("dry_run", text(self.dry_run)),
            cause: errors.cause(body.cause.or(text(self.cause))),
            force: errors.flag("force", body.force.or(text(self.force))),
            wait_healthy: errors
                .duration("wait_healthy", body.wait_healthy.or(text(self.wait_healthy))),
            if_match: self.if_match,
            once: self.once,
            caller: self.caller,
            attempt: self.attempt,
        }
    }
}

impl Conditions {
    /// How long to wait for what the change leaves behind; a dry run leaves nothing.
    pub(super) fn waits(&self) -> Option<Duration> {
        self.wait.filter(|_| !self.dry_run)
    }
}

impl IfMatch {
    /// RFC 9110 section 13.1.1; comparison is strong, so a weak tag matches nothing.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let mut revisions = Vec::new();
        let mut any = true;
        for value in headers.get_all(header::IF_MATCH) {
            let value = value.to_str().map_err(|_| Problem::malformed("If-Match is not ASCII"))?;
            for tag in value.split(',').map(str::trim).filter(|tag| !tag.is_empty() && *tag != "*")
            {
                any = false;
                let strong = tag.strip_prefix("W/").unwrap_or(tag);
                let Some(inner) = strong.strip_prefix('"').and_then(|t| t.strip_suffix('"')) else {
                    return Err(Problem::malformed(
                        "If-Match takes a revision in quotes, such as \"41\", or *",
                    ));
                };
                if strong == tag {
                    revisions.extend(inner.parse::<u64>());
                }
            }
        }
        Ok(if any { Self::Any } else { Self::Revisions(revisions) })
    }

    /// What to tell the control plane: the one it must match, if any.
    ///
    /// # Errors
    /// When no revision could match.
    pub(super) fn revision(&self, current: u64) -> Result<Option<u64>, Problem> {
        match self {
            Self::Any => Ok(None),
            Self::Revisions(revisions) if revisions.contains(&current) => Ok(Some(current)),
            Self::Revisions(revisions) => {
                revisions.last().copied().map(Some).ok_or_else(|| Problem::stale(current))
            }
        }
    }

    /// For what the control plane does not check.
    ///
    /// # Errors
    /// When it names other revisions than the current one.
    pub(super) fn check(&self, current: u64) -> Result<(), Problem> {
        match self.revision(current)? {
            Some(revision) if revision != current => Err(Problem::stale(current)),
            _ => Ok(()),
        }
    }
}

/// Everything that is wrong with a request, to be told at once.
#[derive(Debug, Default)]
pub(super) struct Errors(Vec<String>);

impl Errors {
    pub(super) fn add(&mut self, key: &str, what: impl fmt::Display) {
        self.0.push(format!("{key}: {what}"));
    }

    pub(super) fn extend(&mut self, errors: impl IntoIterator<Item = String>) {
        self.0.extend(errors);
    }

    /// For bodies that have no further keys.
    pub(super) fn unknown(&mut self, keys: &Map<String, Value>, known: &str) {
        for key in keys.keys() {
            self.add(key, format_args!("is not a key here; use {known}"));
        }
    }

    pub(super) fn text(&mut self, key: &str, value: Option<Value>) -> Option<String> {
        match value {
            Some(Value::String(text)) => Some(text),
            Some(_) => {
                self.add(key, "must be a string");
                None
            }
            None => None,
        }
    }

    /// Of the query.
    pub(super) fn number(
        &mut self,
        key: &str,
        value: Option<String>,
        range: RangeInclusive<u64>,
    ) -> Option<u64> {
        let number = value?.parse().ok().filter(|number| range.contains(number));
        if number.is_none() {
            let (least, most) = range.into_inner();
            self.add(key, format_args!("must be a whole number from {least} to {most}"));
        }
        number
    }

    fn cause(&mut self, value: Option<Value>) -> Option<String> {
        let cause = self.text("cause", value)?;
        if cause.len() > LONGEST_CAUSE {
            self.add("cause", format_args!("must have at most {LONGEST_CAUSE} bytes"));
        }
        Some(cause)
    }

    pub(super) fn flag(&mut self, key: &str, value: Option<Value>) -> bool {
        match value {
            Some(Value::Bool(flag)) => flag,
            Some(Value::String(text)) if text == "true" || text == "false" => text == "true",
            Some(_) => {
                self.add(key, "must be true or false");
                false
            }
            None => false,
        }
    }

    pub(super) fn duration(&mut self, key: &str, value: Option<Value>) -> Option<Duration> {
        self.duration_within(key, value, LONGEST_WAIT)
    }

    pub(super) fn duration_within(
        &mut self,
        key: &str,
        value: Option<Value>,
        most: Duration,
    ) -> Option<Duration> {
        let text = self.text(key, value)?;
        let duration = parse_duration(&text).filter(|duration| *duration <= most);
        if duration.is_none() {
            let most = format_duration(most);
            self.add(key, format_args!("must be a duration such as 30s, at most {most}"));
        }
        duration
    }

    /// What was read, if nothing at all was wrong.
    pub(super) fn keep<T, E: ToString>(mut self, read: Result<T, Vec<E>>) -> Result<T, Problem> {
        match read {
            Ok(value) => self.check().map(|()| value),
            Err(found) => {
                self.0.extend(found.iter().map(ToString::to_string));
                Err(Problem::invalid(self.0))
            }
        }
    }

    /// # Errors
    /// When anything was wrong.
    pub(super) fn check(self) -> Result<(), Problem> {
        if self.0.is_empty() { Ok(()) } else { Err(Problem::invalid(self.0)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn if_match(values: &[&'static str]) -> Result<IfMatch, Problem> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::IF_MATCH, HeaderValue::from_static(value));
        }
        IfMatch::of(&headers)
    }

    #[test]
    fn if_match_lists_revisions() {
        assert_eq!(if_match(&[]).unwrap(), IfMatch::Any);
        assert_eq!(if_match(&["*"]).unwrap(), IfMatch::Any);
        assert_eq!(if_match(&["\"41\""]).unwrap(), IfMatch::Revisions(vec![41]));
        let two = if_match(&["\"1\", \"2\"", "\"3\""]).unwrap();
        assert_eq!(two, IfMatch::Revisions(vec![1, 2, 3]));
        assert_eq!(two.revision(2).unwrap(), Some(2));
        assert_eq!(two.revision(9).unwrap(), Some(3));
        assert!(two.check(2).is_ok() && two.check(9).is_err());
        assert!(if_match(&["41"]).is_err());
    }

    #[test]
    fn a_weak_or_foreign_tag_matches_no_revision() {
        for tag in ["W/\"41\"", "\"abc\"", "\"\""] {
            let parsed = if_match(&[tag]).unwrap();
            assert_eq!(parsed, IfMatch::Revisions(vec![]), "{tag}");
            assert!(parsed.revision(41).is_err());
        }
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let mut errors = Errors::default();
        let common = serde_json::from_str(r#"{"cause": 1, "force": "yes"}"#).unwrap();
        let asked = Asked {
            wait: Some("soon".into()),
            wait_healthy: Some("2h".into()),
            unknown: IndexMap::from([("dryrun".into(), "true".into())]),
            ..Asked::default()
        };
        asked.conditions(common, &mut errors);
        let keys: Vec<&str> = errors.0.iter().filter_map(|e| e.split(':').next()).collect();
        assert_eq!(keys, ["dryrun", "wait", "cause", "force", "wait_healthy"]);
    }
}
