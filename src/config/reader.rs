//! Typed reading of the tree through the table of keys, with every problem collected.

use super::{
    load,
    problem::{Place, Problems, quote},
    shape::{Presence, Section, Shape},
    suggest,
    surroundings::{NamedFile, Surroundings},
    tree::{Data, Member, NodeId, Tree},
    variables,
};
use indexmap::IndexMap;
use std::{
    borrow::Cow,
    collections::HashSet,
    path::{Path, PathBuf},
    rc::Rc,
};

/// How values of one kind are described and read.
pub(super) trait Kind {
    type Value;
    const SHAPE: Shape;

    /// `None`: it is wrong, and that has been reported.
    fn read(reader: &mut Reader<'_>, node: NodeId) -> Option<Self::Value>;
}

/// A kind that is written as one text or number.
pub(super) trait ScalarKind {
    type Value;
    const FORM: Shape;

    fn parse(scalar: &Scalar<'_>) -> Result<Self::Value, Wrong>;
}

/// A text after variables have been replaced.
pub(super) struct Scalar<'a> {
    pub(super) text: Cow<'a, str>,
    /// Written without quotes.
    pub(super) plain: bool,
}

pub(super) enum Wrong {
    /// It is not of the kind that is wanted here.
    Kind,
    Because {
        message: String,
        fix: String,
    },
}

impl Wrong {
    pub(super) fn because(message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::Because { message: message.into(), fix: fix.into() }
    }
}

impl<K: ScalarKind> Kind for K {
    type Value = K::Value;
    const SHAPE: Shape = K::FORM;

    fn read(reader: &mut Reader<'_>, node: NodeId) -> Option<Self::Value> {
        let shape = &K::FORM;
        let scalar = reader.scalar(node, shape)?;
        match K::parse(&scalar) {
            Ok(value) => Some(value),
            Err(wrong) => {
                let (message, fix) = explain(wrong, &scalar.text, shape);
                reader.problem(node, message, fix);
                None
            }
        }
    }
}

fn explain(wrong: Wrong, text: &str, shape: &Shape) -> (String, String) {
    match wrong {
        Wrong::Kind => (format!("{} is not {}", quote(text), shape.noun()), shape.hint()),
        Wrong::Because { message, fix } => (message, fix),
    }
}

/// A good value and where it stands.
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) node: NodeId,
}

/// What became of a key.
#[derive(Default)]
pub(super) enum Field<T> {
    #[default]
    Absent,
    /// Reported already.
    Bad(NodeId),
    Good(At<T>),
}

impl<T> Field<T> {
    pub(super) fn value(self) -> Option<T> {
        match self {
            Self::Good(at) => Some(at.value),
            Self::Absent | Self::Bad(_) => None,
        }
    }

    pub(super) fn or(self, default: T) -> T {
        self.value().unwrap_or(default)
    }

    pub(super) fn good(self) -> Option<At<T>> {
        match self {
            Self::Good(at) => Some(at),
            Self::Absent | Self::Bad(_) => None,
        }
    }

    pub(super) fn is_bad(&self) -> bool {
        matches!(self, Self::Bad(_))
    }

    pub(super) fn node(&self) -> Option<NodeId> {
        match self {
            Self::Absent => None,
            Self::Bad(node) | Self::Good(At { node, .. }) => Some(*node),
        }
    }
}

/// The members of a mapping that belong to a section.
pub(super) struct Members<'a>(&'a IndexMap<Rc<str>, Member>);

