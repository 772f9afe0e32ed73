use std::sync::Arc;

/// What a request must look like. Everything that is named must hold; an empty match holds always.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Match {
    /// Any of these; empty: any host, and requests without one.
    pub hosts: Vec<HostPattern>,
    pub path: PathMatch,
    /// Any of these, as spelled on the wire; empty: any method.
    pub methods: Vec<Arc<str>>,
    pub headers: Vec<FieldMatch>,
    pub cookies: Vec<FieldMatch>,
    pub query: Vec<FieldMatch>,
}

/// Host names are lower case and without a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    Exact(Arc<str>),
    /// `*.example.com`: any name with one or more labels before `example.com` (kept without `*.`).
    Suffix(Arc<str>),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PathMatch {
    #[default]
    Any,
    Exact(Arc<str>),
    /// By whole segments: `/a` holds for `/a` and `/a/b`, not for `/ab`. Kept without a trailing slash;
    /// `/` is the empty prefix.
    Prefix(Arc<str>),
    /// The whole path must match.
    Regex(Pattern),
}

/// One header, cookie or query parameter. Header names are lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldMatch {
    pub name: Arc<str>,
    pub value: ValueMatch,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueMatch {
    Exact(Arc<str>),
    /// The whole value must match.
    Regex(Pattern),
    Present,
}

/// A regular expression that must match a whole text. Equal when written the same.
#[derive(Clone, Debug)]
pub struct Pattern {
    source: Arc<str>,
    regex: regex::Regex,
}

impl Pattern {
    /// # Errors
    /// When `source` is no regular expression or compiles to more than 64 KiB.
    pub fn new(source: &str) -> Result<Self, regex::Error> {
        // By itself first: `a)|(b` would be made whole by what is put around it.
        regex::RegexBuilder::new(source).size_limit(64 << 10).build()?;
        let regex = regex::RegexBuilder::new(&anchored(source)).size_limit(64 << 10).build()?;
        Ok(Self { source: source.into(), regex })
    }

    /// The regular expression that holds for a text when this pattern does: for sets of patterns.
    pub fn anchored(&self) -> String {
        anchored(&self.source)
    }

    /// As it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    pub fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }
}

fn anchored(source: &str) -> String {
    format!("^(?:{source})$")
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Pattern {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_whole_texts_only() {
        let pattern = Pattern::new("/a|/b[0-9]+").unwrap();
        assert!(pattern.is_match("/a") && pattern.is_match("/b12"));
        assert!(!pattern.is_match("/ab") && !pattern.is_match("x/a") && !pattern.is_match("/b1\n"));
        assert!(Pattern::new("(").is_err());
        assert!(Pattern::new("a)|(b").is_err(), "not a pattern by itself");
        assert!(Pattern::new("(a{1000}){1000}").is_err(), "too large");
    }
}
