//! Texts that are wrong in ways nobody thought of.

use super::*;
use proptest::prelude::*;

/// What must hold for any text.
fn check(text: &str) {
    let outcome = read_text(text);
    assert_eq!(outcome.spec.is_some(), outcome.errors.is_empty());
    let count = text.split(['\n', '\r']).count() + 1;
    for problem in outcome.errors.iter().chain(&outcome.warnings) {
        assert!(problem.line >= 1 && problem.column >= 1, "{problem}");
        assert!(problem.line as usize <= count, "{problem}");
        assert!(!problem.message.is_empty() && !problem.fix.is_empty(), "{problem}");
        assert!(!problem.to_string().contains(['\n', '\r']), "{problem:?}");
    }
    if let Some(spec) = outcome.spec {
        assert_comes_back(&spec);
    }
}

#[derive(Clone, Debug)]
enum Edit {
    Cut(prop::sample::Index, usize),
    Insert(prop::sample::Index, Vec<u8>),
    Repeat(prop::sample::Index, prop::sample::Index, usize),
}

fn edit() -> impl Strategy<Value = Edit> {
    let piece = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..4),
        prop::sample::select(vec![
            "{",
            "}",
            "[",
            "]",
            ":",
            ": ",
            ",",
            "\"",
            "'",
            "&a ",
            "*a",
            "- ",
            "|\n",
            ">\n",
            "#",
            "%",
            "!",
            "~",
            "0",
            "-1",
            "\n",
            "\r\n",
            "\t",
            "  ",
            "${X:-y}",
            "${",
            "$$",
            "null",
            "\\x41",
            "\u{feff}",
            "\u{85}",
            "\u{2028}",
            "---\n",
            "...\n",
            "? ",
            "<<: ",
            "1e9",
            "999999999999",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
    ];
    prop_oneof![
        (any::<prop::sample::Index>(), 1usize..30).prop_map(|(at, n)| Edit::Cut(at, n)),
        (any::<prop::sample::Index>(), piece).prop_map(|(at, bytes)| Edit::Insert(at, bytes)),
        (any::<prop::sample::Index>(), any::<prop::sample::Index>(), 1usize..80)
            .prop_map(|(from, to, n)| Edit::Repeat(from, to, n)),
    ]
}

fn apply(bytes: &mut Vec<u8>, edit: Edit) {
    let span = |bytes: &[u8], at: prop::sample::Index, n: usize| {
        let start = at.index(bytes.len() + 1);
        start..(start + n).min(bytes.len())
    };
    match edit {
        Edit::Cut(at, n) => {
            bytes.drain(span(bytes, at, n));
        }
        Edit::Insert(at, piece) => {
            let at = at.index(bytes.len() + 1);
            bytes.splice(at..at, piece);
        }
        Edit::Repeat(from, to, n) => {
            let piece = bytes[span(bytes, from, n)].to_vec();
            let to = to.index(bytes.len() + 1);
            bytes.splice(to..to, piece);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_file_after_a_few_edits(edits in prop::collection::vec(edit(), 1..6)) {
        let mut bytes = FULL.as_bytes().to_vec();
        for edit in edits {
            apply(&mut bytes, edit);
        }
        check(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn any_text(text: String) {
        check(&text);
    }

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        check(&String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn the_file_itself() {
    check(FULL);
    check(&FULL.replace('\n', "\r\n"));
    check(&format!("\u{feff}{FULL}"));
}
