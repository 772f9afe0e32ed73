use super::{Failure, Format, Global, output};
use reqwest::{Method, RequestBuilder, Url};
use serde_json::Value;
use std::{path::Path, time::Duration};

/// Opening the connection alone.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Speaks to the admin API.
pub(super) struct Client {
    http: reqwest::Client,
    base: Url,
    /// As the user named it.
    admin: String,
    format: Format,
    timeout: Duration,
}

impl Client {
    pub(super) fn new(global: &Global) -> Result<Self, Failure> {
        // The admin API is near; a proxy of the environment is meant for the web.
        let builder = reqwest::Client::builder().no_proxy().connect_timeout(CONNECT_TIMEOUT);
        let (builder, base) = match global.admin.strip_prefix("unix:") {
            Some(path) => (builder.unix_socket(Path::new(path)), "http://localhost".to_owned()),
            None if global.admin.contains("://") => (builder, global.admin.clone()),
            None => (builder, format!("http://{}", global.admin)),
        };
        let wrong = |why: String| {
            Failure::usage(format!(
                "--admin {}: {why}; use http://HOST:PORT or unix:PATH",
                global.admin
            ))
        };
        let base = Url::parse(&base).map_err(|error| wrong(error.to_string()))?;
        if base.scheme() != "http" {
            return Err(wrong(format!("`{}` is not supported", base.scheme())));
        }
        Ok(Self {
            http: builder.build().map_err(|error| Failure::failed(error.to_string()))?,
            base,
            admin: global.admin.clone(),
            format: global.output,
            timeout: global.timeout,
        })
    }

    /// Whether the API's own words are wanted.
    pub(super) fn json(&self) -> bool {
        self.format == Format::Json
    }

    pub(super) async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.send(self.request(Method::GET, path, &[])?, Duration::ZERO).await
    }

    /// The same with a query.
    pub(super) async fn ask(&self, path: &str, query: &[(&str, String)]) -> Result<Value, Failure> {
        self.send(self.request(Method::GET, path, query)?, Duration::ZERO).await
    }

    /// `wait`: how long the API was asked to wait before it answers.
    pub(super) async fn change(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
        body: Option<&Value>,
        wait: Duration,
    ) -> Result<Value, Failure> {
        let mut request = self.request(method, path, query)?;
        if let Some(body) = body {
            request = request.json(body);
        }
        self.send(request, wait).await
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<RequestBuilder, Failure> {
        let mut url = self.base.join(path).map_err(|error| Failure::usage(error.to_string()))?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(self.http.request(method, url))
    }

    async fn send(&self, request: RequestBuilder, wait: Duration) -> Result<Value, Failure> {
        let timeout = self.timeout.saturating_add(wait);
        let failed = |error: reqwest::Error| self.no_answer(&error, timeout);
        let response = request.timeout(timeout).send().await.map_err(failed)?;
        let status = response.status();
        let text = response.text().await.map_err(failed)?;
        let answer: Value = serde_json::from_str(&text).map_err(|_| {
            Failure::failed(format!("{} answers {status}, but not as crossfade does", self.admin))
        })?;
        if status.is_success() { Ok(answer) } else { Err(self.refused(&answer)) }
    }

    fn no_answer(&self, error: &reqwest::Error, timeout: Duration) -> Failure {
        if error.is_timeout() && !error.is_connect() {
            return Failure::gave_up(format!(
                "no answer from {} within {}; what was asked for may still happen, see `crossfade status`",
                self.admin,
                crate::config::format_duration(timeout)
            ));
        }
        Failure::out_of_reach(format!(
            "cannot reach the admin API at {}: {}; is crossfade running there? Name another place with \
             --admin or CROSSFADE_ADMIN",
            self.admin,
            root_cause(error)
        ))
    }

    fn refused(&self, problem: &Value) -> Failure {
        if self.json() {
            output::print(&format!("{problem:#}\n"));
        }
        let text = |key: &str| problem.get(key).and_then(Value::as_str).unwrap_or_default();
        let errors: Vec<&str> = problem
            .get("errors")
            .and_then(Value::as_array)
            .map(|errors| errors.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        let message = match errors.as_slice() {
            [] | [_] => text("detail").to_owned(),
            several => format!("{}:\n  {}", text("title"), several.join("\n  ")),
        };
        let Some(receipt) = problem.get("receipt") else { return Failure::failed(message) };
        // The change stands.
        if !self.json() {
            super::change::show(receipt, false);
        }
        Failure::gave_up(message)
    }
}

/// What lies at the bottom says more than the layers above it.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
