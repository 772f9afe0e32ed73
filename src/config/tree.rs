//! YAML text -> a tree whose every node knows its place and its parent.

#[cfg(test)]
mod tests;

use super::problem::{Place, Problems, quote};
use indexmap::{IndexMap, map::Entry};
use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, StrInput};
use std::{collections::HashMap, rc::Rc};

/// Of a file, and of what its aliases repeat.
pub(super) const MOST_BYTES: usize = 16 << 20;
const MOST_NODES: usize = 1_000_000;
const DEEPEST: usize = 64;

/// The whole document; [`Tree::ROOT`] is its outermost value.
pub(super) struct Tree {
    nodes: Vec<Node>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct NodeId(u32);

struct Node {
    place: Place,
    parent: Option<(NodeId, Step)>,
    data: Data,
}

/// How a parent leads to a child.
#[derive(Clone)]
enum Step {
    Key(Rc<str>),
    Item(usize),
}

pub(super) enum Data {
    Scalar { text: Rc<str>, plain: bool },
    List(Vec<NodeId>),
    Map(IndexMap<Rc<str>, Member>),
}

#[derive(Clone, Copy)]
pub(super) struct Member {
    pub(super) key: Place,
    pub(super) value: NodeId,
}

impl Tree {
    pub(super) const ROOT: NodeId = NodeId(0);

    /// Reads the one document in `text`. Duplicate keys are reported and the first is kept; what makes
    /// the text unreadable is reported and gives `None`.
    pub(super) fn read(text: &str, problems: &mut Problems) -> Option<Self> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        match check_text(text).and_then(|()| Builder::new(text, problems).build()) {
            Ok(tree) => Some(tree),
            Err(stop) => {
                problems.add(stop.place, String::new(), stop.message, stop.fix);
                None
            }
        }
    }

    pub(super) fn data(&self, node: NodeId) -> &Data {
        &self.node(node).data
    }

    pub(super) fn place(&self, node: NodeId) -> Place {
        self.node(node).place
    }

    /// Keys joined by dots, items in brackets: `services.shop.pins[0].pool`.
    pub(super) fn path(&self, node: NodeId) -> String {
        let mut steps = Vec::new();
        let mut at = node;
        while let Some((parent, step)) = &self.node(at).parent {
            steps.push(step);
            at = *parent;
        }
        let mut path = String::new();
        for step in steps.into_iter().rev() {
            match step {
                Step::Key(key) => push_key(&mut path, key),
                Step::Item(index) => path.push_str(&format!("[{index}]")),
            }
        }
        path
    }

    /// The path that `key` has, or would have, in the mapping `node`.
    pub(super) fn path_of_key(&self, node: NodeId, key: &str) -> String {
        let mut path = self.path(node);
        push_key(&mut path, key);
        path
    }

    fn node(&self, node: NodeId) -> &Node {
        &self.nodes[node.0 as usize]
    }
}

fn push_key(path: &mut String, key: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    let plain = !key.is_empty() && !key.chars().any(|c| c.is_control() || c.is_whitespace());
    if plain && key.len() <= 80 {
        path.push_str(key);
    } else {
        path.push_str(&quote(key));
    }
}

/// Why there is no tree.
struct Stop {
    place: Place,
    message: String,
    fix: String,
}

fn stop<T>(place: Place, message: impl Into<String>, fix: impl Into<String>) -> Result<T, Stop> {
    Err(Stop { place, message: message.into(), fix: fix.into() })
}

