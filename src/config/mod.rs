//! The configuration file (YAML, and so JSON) -> [`Spec`], with every error at once.
//!
//! text -> `tree` (places, paths) -> `reader` and `keys` (types, through the one table of keys)
//! -> `read` (references, sums, duplicates) -> [`Outcome`].

mod body;
mod changes;
mod document;
mod keys;
mod kinds;
mod load;
mod problem;
mod read;
mod reader;
mod reference;
mod scalar;
mod schema;
mod shape;
mod stored;
mod suggest;
mod surroundings;
#[cfg(test)]
mod tests;
mod tree;
mod variables;
mod watch;

pub use body::{parse_backend, parse_pool, parse_value, rollout_plan};
pub use changes::{Change, changes, changes_text};
pub use document::{document, rollout_document};
pub use load::{Loaded, load};
pub use problem::Problem;
pub use reference::reference;
pub use scalar::{format_duration, parse_duration};
pub use schema::schema;
pub use stored::{from_stored, to_stored};
pub use surroundings::{NamedFile, Surroundings};
pub use watch::{Reloader, watch};

use crate::spec::Spec;
use problem::Problems;
use reader::Reader;
use std::path::Path;
use tree::Tree;

/// What a text says. `spec` is there exactly if there are no errors.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub spec: Option<Spec>,
    /// In the order of the file.
    pub errors: Vec<Problem>,
    pub warnings: Vec<Problem>,
    /// Other files that it names, as they were read.
    pub files: Vec<NamedFile>,
}

/// Reads a configuration, and the certificates that it names. `file` is what problems name and what relative
/// paths are relative to.
pub fn parse(text: &str, file: &Path, surroundings: Surroundings) -> Outcome {
    parse_in(text, file, file.parent().unwrap_or(Path::new("")), surroundings)
}

/// The same with another directory that paths are relative to.
fn parse_in(text: &str, file: &Path, directory: &Path, surroundings: Surroundings) -> Outcome {
    let mut errors = Problems::new(file);
    let mut warnings = Problems::new(file);
    let mut files = Vec::new();
    let spec = Tree::read(text, &mut errors).and_then(|tree| {
        let mut reader = Reader::new(&tree, surroundings, directory, &mut errors, &mut warnings);
        let spec = read::spec(&mut reader);
        files = reader.into_files();
        spec
    });
    Outcome {
        spec: spec.filter(|_| errors.is_empty()),
        errors: errors.into_sorted(),
        warnings: warnings.into_sorted(),
        files,
    }
}
