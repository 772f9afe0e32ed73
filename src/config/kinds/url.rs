use super::super::{
    reader::{Scalar, ScalarKind, Wrong},
    shape::Shape,
};
use http::Uri;
use std::sync::Arc;

/// Who is asked or told something by HTTP.
pub(in crate::config) struct HttpUrl;

impl ScalarKind for HttpUrl {
    type Value = Arc<str>;
    const FORM: Shape = Shape::Text {
        what: "a URL by http or https",
        hint: "use a URL such as `http://127.0.0.1:8000/hook`, without user and fragment",
    };

    fn parse(scalar: &Scalar<'_>) -> Result<Arc<str>, Wrong> {
        const LONGEST: usize = 2048;
        let text = &*scalar.text;
        let uri: Uri = text.parse().map_err(|_| Wrong::Kind)?;
        let authority = uri.authority().ok_or(Wrong::Kind)?;
        if authority.as_str().contains('@') {
            return Err(Wrong::because(
                "a user or a password in the URL would be seen by everybody who looks",
                Self::FORM.hint(),
            ));
        }
        let has_port =
            authority.as_str().rsplit_once(']').map_or(authority.as_str(), |it| it.1).contains(':');
        let good = matches!(uri.scheme_str(), Some("http" | "https"))
            && !authority.host().is_empty()
            && (!has_port || authority.port_u16().is_some_and(|port| port != 0))
            && !text.contains('#')
            && text.len() <= LONGEST;
        if good { Ok(text.into()) } else { Err(Wrong::Kind) }
    }
}
