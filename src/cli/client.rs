use super::{Failure, Format, Global, client_tls, output};
use reqwest::{
    Method, RequestBuilder, StatusCode, Url,
    header::{AUTHORIZATION, HeaderMap, HeaderValue},
    redirect::Policy,
};
use rustls::CertificateError;
use serde_json::Value;
use std::{path::Path, time::Duration};

/// Opening the connection alone.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// For an answer, unless the user says otherwise.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Speaks to the admin API.
pub(super) struct Client {
    http: reqwest::Client,
    base: Url,
    /// As the user named it.
    admin: String,
    format: Format,
    timeout: Duration,
    /// As the user said.
    patience: Option<Duration>,
    /// Shows who asks.
    has_token: bool,
}

impl Client {
    pub(super) fn new(global: &Global) -> Result<Self, Failure> {
        // The admin API is near; a proxy of the environment is meant for the web.
        // It leads nobody elsewhere either, least of all a token.
        let builder = reqwest::Client::builder()
            .no_proxy()
            .redirect(Policy::none())
            .connect_timeout(CONNECT_TIMEOUT);
        let token = token(global)?;
        let has_token = token.is_some();
        let builder = match token {
            Some(token) => builder.default_headers(HeaderMap::from_iter([(AUTHORIZATION, token)])),
            None => builder,
        };
        let (builder, base) = match global.admin.strip_prefix("unix:") {
            Some(path) => (builder.unix_socket(Path::new(path)), "http://localhost".to_owned()),
            None if global.admin.contains("://") => (builder, global.admin.clone()),
            None => (builder, format!("http://{}", global.admin)),
        };
        let wrong = |why: String| {
            Failure::usage(format!(
                "--admin {}: {why}; use http://HOST:PORT, https://HOST:PORT or unix:PATH",
                global.admin
            ))
        };
        let base = Url::parse(&base).map_err(|error| wrong(error.to_string()))?;
        let speaks_tls = base.scheme() == "https";
        if !speaks_tls && base.scheme() != "http" {
            return Err(wrong(format!("`{}` is not supported", base.scheme())));
        }
        let is_unix = global.admin.starts_with("unix:");
        if !speaks_tls && !is_unix && (global.ca.is_some() || global.cert.is_some()) {
            return Err(wrong("--ca, --cert and --key are for https".to_owned()));
        }
        let builder = builder.tls_backend_preconfigured(client_tls::config(global, speaks_tls)?);
        Ok(Self {
            http: builder.build().map_err(|error| Failure::failed(error.to_string()))?,
            base,
            admin: global.admin.clone(),
            format: global.output,
            timeout: global.timeout.unwrap_or(ANSWER_TIMEOUT),
            patience: global.timeout,
            has_token,
        })
    }

    /// Whether the API's own words are wanted.
    pub(super) fn json(&self) -> bool {
        self.format == Format::Json
    }

    /// How long to wait for something that takes as long as it takes; `None`: until it is there.
    pub(super) fn patience(&self) -> Option<Duration> {
        self.patience
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
        match status {
            _ if status.is_success() => Ok(answer),
            StatusCode::UNAUTHORIZED => Err(self.unknown(&answer)),
            _ => Err(self.refused(&answer)),
        }
    }

    fn unknown(&self, problem: &Value) -> Failure {
        if self.json() {
            output::print(&format!("{problem:#}\n"));
        }
        Failure::failed(if self.has_token {
            format!(
                "{} does not know the token; it may have been replaced: look at --token-file or \
                 CROSSFADE_TOKEN, and at admin.tokens there",
                self.admin
            )
        } else {
            format!(
                "{} wants a token; name its file with --token-file, or set CROSSFADE_TOKEN",
                self.admin
            )
        })
    }

    fn no_answer(&self, error: &reqwest::Error, timeout: Duration) -> Failure {
        if error.is_timeout() && !error.is_connect() {
            return Failure::gave_up(format!(
                "no answer from {} within {}; what was asked for may still happen, see `crossfade status`",
                self.admin,
                crate::config::format_duration(timeout)
            ));
        }
        let cause = root_cause(error);
        if let Some(error) = tls_error(error) {
            return Failure::out_of_reach(format!(
                "no TLS with the admin API at {}: {error}; {}",
                self.admin,
                tls_help(error)
            ));
        }
        Failure::out_of_reach(format!(
            "cannot reach the admin API at {}: {}; is crossfade running there? Name another place with \
             --admin or CROSSFADE_ADMIN",
            self.admin, cause
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

/// What shows who asks, as the header has it.
fn token(global: &Global) -> Result<Option<HeaderValue>, Failure> {
    let (token, place) = match &global.token_file {
        Some(file) => {
            let token = std::fs::read_to_string(file).map_err(|error| {
                Failure::usage(format!("the token in {} cannot be read: {error}", file.display()))
            })?;
            (token, file.display().to_string())
        }
        None => match std::env::var("CROSSFADE_TOKEN") {
            Ok(token) if !token.trim().is_empty() => (token, "CROSSFADE_TOKEN".to_owned()),
            _ => return Ok(None),
        },
    };
    let token = token.trim();
    let good = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    let value = good.then(|| HeaderValue::try_from(format!("Bearer {token}")).ok()).flatten();
    let Some(mut value) = value else {
        return Err(Failure::usage(format!(
            "there is no token in {place}: it is one word of visible ASCII characters"
        )));
    };
    value.set_sensitive(true);
    Ok(Some(value))
}

/// What lies at the bottom says more than the layers above it.
fn root_cause(error: &reqwest::Error) -> &(dyn std::error::Error + 'static) {
    let mut cause: &(dyn std::error::Error + 'static) = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause
}

/// What TLS says, which is within what the socket says.
fn tls_error(error: &reqwest::Error) -> Option<&rustls::Error> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref() {
            return Some(tls);
        }
        next = match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(within) => Some(within),
            None => error.source(),
        };
    }
    None
}

fn tls_help(error: &rustls::Error) -> &'static str {
    match error {
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "ask for a name that its certificate has",
        rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => "name who vouches for it with --ca",
        rustls::Error::InvalidCertificate(_) => "its certificate is not good",
        rustls::Error::AlertReceived(_) => {
            "it may not like the certificate of --cert: look at admin.client_ca there"
        }
        _ => "it may not speak TLS: then use http://",
    }
}
