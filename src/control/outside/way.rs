use super::signature;
use crate::net;
use reqwest::{Client, Method, RequestBuilder, Response, Url, header, redirect::Policy};
use std::{error::Error, path::Path, time::Duration};
use tokio::time::timeout;

/// The way to others by HTTP/1.1: a connection for each request, straight there (no proxy of the environment), and
/// wherever they point to is not gone to. Copies share what they are made of.
#[derive(Clone, Debug)]
pub struct Outside {
    http: Client,
}

impl Outside {
    /// # Errors
    /// When this machine has no TLS.
    pub fn new() -> Result<Self, String> {
        let http = Client::builder()
            .no_proxy()
            .redirect(Policy::none())
            // It may be minutes to the next question, and a connection that has ended since would spoil that.
            .pool_max_idle_per_host(0)
            .user_agent(concat!("crossfade/", env!("CARGO_PKG_VERSION")))
            .tls_backend_preconfigured(net::config_for_others().map_err(|e| e.to_string())?)
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self { http })
    }

    pub(super) fn get(&self, url: Url) -> RequestBuilder {
        self.http.request(Method::GET, url)
    }

    /// Sends JSON, signed by what is in `key_file`, and returns the status of the answer.
    pub(super) async fn post(
        &self,
        url: &str,
        key_file: Option<&Path>,
        id: Option<&str>,
        body: Vec<u8>,
        patience: Duration,
    ) -> Result<u16, String> {
        within(patience, async {
            let url = Url::parse(url).map_err(|error| error.to_string())?;
            let mut request = self.http.request(Method::POST, url);
            request = request.header(header::CONTENT_TYPE, "application/json");
            if let Some(id) = id {
                request = request.header("idempotency-key", id);
            }
            if let Some(file) = key_file {
                request = request.headers(signature::of_now(file, &body).await?);
            }
            let response = request.body(body).send().await.map_err(|error| words(&error))?;
            let status = response.status().as_u16();
            // What it says does not matter, but whoever says it may not like to be cut off.
            let _ = content(response, LONGEST_WORDS).await;
            Ok(status)
        })
        .await
    }
}

/// Of an answer that only its status is wanted of.
const LONGEST_WORDS: usize = 64 << 10;

/// What `asking` comes to, if it does in time.
pub(super) async fn within<T>(
    patience: Duration,
    asking: impl Future<Output = Result<T, String>>,
) -> Result<T, String> {
    let answer = timeout(patience, asking).await;
    answer.unwrap_or_else(|_| Err(format!("no answer within {patience:?}")))
}

/// The body of an answer, `longest` bytes at most.
pub(super) async fn content(mut response: Response, longest: usize) -> Result<Vec<u8>, String> {
    let mut content = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| words(&error))? {
        if content.len() + chunk.len() > longest {
            return Err(format!("the answer is longer than {longest} bytes"));
        }
        content.extend_from_slice(&chunk);
    }
    Ok(content)
}

/// Why there is no answer: its innermost cause, since what is around it repeats the URL, which may be a secret.
pub(super) fn words(error: &reqwest::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let what = if error.is_connect() { "no connection" } else { "no answer" };
    match cause.downcast_ref::<reqwest::Error>() {
        // There is nothing below it.
        Some(_) => what.to_owned(),
        None => format!("{what}: {cause}"),
    }
}
