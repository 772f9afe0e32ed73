use std::{fmt, path::Path, sync::Arc};

/// Something about a configuration that its writer should know, with its place.
///
/// `Display` is one line: `FILE:LINE:COLUMN: PATH: MESSAGE; FIX`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub file: Arc<Path>,
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
    /// The keys that lead there, such as `services.shop.pools.blue.weight`; empty for the whole file.
    pub path: String,
    /// What is wrong, with the value quoted.
    pub message: String,
    /// What would be right.
    pub fix: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file.display(), self.line, self.column)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        write!(f, "{}; {}", self.message, self.fix)
    }
}

impl std::error::Error for Problem {}

/// A line and a column, both from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) line: u32,
    pub(super) column: u32,
}

impl Place {
    pub(super) const START: Self = Self { line: 1, column: 1 };
}

/// More are not kept: nobody reads them, and a file made to annoy could hold a million.
const MOST: usize = 10_000;

/// Collects what is found, in any order.
pub(super) struct Problems {
    file: Arc<Path>,
    found: Vec<Problem>,
    dropped: bool,
}

impl Problems {
    pub(super) fn new(file: &Path) -> Self {
        Self { file: file.into(), found: Vec::new(), dropped: false }
    }

    pub(super) fn add(
        &mut self,
        place: Place,
        path: String,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) {
        if self.found.len() == MOST {
            self.dropped = true;
            return;
        }
        self.found.push(Problem {
            file: Arc::clone(&self.file),
            line: place.line,
            column: place.column,
            path,
            message: message.into(),
            fix: fix.into(),
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// In the order of the file.
    pub(super) fn into_sorted(mut self) -> Vec<Problem> {
        self.found.sort_by_key(|problem| (problem.line, problem.column));
        if self.dropped {
            self.found.push(Problem {
                file: self.file,
                line: 1,
                column: 1,
                path: String::new(),
                message: format!("more than {MOST} problems"),
                fix: "correct these first; the others are not listed".into(),
            });
        }
        self.found
    }
}

/// A value as it may stand in a message: in backquotes, on one line, not too long.
pub(super) fn quote(text: &str) -> String {
    const LONGEST: usize = 80;
    let mut quoted = String::from("`");
    for (count, c) in text.chars().enumerate() {
        if count == LONGEST {
            quoted.push('…');
            break;
        }
        if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') {
            quoted.extend(c.escape_debug());
        } else {
            quoted.push(c);
        }
    }
    quoted.push('`');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_one_line_that_begins_with_its_place() {
        let mut problems = Problems::new(Path::new("a.yaml"));
        problems.add(Place { line: 3, column: 7 }, "x.y".into(), quote("1\n2"), "use 3");
        problems.add(Place::START, String::new(), "first", "none");
        let lines: Vec<String> = problems.into_sorted().iter().map(ToString::to_string).collect();
        assert_eq!(lines, ["a.yaml:1:1: first; none", "a.yaml:3:7: x.y: `1\\n2`; use 3"]);
    }

    #[test]
    fn quotes_are_short() {
        assert_eq!(quote(&"x".repeat(200)).chars().count(), 83);
    }

    #[test]
    fn a_flood_is_cut_loudly() {
        let mut problems = Problems::new(Path::new("a.yaml"));
        for _ in 0..MOST + 5 {
            problems.add(Place::START, String::new(), "m", "f");
        }
        let all = problems.into_sorted();
        assert_eq!(all.len(), MOST + 1);
        assert_eq!(all[MOST].message, "more than 10000 problems");
    }
}
