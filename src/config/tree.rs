//! YAML text -> a tree whose every node knows its place and its parent.

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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    let fix = if line.contains("${") {
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::Path;

    fn read(text: &str) -> (Option<Tree>, Vec<String>) {
        let mut problems = Problems::new(Path::new("f"));
        let tree = Tree::read(text, &mut problems);
        (tree, problems.into_sorted().iter().map(ToString::to_string).collect())
    }

    fn good(text: &str) -> Tree {
        let (tree, problems) = read(text);
        assert_eq!(problems, [""; 0], "{text}");
        tree.expect("a tree")
    }

    fn refused(text: &str) -> String {
        let (tree, problems) = read(text);
        assert!(tree.is_none(), "{text:.80}");
        assert_eq!(problems.len(), 1);
        problems[0].clone()
    }

    /// `PATH LINE:COLUMN TEXT` of each scalar, `"` before a quoted one.
    fn leaves(tree: &Tree) -> Vec<String> {
        fn walk(tree: &Tree, node: NodeId, out: &mut Vec<String>) {
            match tree.data(node) {
                Data::Scalar { text, plain } => {
                    let Place { line, column } = tree.place(node);
                    let mark = if *plain { "" } else { "\"" };
                    out.push(format!("{} {line}:{column} {mark}{text}", tree.path(node)));
                }
                Data::List(items) => items.iter().for_each(|&item| walk(tree, item, out)),
                Data::Map(members) => members.values().for_each(|m| walk(tree, m.value, out)),
            }
        }
        let mut out = Vec::new();
        walk(tree, Tree::ROOT, &mut out);
        out
    }

    #[test]
    fn nodes_know_their_places_and_paths() {
        let tree = good("a: 1\nb:\n  - x: 'y'\n  - \"é\"\nc: { d: , \"e f\": [z] }\n");
        assert_eq!(
            leaves(&tree),
            ["a 1:4 1", "b[0].x 3:8 \"y", "b[1] 4:5 \"é", "c.d 5:7 ~", "c.`e f`[0] 5:19 z"]
        );
    }

    #[test]
    fn json_is_yaml() {
        let tree = good("{\n\t\"a\":[1,true,\"x\\u00e9\\/\"],\r\n\t\"b\":{}}");
        assert_eq!(leaves(&tree), ["a[0] 2:7 1", "a[1] 2:9 true", "a[2] 2:14 \"xé/"]);
    }

    #[test]
    fn aliases_repeat_values_and_keep_their_places() {
        let tree = good("a: &x\n  k: [1]\nb: *x\nc: [&y s, *y]\n");
        assert_eq!(leaves(&tree), ["a.k[0] 2:7 1", "b.k[0] 2:7 1", "c[0] 4:8 s", "c[1] 4:8 s"]);
    }

    #[test]
    fn duplicate_keys_are_reported_and_the_rest_is_read() {
        let (tree, problems) = read("a: 1\nb: {c: 1, c: 2}\na: [3]\n");
        assert_eq!(
            problems,
            [
                "f:2:11: b.c: the key `c` is given twice; keep one; the first is on line 2",
                "f:3:1: a: the key `a` is given twice; keep one; the first is on line 1",
            ]
        );
        assert_eq!(leaves(&tree.unwrap()), ["a 1:4 1", "b.c 2:8 1"]);
    }

    #[test]
    fn what_is_not_read_is_refused_with_its_place() {
        for (text, begins) in [
            ("", "f:1:1: the file is empty"),
            ("# only a comment\n", "f:1:1: the file is empty"),
            ("a: [1\nb: 2\n", "f:2:"),
            ("a: \"x\n", "f:"),
            ("a: 1\n---\nb: 2\n", "f:2:1: a second document"),
            ("a: 1\n<<: {b: 1}\n", "f:2:1: the merge key"),
            ("a: 1\nb: *nothing\n", "f:2:4: this is not YAML"),
            (
                "a: { b: ${X} }\n",
                "f:1:10: this is not YAML: while parsing a flow mapping, did not find expected ',' or '}'; put texts",
            ),
            ("a: &a [*a]\n", "f:1:8: the alias stands within"),
            ("a: !!str 1\n", "f:1:10: tags"),
            ("? [a]\n: b\n", "f:1:3: a list or mapping stands where a key should"),
            ("a: &a b\n*a : c\n", "f:2:1: an alias stands where a key should"),
            ("a: 1\nbc\u{0}d: 2\n", "f:2:3: the control character U+0000"),
        ] {
            let line = refused(text);
            assert!(line.starts_with(begins), "{line}");
            assert!(!line.contains('\n'));
        }
    }

    #[test]
    fn bombs_are_refused() {
        let mut laughs = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for i in 1..10 {
            let row = vec![format!("*a{}", i - 1); 10].join(",");
            laughs.push_str(&format!("a{i}: &a{i} [{row}]\n"));
        }
        assert!(refused(&laughs).contains("too many values"));

        let mut text = format!("a: &a {}\nb:\n", "x".repeat(1 << 20));
        text.push_str(&"  - *a\n".repeat(20));
        assert!(refused(&text).contains("repeat too much"));

        assert!(refused(&"[".repeat(100_000)).contains("recursion limit"));
        assert!(refused(&"[".repeat(100)).contains("nested too deep"));
        assert!(refused(&"- ".repeat(100_000)).contains("nested too deep"));
        let mut deep = format!("a0: &a0 {}{}\n", "[".repeat(40), "]".repeat(40));
        deep.push_str(&format!("b: {}*a0{}\n", "[".repeat(40), "]".repeat(40)));
        assert!(refused(&deep).contains("nested too deep"));
        assert!(refused(&" ".repeat(MOST_BYTES + 1)).contains("bytes"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn no_text_breaks_it(text in r#"[ab:,\-?&*!|>'"%@`{}\[\]# \t\r\n.~\\0-9x<]{0,40}"#) {
            let (tree, problems) = read(&text);
            prop_assert!(tree.is_some() || !problems.is_empty());
        }
    }
}