/// YAML 1.2 section 5.1: what may not stand in a file. The parser would take NUL for its end.
fn check_text(text: &str) -> Result<(), Stop> {
    if text.len() > MOST_BYTES {
        return stop(
            Place::START,
            format!("the file has {} bytes", text.len()),
            format!("at most {MOST_BYTES} are read"),
        );
    }
    let forbidden = |c: char| {
        (c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{85}' | '\u{7f}'..='\u{9f}'))
            || matches!(c, '\u{fffe}' | '\u{ffff}')
    };
    let Some(index) = text.find(forbidden) else { return Ok(()) };
    let before = &text[..index];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    let found = text[index..].chars().next().unwrap_or('\0');
    stop(
        Place { line: count(line), column: count(column) },
        format!("the control character U+{:04X}", u32::from(found)),
        "remove it, or write it as an escape within double quotes",
    )
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn place(marker: &Marker) -> Place {
    Place { line: count(marker.line().max(1)), column: count(marker.col() + 1) }
}

/// A list or mapping that is still open.
struct Open {
    node: NodeId,
    anchor: usize,
    /// In a mapping: the key whose value comes next.
    key: Option<(Rc<str>, Place)>,
}

struct Builder<'t, 'p> {
    text: &'t str,
    parser: Parser<'t, StrInput<'t>>,
    problems: &'p mut Problems,
    tree: Tree,
    open: Vec<Open>,
    /// What is complete and has a name.
    anchors: HashMap<usize, NodeId>,
    /// Bytes of text that aliases repeated.
    repeated: usize,
}

impl<'t, 'p> Builder<'t, 'p> {
    fn new(text: &'t str, problems: &'p mut Problems) -> Self {
        Self {
            text,
            parser: Parser::new_from_str(text),
            problems,
            tree: Tree { nodes: Vec::new() },
            open: Vec::new(),
            anchors: HashMap::new(),
            repeated: 0,
        }
    }

    fn build(mut self) -> Result<Tree, Stop> {
        let mut documents = 0;
        while let Some(event) = self.parser.next_event() {
            let (event, span) = event.map_err(|error| not_yaml(&error, self.text))?;
            let place = place(&span.start);
            match event {
                Event::DocumentStart(_) => {
                    documents += 1;
                    if documents > 1 {
                        return stop(
                            place,
                            "a second document begins here",
                            "keep one document: remove the `---`",
                        );
                    }
                }
                Event::Scalar(text, style, anchor, tag) => {
                    no_tag(place, tag.is_some())?;
                    self.scalar(place, &text, style == ScalarStyle::Plain, anchor)?;
                }
                Event::SequenceStart(anchor, tag) => {
                    no_tag(place, tag.is_some())?;
                    self.begin(place, Data::List(Vec::new()), anchor)?;
                }
                Event::MappingStart(anchor, tag) => {
                    no_tag(place, tag.is_some())?;
                    self.begin(place, Data::Map(IndexMap::new()), anchor)?;
                }
                Event::SequenceEnd | Event::MappingEnd => {
                    if let Some(Open { node, anchor, .. }) = self.open.pop() {
                        self.name(anchor, node);
                    }
                }
                Event::Alias(anchor) => self.alias(place, anchor)?,
                Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
            }
        }
        if self.tree.nodes.is_empty() {
            return stop(
                Place::START,
                "the file is empty",
                "`listeners` and `services` are required",
            );
        }
        Ok(self.tree)
    }

    fn scalar(&mut self, place: Place, text: &str, plain: bool, anchor: usize) -> Result<(), Stop> {
        let text: Rc<str> = text.into();
        if self.is_key_next() {
            if plain && &*text == "<<" {
                return stop(
                    place,
                    "the merge key `<<` is not supported",
                    "repeat the keys, or give the whole mapping by an alias",
                );
            }
            if anchor != 0 {
                let data = Data::Scalar { text: Rc::clone(&text), plain };
                let node = self.add(place, None, data)?;
                self.name(anchor, node);
            }
            if let Some(open) = self.open.last_mut() {
                open.key = Some((text, place));
            }
            return Ok(());
        }
        let node = self.place_next(place, Data::Scalar { text, plain })?;
        self.name(anchor, node);
        Ok(())
    }

    fn begin(&mut self, place: Place, data: Data, anchor: usize) -> Result<(), Stop> {
        if self.is_key_next() {
            return stop(place, "a list or mapping stands where a key should", "a key is a text");
        }
        if self.open.len() == DEEPEST {
            return stop(
                place,
                "this is nested too deep",
                format!("at most {DEEPEST} levels are read"),
            );
        }
        let node = self.place_next(place, data)?;
        self.open.push(Open { node, anchor, key: None });
        Ok(())
    }

    fn alias(&mut self, place: Place, anchor: usize) -> Result<(), Stop> {
        if self.is_key_next() {
            return stop(place, "an alias stands where a key should", "write the key as text");
        }
        let Some(&original) = self.anchors.get(&anchor) else {
            return stop(
                place,
                "the alias stands within what it repeats",
                "repeat something complete",
            );
        };
        let data = self.shallow(original);
        let copy = self.place_next(self.tree.place(original), data)?;
        self.copy_children(place, original, copy, self.open.len())
    }

    /// What `original` is, without its children.
    fn shallow(&self, original: NodeId) -> Data {
        match self.tree.data(original) {
            Data::Scalar { text, plain } => Data::Scalar { text: Rc::clone(text), plain: *plain },
            Data::List(_) => Data::List(Vec::new()),
            Data::Map(_) => Data::Map(IndexMap::new()),
        }
    }

    /// Repeats what is below `original` below `copy`; `alias` is where that was asked for.
    fn copy_children(
        &mut self,
        alias: Place,
        original: NodeId,
        copy: NodeId,
        depth: usize,
    ) -> Result<(), Stop> {
        if depth > DEEPEST {
            return stop(
                alias,
                "this alias is nested too deep",
                format!("at most {DEEPEST} levels are read"),
            );
        }
        let children: Vec<(Step, Place, NodeId)> = match self.tree.data(original) {
            Data::Scalar { text, .. } => {
                self.repeated += text.len();
                Vec::new()
            }
            Data::List(items) => {
                let item = |(index, &item)| (Step::Item(index), Place::START, item);
                items.iter().enumerate().map(item).collect()
            }
            Data::Map(members) => {
                let member = |(key, member): (&Rc<str>, &Member)| {
                    (Step::Key(Rc::clone(key)), member.key, member.value)
                };
                members.iter().map(member).collect()
            }
        };
        if self.repeated > MOST_BYTES {
            return stop(
                alias,
                "the aliases of this file repeat too much",
                format!("at most {MOST_BYTES} bytes"),
            );
        }
        for (step, key, child) in children {
            let data = self.shallow(child);
            let node = self.add(self.tree.place(child), Some((copy, step.clone())), data)?;
            match (&mut self.tree.nodes[copy.0 as usize].data, step) {
                (Data::List(items), _) => items.push(node),
                (Data::Map(members), Step::Key(name)) => {
                    members.insert(name, Member { key, value: node });
                }
                _ => {}
            }
            self.copy_children(alias, child, node, depth + 1)?;
        }
        Ok(())
    }

    fn is_key_next(&self) -> bool {
        self.open.last().is_some_and(|open| {
            open.key.is_none() && matches!(self.tree.data(open.node), Data::Map(_))
        })
    }

    /// Adds a node where the next one belongs.
    fn place_next(&mut self, place: Place, data: Data) -> Result<NodeId, Stop> {
        let Some(open) = self.open.last_mut() else { return self.add(place, None, data) };
        let parent = open.node;
        let key = open.key.take();
        let step = match (&key, self.tree.data(parent)) {
            (Some((key, _)), _) => Step::Key(Rc::clone(key)),
            (None, Data::List(items)) => Step::Item(items.len()),
            (None, _) => Step::Item(0),
        };
        let node = self.add(place, Some((parent, step)), data)?;
        match (&mut self.tree.nodes[parent.0 as usize].data, key) {
            (Data::List(items), _) => items.push(node),
            (Data::Map(members), Some((key, key_place))) => match members.entry(key) {
                Entry::Vacant(free) => {
                    free.insert(Member { key: key_place, value: node });
                }
                Entry::Occupied(first) => {
                    let message = format!("the key {} is given twice", quote(first.key()));
                    let fix = format!("keep one; the first is on line {}", first.get().key.line);
                    let path = self.tree.path(node);
                    self.problems.add(key_place, path, message, fix);
                }
            },
            _ => {}
        }
        Ok(node)
    }

    fn add(
        &mut self,
        place: Place,
        parent: Option<(NodeId, Step)>,
        data: Data,
    ) -> Result<NodeId, Stop> {
        if self.tree.nodes.len() == MOST_NODES {
            return stop(
                place,
                "the file has too many values",
                format!("at most {MOST_NODES} are read, those that aliases repeat included"),
            );
        }
        let node = NodeId(count(self.tree.nodes.len()));
        self.tree.nodes.push(Node { place, parent, data });
        Ok(node)
    }

    /// From here on an alias can repeat `node`. Anchor 0 is none.
    fn name(&mut self, anchor: usize, node: NodeId) {
        if anchor != 0 {
            self.anchors.insert(anchor, node);
        }
    }
}

fn no_tag(place: Place, tagged: bool) -> Result<(), Stop> {
    if tagged {
        return stop(
            place,
            "tags such as `!name` are not supported",
            "remove it; quote what is meant as text",
        );
    }
    Ok(())
}

fn not_yaml(error: &ScanError, text: &str) -> Stop {
    let line = text.lines().nth(error.marker().line().saturating_sub(1)).unwrap_or_default();
    // Within `{...}` and `[...]` an unquoted text ends at a brace.
    let fix = if error.info().contains("Unicode character") {
        // JSON may write such a character as two escapes, which YAML cannot.
        "write the character itself, or as one escape such as `\\U0001F600`; the rest was not checked"
    } else if line.contains("${") {
        "put texts with `${...}` in quotes; the rest was not checked"
    } else {
        "check indentation, quotes and brackets here and just before; the rest was not checked"
    };
    Stop {
        place: place(error.marker()),
        message: format!("this is not YAML: {}", error.info()),
        fix: fix.into(),
    }
}
