//! THE TABLE OF KEYS. Reader, schema and reference are made from it, so they cannot differ: `section!`
//! turns each entry into a line of the table and into a field of a struct that
//! [`Kind::read`](super::reader::Kind::read) fills. A key that is not in the table has no field to be
//! read from; one that nobody uses is a field that is never read, which the compiler reports.

mod admin;
mod listener;
mod rollout;
mod route;
mod service;
mod top;

pub(super) use admin::{
    AdminLimitsSection, AdminTls, AuditSection, ClientRoleSection, RoleKind, TokenSection,
    UnixRoleSection,
};
pub(super) use listener::{
    CertificateSection, ClientAuth, ClientAuthKind, Listener, ListenerLimits, ListenerTimeouts,
    ListenerTls, Protocol, ProxyProtocolKind, TlsVersionKind, Traceparent,
};
pub(super) use rollout::{
    ApprovalKind, FailureActionKind, FirstTouch, GateTimeKind, Gates, HookEventKind, HookSection,
    OnFailureKind, OnInconclusiveKind, PrometheusSection, Rolling, RollingOrderKind, Rollout,
    SensitivityKind, Step, StrategyKind, WebhookSection,
};
pub(super) use route::{RewriteSection, Route, RouteTimeouts};
pub(super) use service::{
    BackendSection, BalanceKind, Conditions, Ejection, HealthCheck, Mirror, Pin, Pool,
    PoolProtocolKind, PoolTls, ProxyVersionKind, Rescue, RescueCause, Retries, RetryCause, Service,
    ServiceLimits, ServiceTimeouts, Sticky, UnhealthyPoolKind, ValueMatchSection,
};
pub(super) use top::{
    AccessLogSection, Acme, Admin, ChallengeKind, FamiliesKind, File, LogFormatKind, Resolver,
    State, TracingSection,
};

/// A raw identifier without its `r#`.
const fn bare(identifier: &'static str) -> &'static str {
    match identifier.as_bytes() {
        [b'r', b'#', ..] => identifier.split_at(2).1,
        _ => identifier,
    }
}

/// Lines of `KEY: KIND, PRESENCE, example YAML, meaning`.
macro_rules! section {
    (
        $name:ident, $about:literal,
        {
            $($field:ident: $kind:ty, $presence:expr, example $example:literal, $meaning:literal;)*
        }
    ) => {
        pub(in crate::config) struct $name {
            $(pub(in crate::config) $field:
                $crate::config::reader::Field<<$kind as $crate::config::reader::Kind>::Value>,)*
        }

        impl $name {
            pub(in crate::config) const SECTION: $crate::config::shape::Section =
                $crate::config::shape::Section {
                    name: stringify!($name),
                    meaning: $about,
                    keys: &[
                        $($crate::config::shape::Key {
                            name: $crate::config::keys::bare(stringify!($field)),
                            shape: <$kind as $crate::config::reader::Kind>::SHAPE,
                            presence: {
                                #[allow(unused_imports, reason = "not each section uses each")]
                                use $crate::config::shape::Presence::{Absent, Default, Required};
                                $presence
                            },
                            example: $example,
                            meaning: $meaning,
                        },)*
                    ],
                };
        }

        impl $crate::config::reader::Kind for $name {
            type Value = Self;
            const SHAPE: $crate::config::shape::Shape =
                $crate::config::shape::Shape::Section(&Self::SECTION);

            fn read(
                reader: &mut $crate::config::reader::Reader<'_>,
                node: $crate::config::tree::NodeId,
            ) -> Option<Self> {
                let members = reader.section(node, &Self::SECTION)?;
                Some(Self {
                    $($field: reader.field::<$kind>(
                        &members,
                        $crate::config::keys::bare(stringify!($field)),
                    ),)*
                })
            }
        }
    };
}
use section;
use service::matching_section;
