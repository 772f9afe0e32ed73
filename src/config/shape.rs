//! The form of the table of keys: what the reader, the schema and the reference share.

use super::{scalar::format_part, suggest};

/// The keys of one mapping.
pub(super) struct Section {
    pub(super) name: &'static str,
    pub(super) meaning: &'static str,
    pub(super) keys: &'static [Key],
}

pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    pub(super) presence: Presence,
    /// YAML of a value that is not the default.
    pub(super) example: &'static str,
    pub(super) meaning: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    Required,
    /// YAML of the value that is meant when the key is absent.
    Default(&'static str),
    /// What holds when the key is absent, in words.
    Absent(&'static str),
}

/// What a value may look like.
pub(super) enum Shape {
    Flag,
    /// Both ends included.
    Whole {
        min: u64,
        max: u64,
    },
    Duration {
        zero: bool,
    },
    /// In bytes, both ends included.
    Size {
        min: u64,
        max: u64,
    },
    Percent,
    /// With up to four digits after the point, in millionths, both ends included.
    Part {
        min: u32,
        max: u32,
        /// Whether it must have its sign.
        signed: bool,
    },
    /// With what it is, and what would be right as an instruction.
    Number {
        what: &'static str,
        hint: &'static str,
    },
    /// `off`, or nothing.
    Off,
    Text {
        /// With its article.
        what: &'static str,
        /// What would be right, as an instruction.
        hint: &'static str,
    },
    Choice(&'static [&'static str]),
    List {
        of: &'static Shape,
        min: usize,
    },
    /// From names that the user chooses.
    Map {
        names: &'static str,
        of: &'static Shape,
        min: usize,
    },
    Section(&'static Section),
    Either(&'static [Shape]),
}

impl Section {
    pub(super) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// What may be written.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.keys.iter().map(|key| key.name)
    }
}

impl Shape {
    /// With its article: `a duration`.
    pub(super) fn noun(&self) -> String {
        match self {
            Self::Flag => "`true` or `false`".into(),
            Self::Whole { .. } => "a whole number".into(),
            Self::Duration { .. } => "a duration".into(),
            Self::Size { .. } => "a size".into(),
            Self::Percent | Self::Part { .. } => "a percentage".into(),
            Self::Number { what, .. } => (*what).into(),
            Self::Off => "`off`".into(),
            Self::Text { what, .. } => (*what).into(),
            Self::Choice(words) => format!("one of {}", suggest::list(words.iter().copied())),
            Self::List { .. } => "a list".into(),
            Self::Map { .. } | Self::Section(_) => "a mapping".into(),
            Self::Either(shapes) => shapes.iter().map(Self::noun).collect::<Vec<_>>().join(" or "),
        }
    }

    /// What would be right, as an instruction.
    pub(super) fn hint(&self) -> String {
        match self {
            Self::Flag => "use `true` or `false`, without quotes".into(),
            Self::Whole { min, max } => format!("use a whole number from {min} to {max}"),
            Self::Duration { zero } => {
                let above = if *zero { "" } else { " above zero" };
                format!("use a number{above} with its unit, such as `500ms`, `30s` or `1h30m`")
            }
            Self::Size { .. } => "use bytes or a number with its unit, such as `64KiB`".into(),
            Self::Percent => "use a whole number from 0 to 100 with its sign, such as `20%`".into(),
            Self::Part { min, max, signed } => {
                let (min, max) = (format_part(*min), format_part(*max));
                match signed {
                    true => format!("use {min}% to {max}%, with the sign, such as `{max}%`"),
                    false => format!("use {min} to {max} percent, such as `{max}` or `0.1`"),
                }
            }
            Self::Off => "use `off`".into(),
            Self::Text { hint, .. } | Self::Number { hint, .. } => (*hint).into(),
            Self::Choice(words) => {
                format!("use one of {}", suggest::list(words.iter().copied()))
            }
            Self::List { of, .. } => format!("write a list, each item {}", of.noun()),
            Self::Map { names, of, .. } => format!("write a mapping from {names} to {}", of.noun()),
            Self::Section(section) => {
                format!("write a mapping of the keys {}", suggest::list(section.names()))
            }
            Self::Either(shapes) => shapes.iter().map(Self::hint).collect::<Vec<_>>().join(", or "),
        }
    }
}
