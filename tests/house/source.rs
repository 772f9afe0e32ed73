//! What one source file names: every path, with `use` trees unfolded and `self`, `super`, imports and
//! renames resolved. The file is read as tokens, so comments and strings cannot mislead it.

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};
use std::collections::HashMap;

/// A path as it stands somewhere in a file, spelled out: `crate::live::Pool`, `std::time::Instant`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mention {
    pub(crate) path: Vec<String>,
    /// `path::*`
    pub(crate) glob: bool,
    pub(crate) line: usize,
}

impl Mention {
    pub(crate) fn text(&self) -> String {
        let path = self.path.join("::");
        if self.glob { path + "::*" } else { path }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Source {
    pub(crate) paths: Vec<Mention>,
    /// Macros that are called by a bare name, such as `println`.
    pub(crate) macros: Vec<(String, usize)>,
    /// Every identifier that is followed by `<`, such as the `Vec` of `Vec<u8>`; imports apart.
    pub(crate) generics: Vec<(String, usize)>,
}

impl Source {
    /// Reads a file whose items live in `module` (`["crate", "routing", "split"]`).
    ///
    /// # Errors
    /// The text is not made of Rust tokens.
    pub(crate) fn read(module: &[&str], text: &str) -> Result<Self, String> {
        let tokens: TokenStream = text.parse().map_err(|error| format!("{error}"))?;
        let mut reader = Reader::default();
        let module: Vec<String> = module.iter().map(|&name| name.to_owned()).collect();
        reader.walk(&trees(tokens), &module);
        Ok(reader.finish())
    }
}

#[derive(Default)]
struct Reader {
    found: Source,
    /// Paths outside of imports.
    inline: Vec<Mention>,
    /// Names that `use` brought into this file, and what they stand for.
    imports: HashMap<String, Vec<String>>,
}

/// A path under construction in a `use` tree: what it says and, at its end, the name it goes by.
struct Branch {
    path: Vec<String>,
    line: usize,
}

impl Reader {
    fn finish(mut self) -> Source {
        self.found.paths.append(&mut self.inline);
        for mention in &mut self.found.paths {
            mention.path = resolve(&self.imports, &mention.path);
        }
        self.found
    }

    fn walk(&mut self, tokens: &[TokenTree], module: &[String]) {
        let mut at = 0;
        while at < tokens.len() {
            at = match &tokens[at] {
                TokenTree::Group(group) => {
                    self.walk(&trees(group.stream()), module);
                    at + 1
                }
                TokenTree::Ident(word) if word == "use" && !is_punct(tokens.get(at + 1), '<') => {
                    self.read_use(tokens, at + 1, module)
                }
                TokenTree::Ident(word) if word == "mod" => {
                    self.read_module(tokens, at + 1, module).unwrap_or(at + 1)
                }
                _ if starts_path(tokens, at) => self.read_path(tokens, at, module),
                _ => at + 1,
            };
        }
    }

    /// `mod name { ... }`: its `super` is this module.
    fn read_module(&mut self, tokens: &[TokenTree], at: usize, module: &[String]) -> Option<usize> {
        let TokenTree::Ident(name) = tokens.get(at)? else { return None };
        let TokenTree::Group(body) = tokens.get(at + 1)? else { return None };
        let inner: Vec<String> = module.iter().cloned().chain([plain(name)]).collect();
        self.walk(&trees(body.stream()), &inner);
        Some(at + 2)
    }

    fn read_use(&mut self, tokens: &[TokenTree], at: usize, module: &[String]) -> usize {
        let length = tokens[at..].iter().take_while(|token| !is_punct(Some(token), ';')).count();
        self.use_tree(&tokens[at..at + length], None, module);
        at + length + 1
    }

    /// The comma-separated branches of a `use` tree below `stem`.
    fn use_tree(&mut self, tokens: &[TokenTree], stem: Option<&[String]>, module: &[String]) {
        for branch in tokens.split(|token| is_punct(Some(token), ',')) {
            if !branch.is_empty() {
                self.use_branch(branch, stem, module);
            }
        }
    }

    fn use_branch(&mut self, tokens: &[TokenTree], stem: Option<&[String]>, module: &[String]) {
        let mut branch = Branch {
            path: stem.map(<[String]>::to_vec).unwrap_or_default(),
            line: tokens[0].span().start().line,
        };
        let mut name = None;
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            match token {
                TokenTree::Ident(word) if word == "as" => {
                    if let Some(TokenTree::Ident(new)) = tokens.get(at + 1) {
                        name = Some(plain(new));
                    }
                    break;
                }
                // `use a::{self}` names `a`; `use self::a` is a path of this module.
                TokenTree::Ident(word) if word == "self" && !branch.path.is_empty() => {}
                TokenTree::Ident(word) if branch.path.is_empty() => {
                    branch.path = anchor(&plain(word), module);
                }
                TokenTree::Ident(word) if word == "super" => {
                    branch.path.pop();
                }
                TokenTree::Ident(word) => branch.path.push(plain(word)),
                TokenTree::Group(group) => {
                    self.use_tree(&trees(group.stream()), Some(&branch.path), module);
                    return;
                }
                TokenTree::Punct(sign) if sign.as_char() == '*' => {
                    let Branch { path, line } = branch;
                    self.found.paths.push(Mention { path, glob: true, line });
                    return;
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
            at += 1;
        }
        let Branch { path, line } = branch;
        if let Some(name) = name.or_else(|| path.last().cloned()) {
            self.imports.insert(name, path.clone());
        }
        self.found.paths.push(Mention { path, glob: false, line });
    }

    /// `a::b::c`, a call of a macro, or a lone name (which is of no interest unless imported).
    fn read_path(&mut self, tokens: &[TokenTree], start: usize, module: &[String]) -> usize {
        let mut at = if is_colons(tokens, start) { start + 2 } else { start };
        let line = tokens[start].span().start().line;
        let mut path: Vec<String> = Vec::new();
        while let Some(TokenTree::Ident(word)) = tokens.get(at) {
            match (path.is_empty(), plain(word).as_str()) {
                (true, first) => path = anchor(first, module),
                (false, "super") => {
                    path.pop();
                }
                (false, next) => path.push(next.to_owned()),
            }
            at += 1;
            if !is_colons(tokens, at) || !matches!(tokens.get(at + 2), Some(TokenTree::Ident(_))) {
                break;
            }
            at += 2;
        }
        let Some(last) = path.last().cloned() else { return start + 1 };
        if is_punct(tokens.get(at), '!') && matches!(tokens.get(at + 1), Some(TokenTree::Group(_)))
        {
            self.found.macros.push((last.clone(), line));
        }
        if is_punct(tokens.get(at), '<')
            || (is_colons(tokens, at) && is_punct(tokens.get(at + 2), '<'))
        {
            self.found.generics.push((last, line));
        }
        // A lone name is a variable, unless it was imported.
        if path.len() > 1 || self.imports.contains_key(&path[0]) {
            self.inline.push(Mention { path, glob: false, line });
        }
        at
    }
}

/// Where a path that begins with `first` begins.
fn anchor(first: &str, module: &[String]) -> Vec<String> {
    match first {
        "self" => module.to_vec(),
        "super" => module[..module.len().saturating_sub(1)].to_vec(),
        other => vec![other.to_owned()],
    }
}

/// Replaces a first name that was imported by what it stands for, until it stands for itself.
fn resolve(imports: &HashMap<String, Vec<String>>, path: &[String]) -> Vec<String> {
    let mut path = path.to_vec();
    for _ in 0..imports.len() {
        match path.first().and_then(|first| imports.get(first)) {
            Some(whole) if whole[..] != path[..1] => {
                path.splice(..1, whole.iter().cloned());
            }
            _ => break,
        }
    }
    path
}

fn starts_path(tokens: &[TokenTree], at: usize) -> bool {
    let previous = |back: usize| at.checked_sub(back).and_then(|index| tokens.get(index));
    let leading = is_colons(tokens, at);
    if !leading && !matches!(tokens[at], TokenTree::Ident(_)) {
        return false;
    }
    // A method or a field, but not the end of a range.
    if is_punct(previous(1), '.') {
        return is_punct(previous(2), '.');
    }
    // The tail of `<T as Trait>::name` and `Vec<u8>::new`, but not what follows `->` or `=>`.
    if leading && is_punct(previous(1), '>') {
        return is_punct(previous(2), '-') || is_punct(previous(2), '=');
    }
    !(is_punct(previous(1), ':') && is_punct(previous(2), ':'))
}

fn is_colons(tokens: &[TokenTree], at: usize) -> bool {
    matches!(tokens.get(at), Some(TokenTree::Punct(sign))
        if sign.as_char() == ':' && sign.spacing() == Spacing::Joint)
        && is_punct(tokens.get(at + 1), ':')
}

fn is_punct(token: Option<&TokenTree>, wanted: char) -> bool {
    matches!(token, Some(TokenTree::Punct(sign)) if sign.as_char() == wanted)
}

fn plain(word: &proc_macro2::Ident) -> String {
    let text = word.to_string();
    text.strip_prefix("r#").map(str::to_owned).unwrap_or(text)
}

/// The tokens with the invisible groups of macros opened.
fn trees(stream: TokenStream) -> Vec<TokenTree> {
    stream
        .into_iter()
        .flat_map(|tree| match tree {
            TokenTree::Group(group) if group.delimiter() == Delimiter::None => {
                trees(group.stream())
            }
            other => vec![other],
        })
        .collect()
}
