//! What a change would do, before anybody makes it.

use super::{
    Admin,
    body::Document,
    change::make_of_document,
    conditions::{Asked, Common, Errors},
    steer::{Answer, Answers, BodyAnswers, read_config},
};
use crate::control::{self, Command};
use axum::extract::State;
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// Where requests such as those of the last hour would go. It is taken from up to 1,000 of them for each service, of
/// which nothing is kept but what routes, pins and stickiness read.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PreviewView {
    #[serde(flatten)]
    all: ForecastView,
    /// Those of which something would go elsewhere or nowhere.
    services: Vec<ServiceForecast>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ServiceForecast {
    service: String,
    #[serde(flatten)]
    forecast: ForecastView,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ForecastView {
    /// Requests of the last hour, about.
    requests: u64,
    /// Those of them that were looked at.
    samples: usize,
    /// The share, 0 to 1, that another pool or service would answer.
    elsewhere: f64,
    /// The share, 0 to 1, that nobody would answer.
    nowhere: f64,
    /// Some of those that nobody would answer: method, host and path.
    examples: Vec<String>,
}

impl From<&control::Preview> for PreviewView {
    fn from(preview: &control::Preview) -> Self {
        let services = preview.services.iter().map(|(service, forecast)| ServiceForecast {
            service: service.to_string(),
            forecast: forecast.into(),
        });
        Self { all: (&preview.all).into(), services: services.collect() }
    }
}

impl From<&control::Forecast> for ForecastView {
    fn from(forecast: &control::Forecast) -> Self {
        // Shares of a sample: more digits would only look as if they were known.
        let rounded = |share: f64| (share * 1e4).round() / 1e4;
        Self {
            requests: forecast.requests.round() as u64,
            samples: forecast.samples,
            elsewhere: rounded(forecast.elsewhere),
            nowhere: rounded(forecast.nowhere),
            examples: forecast.examples.clone(),
        }
    }
}

/// What a reload would do if this were the configuration file: changes nothing.
#[utoipa::path(post, path = "/v1/plan", tag = "look",
    params(Asked), request_body(content = ref("#/components/schemas/Config")), responses(Answers, BodyAnswers))]
pub(super) async fn plan(
    State(admin): State<Arc<Admin>>,
    asked: Asked,
    Document(text): Document,
) -> Answer {
    let mut errors = Errors::default();
    let mut conditions = asked.conditions(Common::default(), &mut errors);
    conditions.dry_run = true;
    let (file, warnings) = read_config(&text, errors)?;
    make_of_document(&admin, Command::Load { file }, conditions, warnings).await
}
