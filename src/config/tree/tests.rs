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
        (
            r#"{"a": "\ud83d\ude00"}"#,
            "f:1:7: this is not YAML: while parsing a quoted scalar, found",
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
