//! What a route changes in the messages that pass, compiled.

use crate::spec::{FieldChanges, Forward, Match, Name, PathMatch};

/// Header fields that are taken out, and those that are put in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldEdits {
    removed: Vec<Name>,
    /// Names in lower case, and values.
    pub added: Vec<(Name, Name)>,
}

impl FieldEdits {
    /// `None` when nothing is changed.
    pub(super) fn new(changes: &FieldChanges) -> Option<Self> {
        if changes.is_empty() {
            return None;
        }
        let set = changes.set.iter().map(|(name, _)| name);
        Some(Self {
            removed: changes.remove.iter().chain(set).cloned().collect(),
            added: changes.set.iter().chain(&changes.add).cloned().collect(),
        })
    }

    /// Whether a field of this name (in any case) stays behind. Many backends cannot tell `-` from `_` (CGI
    /// turns one into the other), so here they are the same: else a client could send what is set here.
    pub fn removes(&self, name: &[u8]) -> bool {
        self.removed.iter().any(|removed| is_same_field(removed.as_bytes(), name))
    }
}

/// Whether two names are of one field for who takes `_` for `-`.
pub fn is_same_field(one: &[u8], other: &[u8]) -> bool {
    let folded = |byte: u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    one.len() == other.len() && one.iter().zip(other).all(|(a, b)| folded(*a) == folded(*b))
}

/// What takes the place of the beginning of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathRewrite {
    /// Bytes of the prefix that the route has matched.
    cut: usize,
    /// Without a trailing slash.
    prefix: Name,
}

impl PathRewrite {
    /// `None` when nothing is changed, or there is no prefix that could be.
    pub(super) fn new(matches: &Match, forward: &Forward) -> Option<Self> {
        let (PathMatch::Prefix(from), Some(rewrite)) = (&matches.path, &forward.rewrite) else {
            return None;
        };
        let prefix = rewrite.prefix.clone();
        (*from != prefix).then_some(Self { cut: from.len(), prefix })
    }

    /// A path that the route has matched as the backend gets it, in two parts. All but the prefix is as it
    /// came.
    pub fn of<'a>(&'a self, path: &'a str) -> (&'a str, &'a str) {
        match (&*self.prefix, path.get(self.cut..).unwrap_or_default()) {
            ("", "") => ("/", ""),
            parts => parts,
        }
    }

    /// The path would begin with two slashes where it began with one: a backend that sends clients on to what
    /// they asked for (with a slash behind it, say) would name a host that the client has made up.
    pub fn is_unsafe(&self, path: &str) -> bool {
        let (prefix, rest) = self.of(path);
        prefix.is_empty() && rest.starts_with("//") && self.cut > 0
    }
}

/// The target that the backend gets: the path, with its prefix replaced if so, and the query as it came.
pub fn target(rewrite: Option<&PathRewrite>, path: &str, query: Option<&str>) -> String {
    let (start, rest) = rewrite.map_or((path, ""), |rewrite| rewrite.of(path));
    match query {
        Some(query) => format!("{start}{rest}?{query}"),
        None => format!("{start}{rest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_takes_the_place_of_what_there_is() {
        let pair = |name: &str, value: &str| (Name::from(name), Name::from(value));
        let changes = FieldChanges {
            set: vec![pair("x-team", "a")],
            add: vec![pair("x-tag", "b")],
            remove: vec!["x-debug".into()],
        };
        let edits = FieldEdits::new(&changes).unwrap();
        for removed in ["x-team", "X-Team", "x_team", "X-DEBUG", "x_Debug"] {
            assert!(edits.removes(removed.as_bytes()), "{removed}");
        }
        for kept in ["x-tag", "x-teams", "x-tea", "xxteam"] {
            assert!(!edits.removes(kept.as_bytes()), "{kept}");
        }
        assert_eq!(edits.added, [pair("x-team", "a"), pair("x-tag", "b")]);
        assert!(FieldEdits::new(&FieldChanges::default()).is_none());
    }

    #[test]
    fn a_prefix_is_replaced_and_the_rest_stays_raw() {
        let rewrite = |from: &str, to: &str| {
            let matches = Match { path: PathMatch::Prefix(from.into()), ..Match::default() };
            let mut forward = Forward::to("s".into());
            forward.rewrite = Some(crate::spec::Rewrite { prefix: to.into() });
            PathRewrite::new(&matches, &forward)
        };
        for (from, to, path, sent) in [
            ("/a", "", "/a", "/"),
            ("/a", "", "/a/", "/"),
            ("/a", "", "/a/b%2fc;d//e", "/b%2fc;d//e"),
            ("/a", "/b", "/a", "/b"),
            ("/a", "/b", "/a/", "/b/"),
            ("/a/c", "/b", "/a/c/d", "/b/d"),
            ("", "/b", "/", "/b/"),
            ("", "/b", "/x", "/b/x"),
            ("", "/b", "//x", "/b//x"),
        ] {
            let rewrite = rewrite(from, to).unwrap();
            let (start, rest) = rewrite.of(path);
            assert_eq!(format!("{start}{rest}"), sent, "{from} {to} {path}");
            assert!(!rewrite.is_unsafe(path));
        }
        assert!(rewrite("/a", "").unwrap().is_unsafe("/a//evil.example"));
        assert!(!rewrite("/a", "/b").unwrap().is_unsafe("/a//x"));
        assert!(rewrite("/a", "/a").is_none() && rewrite("", "").is_none());
    }
}
