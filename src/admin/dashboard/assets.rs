use crate::admin::problem::Problem;
use aws_lc_rs::digest::{SHA256, digest};
use axum::{
    extract::Path,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use std::{collections::HashMap, sync::LazyLock};

/// Where the parts of the page are.
pub(in crate::admin) const ASSET: &str = "/assets/{name}";

const FOLDER: &str = "/assets/";

/// Everything comes from here, nothing is written into the page, no other page shows it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
const SVG: &str = "image/svg+xml";
const SCRIPT: &str = "text/javascript; charset=utf-8";

struct Asset {
    kind: &'static str,
    bytes: &'static [u8],
    /// Says when it is another one.
    tag: HeaderValue,
}

macro_rules! assets {
    ($($name:literal: $kind:expr),* $(,)?) => {
        [$(($name, Asset::new($kind, include_bytes!(concat!("assets/", $name))))),*]
    };
}

static PAGE: LazyLock<Asset> =
    LazyLock::new(|| Asset::new(HTML, include_bytes!("assets/index.html")));

static ASSETS: LazyLock<HashMap<&str, Asset>> = LazyLock::new(|| {
    HashMap::from(assets! {
        "acts.js": SCRIPT,
        "api.js": SCRIPT,
        "app.css": CSS,
        "app.js": SCRIPT,
        "aside.js": SCRIPT,
        "chart.js": SCRIPT,
        "dialog.js": SCRIPT,
        "format.js": SCRIPT,
        "icon.svg": SVG,
        "licences.txt": TEXT,
        "parts.js": SCRIPT,
        "preact.js": SCRIPT,
        "rollout.js": SCRIPT,
        "series.js": SCRIPT,
        "service.js": SCRIPT,
        "store.js": SCRIPT,
    })
});

impl Asset {
    fn new(kind: &'static str, bytes: &'static [u8]) -> Self {
        let sum = digest(&SHA256, bytes);
        let hex: String = sum.as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        let tag = HeaderValue::try_from(format!("\"{hex}\"")).expect("hexadecimal digits");
        Self { kind, bytes, tag }
    }

    /// RFC 9110 section 13.1.2: nothing, to who has it already.
    fn answer(&self, headers: &HeaderMap) -> Response {
        let common = [
            (header::ETAG, self.tag.clone()),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        ];
        if is_known(headers, &self.tag) {
            return (StatusCode::NOT_MODIFIED, common).into_response();
        }
        let kind = HeaderValue::from_static(self.kind);
        (common, [(header::CONTENT_TYPE, kind)], self.bytes).into_response()
    }
}

fn is_known(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    let known = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|it| it.to_str().ok());
    let mut tags = known.flat_map(|value| value.split(',')).map(str::trim);
    tags.any(|known| known == "*" || tag == known.strip_prefix("W/").unwrap_or(known))
}

/// Whether it is a part of the page, which holds nothing that somebody must not see.
pub(in crate::admin) fn is_asset(path: &str) -> bool {
    let name = path.strip_prefix(FOLDER);
    path == "/" || name.is_some_and(|name| !name.is_empty() && !name.contains('/'))
}

/// The dashboard. What it shows is asked for with a token, where one is needed.
#[utoipa::path(get, path = "/", tag = "look", responses(
    (status = 200, body = String, content_type = "text/html; charset=utf-8"),
    (status = 304, description = "The one that `If-None-Match` names"),
))]
pub(in crate::admin) async fn page(headers: HeaderMap) -> Response {
    let mut response = PAGE.answer(&headers);
    let policies = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ];
    for (name, value) in policies {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// A part of the page.
pub(in crate::admin) async fn asset(
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let asset = ASSETS.get(&*name);
    let asset = asset.ok_or_else(|| Problem::not_found("the dashboard has no such part"))?;
    Ok(asset.answer(&headers))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LICENCES: &str = "licences.txt";

    #[test]
    fn who_has_it_is_told_so() {
        let asset = Asset::new(CSS, b"body {}");
        let tag = asset.tag.to_str().unwrap().to_owned();
        let status = |known: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_NONE_MATCH, HeaderValue::from_str(known).unwrap());
            asset.answer(&headers).status()
        };
        for known in [tag.clone(), format!("W/{tag}"), format!("\"x\", {tag}"), "*".into()] {
            assert_eq!(status(&known), StatusCode::NOT_MODIFIED, "{known}");
        }
        for other in ["\"x\"", "", tag.trim_matches('"')] {
            assert_eq!(status(other), StatusCode::OK, "{other}");
        }
        assert_eq!(asset.answer(&HeaderMap::new()).status(), StatusCode::OK);
    }

    #[test]
    fn every_part_that_the_page_names_is_there_and_nothing_comes_from_elsewhere() {
        let text = |asset: &Asset| std::str::from_utf8(asset.bytes).unwrap().to_owned();
        let mut named = 0;
        let parts = ASSETS.iter().filter(|(name, _)| **name != LICENCES).map(|(_, asset)| asset);
        for page in parts.chain([&*PAGE]).map(text) {
            for rest in page.split("\"/assets/").skip(1).chain(page.split("from \"./").skip(1)) {
                let name = rest.split('"').next().unwrap();
                assert!(ASSETS.contains_key(name), "{name}");
                named += 1;
            }
            // A name space is none that is asked for.
            let page = page.replace("http://www.w3.org/", "");
            assert!(!page.contains("http://") && !page.contains("https://"));
            assert!(!page.contains("@import") && !page.contains("url("));
        }
        assert!(named > ASSETS.len(), "this test would be blind");
        assert!(!text(&PAGE).contains("<style") && !text(&PAGE).contains("style="));
    }

    #[test]
    fn what_others_have_written_is_what_its_licences_say() {
        let sum = digest(&SHA256, ASSETS["preact.js"].bytes);
        let hex: String = sum.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let told = std::str::from_utf8(ASSETS[LICENCES].bytes).unwrap();
        assert!(told.contains(&format!("SHA-256 {hex}")), "{hex}");
    }
}
