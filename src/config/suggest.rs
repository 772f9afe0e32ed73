//! "Did you mean": the nearest of the allowed words.

/// The nearest of `allowed`, if it is near enough to be meant.
pub(super) fn nearest<'a>(
    given: &str,
    allowed: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    // Longer texts are no misspelt words, and the distance costs the product of the lengths.
    if given.len() > 64 {
        return None;
    }
    let given = given.to_lowercase();
    allowed
        .into_iter()
        .filter(|word| word.len() <= 64)
        .map(|word| (distance(&given, &word.to_lowercase()), word))
        .min_by_key(|&(distance, _)| distance)
        .filter(|&(distance, word)| distance <= (word.chars().count() / 3).max(1))
        .map(|(_, word)| word)
}

/// Edits that make `a` into `b`: insert, delete, replace, swap two neighbours.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut row = vec![i + 1];
        for j in 0..b.len() {
            let replaced = last[j] + usize::from(a[i] != b[j]);
            let mut best = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

/// `a`, `b` or `c`, each in backquotes.
pub(super) fn list<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<String> = words.into_iter().map(|word| format!("`{word}`")).collect();
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, edits) in [
            ("", "", 0),
            ("", "abc", 3),
            ("weight", "weight", 0),
            ("wieght", "weight", 1),
            ("weigth", "weight", 1),
            ("wight", "weight", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(a, b), edits, "{a} {b}");
            assert_eq!(distance(b, a), edits, "{b} {a}");
        }
    }

    #[test]
    fn only_near_words_are_suggested() {
        let keys = ["weight", "version", "backends"];
        assert_eq!(nearest("wieght", keys), Some("weight"));
        assert_eq!(nearest("Backend", keys), Some("backends"));
        assert_eq!(nearest("colour", keys), None);
        assert_eq!(nearest(&"weight".repeat(20), keys), None);
        assert_eq!(nearest("x", []), None);
    }
}
