//! `${NAME}` and `${NAME:-default}` in values; `$$` is a dollar sign.

use super::problem::quote;
use std::borrow::Cow;

/// What is wrong and what would be right.
pub(super) type Complaint = (String, String);

/// Replaces the variables of `text`. A dollar sign that begins neither `${` nor `$$` stays, so that
/// regular expressions need no escapes.
pub(super) fn replace<'a>(
    text: &'a str,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Cow<'a, str>, Complaint> {
    if !text.contains('$') {
        return Ok(Cow::Borrowed(text));
    }
    let mut replaced = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        replaced.push_str(&rest[..dollar]);
        let after = &rest[dollar + 1..];
        if let Some(after) = after.strip_prefix('$') {
            replaced.push('$');
            rest = after;
        } else if let Some(after) = after.strip_prefix('{') {
            let Some((inside, after)) = after.split_once('}') else {
                return Err((
                    format!("{} has a `${{` without its `}}`", quote(text)),
                    "close it, or write `$${` for the text `${`".into(),
                ));
            };
            replaced.push_str(&variable(inside, lookup)?);
            rest = after;
        } else {
            replaced.push('$');
            rest = after;
        }
    }
    replaced.push_str(rest);
    Ok(Cow::Owned(replaced))
}

fn variable(inside: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, Complaint> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    if !is_name(name) {
        return Err((
            format!("`${{{}}}` is not a variable", quote(inside).trim_matches('`')),
            "use `${NAME}` or `${NAME:-default}`, or `$${` for the text `${`".into(),
        ));
    }
    // As in a shell, `:-` also replaces a variable that is empty.
    match (lookup(name), default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err((
            format!("the environment variable `{name}` is not set"),
            format!("set it, or give a default: `${{{name}:-default}}`"),
        )),
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// The text that [`replace`] turns into `text`.
pub(super) fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains("$$") && !text.contains("${") {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 2);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        escaped.push(c);
        if c == '$' && matches!(chars.peek(), Some('$' | '{')) {
            escaped.push('$');
        }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn environment(name: &str) -> Option<String> {
        match name {
            "PORT" => Some("8080".into()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn variables_are_replaced() {
        for (text, expected) in [
            ("plain", "plain"),
            ("0.0.0.0:${PORT}", "0.0.0.0:8080"),
            ("${PORT}${PORT}", "80808080"),
            ("${NONE:-fallback}", "fallback"),
            ("${EMPTY:-fallback}", "fallback"),
            ("${EMPTY}", ""),
            ("${NONE:-}", ""),
            ("$${PORT}", "${PORT}"),
            ("cost: 5$", "cost: 5$"),
            ("^/a$|^/b$", "^/a$|^/b$"),
            ("$$$$", "$$"),
        ] {
            assert_eq!(replace(text, &environment).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, says) in [
            ("${NONE}", "`NONE` is not set"),
            ("${PORT", "without its `}`"),
            ("${1x}", "`${1x}` is not a variable"),
            ("${}", "`${}` is not a variable"),
            ("${A B}", "`${A B}` is not a variable"),
        ] {
            let (message, fix) = replace(text, &environment).unwrap_err();
            assert!(message.contains(says), "{message}");
            assert!(!fix.is_empty());
        }
    }

    proptest! {
        #[test]
        fn escaped_text_comes_back(text in r"[a${}:\-]{0,12}|\PC*") {
            let escaped = escape(&text);
            prop_assert_eq!(replace(&escaped, &|_| None).unwrap(), text.as_str());
        }
    }
}
