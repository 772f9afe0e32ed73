//! The kinds of values: how each is described, checked and made.

mod acme;
mod address;
mod matching;
mod number;
mod observing;
mod part;
mod route;
mod several;
mod text;
mod url;

pub(super) use acme::{Contact, DirectoryUrl, HostsOfOne};
pub(super) use address::{
    AdminAddressKind, AdminHost, BackendAddressKind, ListenAddress, Nameserver, Network,
};
pub(super) use matching::{
    CookieName, HeaderName, Host, Method, ParameterName, Regex, UrlPath, ValuePattern,
};
pub(super) use number::{Bytes, Count, Flag, Percent, Span, Weighting};
pub(super) use observing::{LogFieldKind, LogTargetKind, SampleKind, Target as LogTargetPath};
pub(super) use part::{Decimal, Growth, OffOr, Part, Quantile};
pub(super) use route::{
    FieldValue, RedirectCodeKind, RedirectUrlKind, RequestField, ResponseField, RewritePath,
};
pub(super) use several::{ListOf, MapOf, Named, SetOf};
pub(super) use text::{FilePath, Label, NameKind, QueryText, Target};
pub(super) use url::HttpUrl;

/// A kind of a few words, each with the value it means.
macro_rules! choice {
    ($name:ident -> $value:ty { $($word:literal => $meant:expr),+ $(,)? }) => {
        pub(in crate::config) struct $name;

        impl $name {
            const WORDS: &'static [&'static str] = &[$($word),+];

            /// The word for `value`.
            #[allow(dead_code, reason = "some choices are never written back")]
            pub(in crate::config) fn word(value: &$value) -> &'static str {
                $(if *value == $meant { return $word; })+
                Self::WORDS[0]
            }
        }

        impl $crate::config::reader::ScalarKind for $name {
            type Value = $value;
            const FORM: $crate::config::shape::Shape =
                $crate::config::shape::Shape::Choice(Self::WORDS);

            fn parse(
                scalar: &$crate::config::reader::Scalar<'_>,
            ) -> Result<$value, $crate::config::reader::Wrong> {
                match &*scalar.text {
                    $($word => Ok($meant),)+
                    other => Err($crate::config::kinds::not_a_choice(other, Self::WORDS)),
                }
            }
        }
    };
}
pub(super) use choice;

use super::{problem::quote, reader::Wrong, suggest};

pub(super) fn not_a_choice(given: &str, words: &[&'static str]) -> Wrong {
    let all = suggest::list(words.iter().copied());
    let fix = match suggest::nearest(given, words.iter().copied()) {
        Some(near) if words.len() > 1 => format!("did you mean `{near}`? Use one of {all}"),
        _ => format!("use one of {all}"),
    };
    Wrong::because(format!("{} is not known here", quote(given)), fix)
}
