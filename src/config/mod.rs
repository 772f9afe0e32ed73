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
mod suggest;
#[cfg(test)]
mod tests;
mod tree;
mod variables;
mod watch;

pub use body::{parse_backend, parse_pool, parse_value};
pub use changes::{Change, changes};
pub use document::document;
pub use load::{Loaded, load};
pub use problem::Problem;
pub use reference::reference;
pub use scalar::{format_duration, parse_duration};
pub use schema::schema;
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
}

/// Reads a configuration. `file` is what problems name and what relative paths are relative to;
/// `environment` gives the values of variables.
pub fn parse(text: &str, file: &Path, environment: &dyn Fn(&str) -> Option<String>) -> Outcome {
    let mut errors = Problems::new(file);
    let mut warnings = Problems::new(file);
    let directory = file.parent().unwrap_or(Path::new(""));
    let spec = Tree::read(text, &mut errors).and_then(|tree| {
        let mut reader = Reader::new(&tree, environment, directory, &mut errors, &mut warnings);
        read::spec(&mut reader)
    });
    Outcome {
        spec: spec.filter(|_| errors.is_empty()),
        errors: errors.into_sorted(),
        warnings: warnings.into_sorted(),
    }
}
