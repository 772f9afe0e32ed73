//! The table of keys as a page of documentation.

use super::{
    keys::File,
    scalar::{format_part, format_size},
    shape::{Key, Presence, Section, Shape},
    suggest,
};
use std::collections::HashMap;

const INTRODUCTION: &str = "\
<!-- Made from the table of keys in src/config/keys: do not edit. To make it anew:
     UPDATE_DOCS=1 cargo test --lib config::reference -->

# Configuration reference

The file is YAML, so JSON will do. `crossfade check FILE` reports every error at once, each with
`FILE:LINE:COLUMN`, the value and what would be right. `crossfade schema` prints a JSON Schema for editors.

- **Durations** are whole numbers with units, larger ones first: `500ms`, `30s`, `5m`, `1h30m`, `30d`.
- **Sizes** are bytes, or whole numbers with a unit: `64KiB`, `10MB`, `1GiB`.
- **Percentages** are whole numbers with their sign: `20%`. Those of rollouts may have up to four digits after the
  point: `0.5%`.
- **Texts** may stand without quotes where YAML allows it: `canary: true` compares with the text `true`.
  What is in quotes is always a text, never a number.
- **Variables** of the environment are replaced in every value: `${NAME}`, and `${NAME:-default}` where it may
  be unset or empty. `$$` is a dollar sign. Within `{...}` and `[...]`, put such a text in quotes.
- **Relative paths** are relative to the file.
- Anchors and aliases work; merge keys (`<<`), tags and more than one document do not.
";

/// The reference of the configuration file, in Markdown.
pub fn reference() -> String {
    let mut page = INTRODUCTION.to_owned();
    write_section("", &File::SECTION, &mut page, &mut HashMap::new());
    page
}

/// Writes `section`, which stands at `path`, and those below it that were not written yet.
fn write_section(
    path: &str,
    section: &'static Section,
    page: &mut String,
    written: &mut HashMap<&'static str, String>,
) {
    let title = if path.is_empty() { "The file".to_owned() } else { format!("`{path}`") };
    written.insert(section.name, path.to_owned());
    page.push_str(&format!("\n## {title}\n\n{}\n\n", section.meaning));
    page.push_str("| key | type | default | meaning |\n|---|---|---|---|\n");
    for key in section.keys {
        page.push_str(&row(key, path, written));
    }
    for key in section.keys {
        let below = if path.is_empty() { key.name.into() } else { format!("{path}.{}", key.name) };
        for (path, section) in sections(below, &key.shape) {
            if !written.contains_key(section.name) {
                write_section(&path, section, page, written);
            }
        }
    }
}

/// The sections that a value of this shape has, with the paths where they stand.
fn sections(path: String, shape: &'static Shape) -> Vec<(String, &'static Section)> {
    match shape {
        Shape::Section(section) => vec![(path, section)],
        Shape::List { of, .. } => sections(format!("{path}[]"), of),
        Shape::Map { of, .. } => sections(format!("{path}.*"), of),
        Shape::Either(shapes) => {
            shapes.iter().flat_map(|shape| sections(path.clone(), shape)).collect()
        }
        _ => Vec::new(),
    }
}

fn row(key: &'static Key, path: &str, written: &HashMap<&'static str, String>) -> String {
    let default = match key.presence {
        Presence::Required => "**required**".into(),
        Presence::Default(default) => format!("`{default}`"),
        Presence::Absent(words) => words.into(),
    };
    let mut meaning = key.meaning.to_owned();
    let elsewhere = sections(String::new(), &key.shape)
        .into_iter()
        .find_map(|(_, section)| written.get(section.name).filter(|at| *at != path));
    match elsewhere {
        Some(at) => meaning.push_str(&format!(" See `{at}`.")),
        None => meaning.push_str(&format!(" Example: `{}`.", key.example)),
    }
    let cells = [format!("`{}`", key.name), type_of(&key.shape), default, meaning];
    // A bar would end the cell.
    let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
    format!("| {} |\n", cells.join(" | "))
}

fn type_of(shape: &Shape) -> String {
    match shape {
        Shape::Flag => "flag".into(),
        Shape::Whole { min, max } => format!("{min} to {max}"),
        Shape::Duration { zero: true } => "duration".into(),
        Shape::Duration { zero: false } => "duration above 0".into(),
        Shape::Size { min, max } => {
            format!("size, {} to {}", format_size(*min), format_size(*max))
        }
        Shape::Percent => "percentage".into(),
        Shape::Part { min, max, signed } => {
            let sign = if *signed { "%" } else { "" };
            format!("percentage, {}{sign} to {}{sign}", format_part(*min), format_part(*max))
        }
        Shape::Off => "`off`".into(),
        Shape::Number { what, .. } => without_article(what),
        Shape::Text { what, .. } => without_article(what),
        Shape::Choice(words) => suggest::list(words.iter().copied()),
        Shape::List { of, .. } => format!("list of: {}", type_of(of)),
        Shape::Map { of, .. } => format!("mapping from names to: {}", type_of(of)),
        Shape::Section(_) => "mapping".into(),
        Shape::Either(shapes) => shapes.iter().map(type_of).collect::<Vec<_>>().join(", or "),
    }
}

fn without_article(what: &str) -> String {
    let article = |word: &&str| !matches!(*word, "a" | "an" | "the");
    what.split(' ').filter(article).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_what_the_table_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/config.md");
        let page = reference();
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/docs")).unwrap();
            std::fs::write(path, &page).unwrap();
        }
        let found = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            found == page,
            "docs/config.md is out of date; run UPDATE_DOCS=1 cargo test --lib config::reference"
        );
    }
}