pub(super) struct Reader<'a> {
    tree: &'a Tree,
    pub(super) surroundings: Surroundings,
    /// What relative paths are relative to.
    pub(super) directory: &'a Path,
    errors: &'a mut Problems,
    warnings: &'a mut Problems,
    files: Vec<NamedFile>,
    /// Keys of mappings that an unknown key beside them was probably meant to be.
    meant: HashSet<(NodeId, &'static str)>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        tree: &'a Tree,
        surroundings: Surroundings,
        directory: &'a Path,
        errors: &'a mut Problems,
        warnings: &'a mut Problems,
    ) -> Self {
        Self {
            tree,
            surroundings,
            directory,
            errors,
            warnings,
            files: Vec::new(),
            meant: HashSet::new(),
        }
    }

    /// Where a file is that the configuration names, and what is in it.
    pub(super) fn file(&mut self, path: &Path) -> (PathBuf, load::Content) {
        let path = self.directory.join(path);
        let content = (self.surroundings.file)(&path);
        self.files.push(NamedFile { path: path.clone(), hash: load::hash(&content) });
        (path, content)
    }

    /// The files that were read.
    pub(super) fn into_files(self) -> Vec<NamedFile> {
        self.files
    }

    /// Something that is not wrong, and not as it should be.
    pub(super) fn warn(
        &mut self,
        node: NodeId,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.warnings.add(self.tree.place(node), self.tree.path(node), message, fix);
    }

    pub(super) fn problem(
        &mut self,
        node: NodeId,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.errors.add(self.tree.place(node), self.tree.path(node), message, fix);
    }

    /// About the key `key` of the mapping `node`.
    pub(super) fn key_problem(
        &mut self,
        place: Place,
        node: NodeId,
        key: &str,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.errors.add(place, self.tree.path_of_key(node, key), message, fix);
    }

    pub(super) fn place(&self, node: NodeId) -> Place {
        self.tree.place(node)
    }

    pub(super) fn line(&self, node: NodeId) -> u32 {
        self.tree.place(node).line
    }

    pub(super) fn data(&self, node: NodeId) -> &'a Data {
        self.tree.data(node)
    }

    /// The keys of a mapping as they are written, good or bad; none if it is no mapping.
    pub(super) fn keys(&self, node: NodeId) -> impl Iterator<Item = &'a str> {
        let members = match self.tree.data(node) {
            Data::Map(members) => Some(members),
            Data::Scalar { .. } | Data::List(_) => None,
        };
        members.into_iter().flat_map(|members| members.keys().map(|key| &**key))
    }

    /// The items of a list, which must be at least `min`.
    pub(super) fn items(
        &mut self,
        node: NodeId,
        shape: &Shape,
        min: usize,
    ) -> Option<&'a [NodeId]> {
        let Data::List(items) = self.tree.data(node) else { return self.wrong_form(node, shape) };
        if items.len() < min {
            self.problem(node, "the list is empty", "give at least one item");
            return None;
        }
        Some(items)
    }

    /// The members of a mapping, which must be at least `min`.
    pub(super) fn members(
        &mut self,
        node: NodeId,
        shape: &Shape,
        min: usize,
    ) -> Option<&'a IndexMap<Rc<str>, Member>> {
        let Data::Map(members) = self.tree.data(node) else { return self.wrong_form(node, shape) };
        if members.len() < min {
            self.problem(node, "the mapping is empty", "give at least one entry");
            return None;
        }
        Some(members)
    }

    /// A text with its variables replaced. A plain null is no value.
    pub(super) fn scalar(&mut self, node: NodeId, shape: &Shape) -> Option<Scalar<'a>> {
        let Data::Scalar { text, plain } = self.tree.data(node) else {
            return self.wrong_form(node, shape);
        };
        match variables::replace(text, &self.surroundings.variable) {
            Ok(text) if *plain && is_null(&text) => self.no_value(node, shape),
            Ok(text) => Some(Scalar { text, plain: *plain }),
            Err((message, fix)) => {
                self.problem(node, message, fix);
                None
            }
        }
    }

    /// Reports a list where a text is wanted, and the like.
    pub(super) fn wrong_form<T>(&mut self, node: NodeId, shape: &Shape) -> Option<T> {
        let found = match self.tree.data(node) {
            Data::Scalar { text, plain: true } if is_null(text) => {
                return self.no_value(node, shape);
            }
            Data::Scalar { text, .. } => quote(text),
            Data::List(_) => "a list".into(),
            Data::Map(_) => "a mapping".into(),
        };
        self.problem(node, format!("{found} is not {}", shape.noun()), shape.hint());
        None
    }

    fn no_value<T>(&mut self, node: NodeId, shape: &Shape) -> Option<T> {
        self.problem(node, "there is no value", format!("{}, or remove the key", shape.hint()));
        None
    }

    /// The members of `node`, after each key was looked up in the table.
    pub(super) fn section(
        &mut self,
        node: NodeId,
        section: &'static Section,
    ) -> Option<Members<'a>> {
        let members = self.members(node, &Shape::Section(section), 0)?;
        for (name, member) in members {
            if section.key(name).is_none() {
                self.unknown_key(node, section, name, member.key);
            }
        }
        for key in section.keys {
            if key.presence == Presence::Required
                && !members.contains_key(key.name)
                && !self.is_misspelt(node, key.name)
            {
                let message = format!("the key `{}` is missing", key.name);
                let fix = format!("add it, such as `{}: {}`", key.name, key.example);
                self.key_problem(self.tree.place(node), node, key.name, message, fix);
            }
        }
        Some(Members(members))
    }

    /// Whether `node` has no `key` but an unknown one like it: that it is missing is the same
    /// mistake, which has been reported.
    pub(super) fn is_misspelt(&self, node: NodeId, key: &'static str) -> bool {
        self.meant.contains(&(node, key))
    }

    fn unknown_key(&mut self, node: NodeId, section: &Section, name: &str, place: Place) {
        let allowed = suggest::list(section.names());
        let fix = match suggest::nearest(name, section.keys.iter().map(|key| key.name)) {
            Some(near) => {
                self.meant.insert((node, near));
                format!("did you mean `{near}`? Known here: {allowed}")
            }
            None => format!("known here: {allowed}"),
        };
        self.key_problem(place, node, name, format!("the key {} is unknown", quote(name)), fix);
    }

    /// Reads a key. Only the table's macro calls this.
    pub(super) fn field<K: Kind>(&mut self, members: &Members<'_>, name: &str) -> Field<K::Value> {
        let Some(member) = members.0.get(name) else { return Field::Absent };
        match K::read(self, member.value) {
            Some(value) => Field::Good(At { value, node: member.value }),
            None => Field::Bad(member.value),
        }
    }

    /// Reads the name of a member.
    pub(super) fn name<N: ScalarKind>(
        &mut self,
        node: NodeId,
        key: &str,
        place: Place,
    ) -> Option<N::Value> {
        match N::parse(&Scalar { text: key.into(), plain: false }) {
            Ok(name) => Some(name),
            Err(wrong) => {
                let (message, fix) = explain(wrong, key, &N::FORM);
                self.key_problem(place, node, key, message, fix);
                None
            }
        }
    }
}

/// YAML 1.2 section 10.3.2.
pub(super) fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}
