//! What is written down of each request: a line in the access log, the spans of a trace.

use super::{Name, Share};
use std::{path::Path, sync::Arc};

/// A line for each request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLog {
    pub to: LogTarget,
    pub format: LogFormat,
    /// What a line has, in this order.
    pub fields: Vec<LogField>,
    /// How many of the requests that went well get one.
    pub sample: Share,
    /// Lines that may wait to be written, for each core.
    pub queue: u32,
}

impl AccessLog {
    pub const QUEUE: u32 = 8192;

    pub fn new(to: LogTarget) -> Self {
        Self {
            to,
            format: LogFormat::default(),
            fields: LogField::by_default(),
            sample: Share::ALL,
            queue: Self::QUEUE,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    Stdout,
    Stderr,
    File(Arc<Path>),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    #[default]
    Json,
    /// `key=value`, for people.
    Text,
}

/// What a line may say of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LogField {
    Plain(PlainField),
    /// A field of its head by this name, in lower case.
    Header(Name),
}

macro_rules! plain_fields {
    ($($name:ident $word:literal,)+) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum PlainField { $($name),+ }

        impl PlainField {
            pub const ALL: &[Self] = &[$(Self::$name),+];

            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word),+ }
            }
        }
    };
}

plain_fields! {
    Time "time",
    Service "service",
    Route "route",
    Pool "pool",
    Version "version",
    Backend "backend",
    ChosenBy "chosen_by",
    Attempts "attempts",
    Failed "failed",
    Rescued "rescued",
    Client "client",
    Protocol "protocol",
    Method "method",
    Host "host",
    Path "path",
    Query "query",
    Status "status",
    Fault "fault",
    Reason "reason",
    BytesIn "bytes_in",
    BytesOut "bytes_out",
    QueueMs "queue_ms",
    ConnectMs "connect_ms",
    FirstByteMs "first_byte_ms",
    TotalMs "total_ms",
    Kind "kind",
    RequestId "request_id",
    TraceId "trace_id",
}

/// Parts of names of fields whose values let somebody in.
const SECRET: [&str; 13] = [
    "apikey",
    "authentic",
    "authoriz",
    "cookie",
    "credential",
    "csrf",
    "jwt",
    "passw",
    "secret",
    "session",
    "signature",
    "token",
    "xsrf",
];

/// Whether a value of this name, in any case, may be one that lets somebody in.
pub fn may_be_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET.iter().any(|part| name.contains(part))
        || name.ends_with("auth")
        || (name.ends_with("key") && name != "idempotency-key")
        // What OAuth and signed URLs call theirs, and what a certificate says of a person.
        || matches!(&*name, "code" | "sig" | "pwd" | "x-forwarded-client-cert")
}

impl LogField {
    /// All but the query, which may hold what is nobody's business.
    pub fn by_default() -> Vec<Self> {
        let all = PlainField::ALL.iter().copied();
        all.filter(|field| *field != PlainField::Query).map(Self::Plain).collect()
    }

    /// The name of the field that it shows.
    pub fn header(&self) -> Option<&Name> {
        match self {
            Self::Header(name) => Some(name),
            Self::Plain(_) => None,
        }
    }
}

/// Spans of requests, sent to a collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracing {
    /// Where OTLP is taken by HTTP: its base, without `/v1/traces`.
    pub otlp: Arc<str>,
    /// How many of the traces that begin here are recorded.
    pub sample: Share,
    /// Requests that may wait to be sent, for each core.
    pub queue: u32,
}

impl Tracing {
    pub const QUEUE: u32 = 2048;

    pub fn new(otlp: Arc<str>) -> Self {
        Self { otlp, sample: Share::ALL, queue: Self::QUEUE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lets_somebody_in_is_known_by_its_name() {
        for name in ["Authorization", "proxy-authorization", "Cookie", "set-cookie", "X-Api-Key"] {
            assert!(may_be_secret(name), "{name}");
        }
        for name in
            ["access_token", "X-Amz-Signature", "sig", "code", "sessionid", "password", "x-auth"]
        {
            assert!(may_be_secret(name), "{name}");
        }
        for name in ["user-agent", "x-tenant", "author", "page", "zip_code", "keyword"] {
            assert!(!may_be_secret(name), "{name}");
        }
    }
}
