//! A file of this machine -> [`Loaded`].

use super::{
    Outcome, Surroundings, parse_in,
    problem::{Place, Problems},
    tree::MOST_BYTES,
};
use siphasher::sip::SipHasher13;
use std::{
    fs::File,
    hash::Hasher,
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::{Component, Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

/// A file as it was at one time.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The same for the same text, in every process. `None`: the file could not be read, and
    /// `outcome` says why.
    pub text_hash: Option<u64>,
    pub outcome: Outcome,
    pub file: Arc<Path>,
    pub at: SystemTime,
}

/// Reads a configuration file, with the variables of this process. Blocks on the disk.
pub fn load(file: &Path) -> Loaded {
    interpret(&file.into(), read(file))
}

/// The bytes of a file, or why there are none.
pub(super) type Content = Result<Vec<u8>, String>;

pub(super) fn read(file: &Path) -> Content {
    let read = || {
        let file = File::open(regular(file)?)?;
        let mut bytes = Vec::new();
        // One more than is allowed, so that too many are noticed.
        file.take(MOST_BYTES as u64 + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_err(|error: io::Error| error.to_string())
}

/// Only what can be read again and again: opening a pipe could wait for ever.
fn regular(file: &Path) -> io::Result<&Path> {
    if std::fs::metadata(file)?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other("it is not a regular file"))
    }
}

/// The permission alone: a folder above may keep others out all the same.
pub(super) fn others_read(file: &Path) -> bool {
    std::fs::metadata(file).is_ok_and(|file| file.permissions().mode() & 0o004 != 0)
}

pub(super) fn hash(content: &Content) -> Option<u64> {
    let mut hasher = SipHasher13::new();
    hasher.write(content.as_ref().ok()?);
    Some(hasher.finish())
}

pub(super) fn interpret(file: &Arc<Path>, content: Content) -> Loaded {
    let text_hash = hash(&content);
    let outcome = match content {
        Err(reason) => failed(
            file,
            Place::START,
            format!("the file cannot be read: {reason}"),
            "check the path and who may read it",
        ),
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => parse_in(&text, file, &directory_of(file), Surroundings::of_process()),
            Err(error) => {
                let good = error.utf8_error().valid_up_to();
                let place = place_after(&error.as_bytes()[..good]);
                failed(file, place, "this is not UTF-8".into(), "save the file as UTF-8")
            }
        },
    };
    Loaded { text_hash, outcome, file: Arc::clone(file), at: SystemTime::now() }
}

/// Absolute: what is kept of a file must mean the same for a process that starts elsewhere.
fn directory_of(file: &Path) -> PathBuf {
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    file.parent().unwrap_or(Path::new("")).to_owned()
}

fn place_after(good: &[u8]) -> Place {
    let text = String::from_utf8_lossy(good);
    let line = text.matches('\n').count() + 1;
    let column = text.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    Place {
        line: u32::try_from(line).unwrap_or(u32::MAX),
        column: u32::try_from(column).unwrap_or(u32::MAX),
    }
}

fn failed(file: &Path, place: Place, message: String, fix: &str) -> Outcome {
    let mut errors = Problems::new(file);
    errors.add(place, String::new(), message, fix);
    let errors = errors.into_sorted();
    Outcome { spec: None, errors, warnings: Vec::new(), files: Vec::new() }
}

/// The symbolic links on the way to a file, and where they end: when one of these changes, so may the file.
/// Each directory has one spelling, without links and `..`.
pub(super) fn way_to(file: &Path) -> Vec<PathBuf> {
    /// As many as Linux follows (path_resolution(7)).
    const MOST_LINKS: usize = 40;
    let mut way = Vec::new();
    let Ok(mut rest) = std::path::absolute(file) else { return way };
    while way.len() <= MOST_LINKS {
        match first_link(&rest) {
            Ok((link, next)) => {
                way.push(link);
                rest = next;
            }
            Err(end) => {
                way.push(end);
                break;
            }
        }
    }
    way
}

/// The first symbolic link of an absolute path, and the path once it is followed; or the path without `..`.
fn first_link(path: &Path) -> Result<(PathBuf, PathBuf), PathBuf> {
    let mut walked = PathBuf::new();
    let mut components = path.components();
    while let Some(component) = components.next() {
        if component == Component::ParentDir {
            // No link was walked, so this is where `..` leads.
            walked.pop();
            continue;
        }
        let directory = walked.clone();
        walked.push(component);
        if let Ok(target) = std::fs::read_link(&walked) {
            return Ok((walked, directory.join(target).join(components.as_path())));
        }
    }
    Err(walked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};

    fn only_error(file: &Path) -> String {
        let loaded = load(file);
        assert!(loaded.outcome.spec.is_none());
        let [error] = &loaded.outcome.errors[..] else { panic!("{:?}", loaded.outcome) };
        error.to_string()
    }

    #[test]
    fn what_cannot_be_read_is_a_problem() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("c.yaml");
        let begins = format!("{}:1:1: the file cannot be read: ", file.display());
        assert!(only_error(&file).starts_with(&begins));
        assert_eq!(load(&file).text_hash, None);
        assert!(only_error(directory.path()).contains("not a regular file"));
        fs::write(&file, b"a: 1\nb: \xff\n").unwrap();
        assert!(only_error(&file).contains(":2:4: this is not UTF-8"));
        assert!(load(&file).text_hash.is_some());
    }

    #[test]
    fn a_good_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("c.yaml");
        let text = "listeners: [{ address: 127.0.0.1:1 }]\nservices: { s: { pools: { p: { backends: [a:1] } } } }";
        fs::write(&file, text).unwrap();
        let loaded = load(&file);
        assert!(loaded.outcome.spec.is_some());
        assert_eq!(loaded.text_hash, load(&file).text_hash);
    }

    #[test]
    fn hashes_are_the_same_in_every_process() {
        assert_eq!(hash(&Ok(b"crossfade".to_vec())), Some(7_028_660_063_279_223_096));
        assert_eq!(hash(&Err("gone".into())), None);
    }

    #[test]
    fn the_way_to_a_file_has_its_links() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        fs::create_dir(root.join("v1")).unwrap();
        fs::write(root.join("v1/c.yaml"), "").unwrap();
        symlink("v1", root.join("..data")).unwrap();
        symlink("..data/c.yaml", root.join("c.yaml")).unwrap();
        assert_eq!(
            way_to(&root.join("c.yaml")),
            [root.join("c.yaml"), root.join("..data"), root.join("v1/c.yaml")]
        );
        symlink("v1/../..data/c.yaml", root.join("d.yaml")).unwrap();
        assert_eq!(
            way_to(&root.join("d.yaml")),
            [root.join("d.yaml"), root.join("..data"), root.join("v1/c.yaml")]
        );
        symlink("loop", root.join("loop")).unwrap();
        assert_eq!(way_to(&root.join("loop")).len(), 41);
        assert_eq!(way_to(&root.join("none")), [root.join("none")]);
    }
}
