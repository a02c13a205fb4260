//! Rust sources as tokens: lexed, without their tests, and as a list of the paths that they name.

use proc_macro2::{Delimiter, Group, Ident, TokenStream, TokenTree};
use std::collections::BTreeSet;

/// One Rust file.
pub struct Source {
    /// Relative to the repository's root.
    pub path: String,
    pub text: String,
    /// All tokens, or why there are none.
    pub tokens: Result<TokenStream, String>,
}

impl Source {
    pub fn new(path: &str, text: String) -> Self {
        let tokens = text.parse::<TokenStream>().map_err(|error| error.to_string());
        Self { path: path.to_owned(), text, tokens }
    }
}

/// A name as written, `a::b::c`, with what stands around it. `use a::{b, c::d};` gives `a::b` and `a::c::d`.
#[derive(Debug, PartialEq, Eq)]
pub struct Name {
    /// At least one. The first is empty after a leading `::` (as in `<T>::now`).
    pub segments: Vec<String>,
    /// `.name`: a field or a method, or `.await`.
    pub after_dot: bool,
    /// `name!(…)`: a macro call.
    pub is_macro: bool,
    pub line: usize,
}

impl Name {
    pub fn last(&self) -> &str {
        self.segments.last().map_or("", String::as_str)
    }

    pub fn has(&self, segment: &str) -> bool {
        self.segments.iter().any(|found| found == segment)
    }

    /// Does the sequence occur in it?
    pub fn contains(&self, sequence: &[&str]) -> bool {
        self.segments.windows(sequence.len()).any(|window| window.iter().eq(sequence))
    }

    pub fn text(&self) -> String {
        self.segments.join("::")
    }
}

/// All names in the order of the file, at any depth.
pub fn names(tokens: &TokenStream) -> Vec<Name> {
    let mut found = Vec::new();
    collect_names(&trees(tokens), &mut found);
    found
}

pub fn trees(tokens: &TokenStream) -> Vec<TokenTree> {
    tokens.clone().into_iter().collect()
}

fn collect_names(trees: &[TokenTree], found: &mut Vec<Name>) {
    let mut at = 0;
    while let Some(tree) = trees.get(at) {
        match tree {
            TokenTree::Ident(ident) => at = name_from(trees, at, ident, found),
            TokenTree::Group(group) => {
                collect_names(&self::trees(&group.stream()), found);
                at += 1;
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => at += 1,
        }
    }
}

/// Reads the path that begins at `start`; returns where it ends.
fn name_from(trees: &[TokenTree], start: usize, first: &Ident, found: &mut Vec<Name>) -> usize {
    let mut segments = Vec::new();
    if start >= 2 && is_path_separator(trees, start - 2) {
        segments.push(String::new());
    }
    segments.push(plain(first));
    let mut at = start + 1;
    while is_path_separator(trees, at) {
        match trees.get(at + 2) {
            Some(TokenTree::Ident(next)) => segments.push(plain(next)),
            Some(TokenTree::Punct(star)) if star.as_char() == '*' => segments.push("*".to_owned()),
            Some(TokenTree::Group(tree)) if tree.delimiter() == Delimiter::Brace => {
                collect_use_tree(&segments, tree, found);
                return at + 3;
            }
            _ => break,
        }
        at += 3;
    }
    found.push(Name {
        segments,
        after_dot: start > 0 && is_punct(&trees[start - 1], '.'),
        is_macro: is_macro_call(trees, at),
        line: first.span().start().line,
    });
    at
}

/// `a::{b, c::d}` after its `a::`.
fn collect_use_tree(prefix: &[String], group: &Group, found: &mut Vec<Name>) {
    let trees = trees(&group.stream());
    let mut inner = Vec::new();
    collect_names(&trees, &mut inner);
    let globs = trees
        .iter()
        .enumerate()
        .filter(|(at, tree)| is_punct(tree, '*') && (*at == 0 || is_punct(&trees[at - 1], ',')));
    inner.extend(globs.map(|(_, star)| Name {
        segments: vec!["*".to_owned()],
        after_dot: false,
        is_macro: false,
        line: star.span().start().line,
    }));
    for mut name in inner {
        name.segments.splice(0..0, prefix.iter().cloned());
        found.push(name);
    }
}

fn plain(ident: &Ident) -> String {
    ident.to_string().trim_start_matches("r#").to_owned()
}

fn is_punct(tree: &TokenTree, character: char) -> bool {
    matches!(tree, TokenTree::Punct(punct) if punct.as_char() == character)
}

fn is_path_separator(trees: &[TokenTree], at: usize) -> bool {
    matches!(trees.get(at..at + 2), Some([a, b]) if is_punct(a, ':') && is_punct(b, ':'))
}

fn is_macro_call(trees: &[TokenTree], at: usize) -> bool {
    matches!(trees.get(at..at + 2), Some([bang, TokenTree::Group(_)]) if is_punct(bang, '!'))
}

/// The attribute that begins at `at` (`#[…]` or `#![…]`): its content, and the index after it.
fn attribute(trees: &[TokenTree], at: usize) -> Option<(&Group, usize)> {
    if !is_punct(trees.get(at)?, '#') {
        return None;
    }
    let open = if is_punct(trees.get(at + 1)?, '!') { at + 2 } else { at + 1 };
    match trees.get(open)? {
        TokenTree::Group(group) if group.delimiter() == Delimiter::Bracket => Some((group, open + 1)),
        _ => None,
    }
}

/// The contents of all attributes at any depth, without white space, each with its line.
pub fn attributes(tokens: &TokenStream) -> Vec<(String, usize)> {
    let trees = trees(tokens);
    let mut found = Vec::new();
    for (at, tree) in trees.iter().enumerate() {
        if let Some((group, _)) = attribute(&trees, at) {
            found.push((compact(group), group.span_open().start().line));
        }
        if let TokenTree::Group(group) = tree {
            found.extend(attributes(&group.stream()));
        }
    }
    found
}

fn compact(group: &Group) -> String {
    group.stream().to_string().split_whitespace().collect()
}

/// Does the attribute restrict what it marks to test builds? `cfg(any(test, …))` does not.
fn marks_test(attribute: &str) -> bool {
    attribute == "cfg(test)"
        || attribute.starts_with("cfg(all(test,")
        || attribute == "test"
        || attribute.ends_with("::test")
}

/// The tokens without the items that exist in test builds only.
pub fn without_tests(tokens: &TokenStream) -> TokenStream {
    let trees = trees(tokens);
    let mut kept = Vec::new();
    let mut at = 0;
    while let Some(tree) = trees.get(at) {
        if let Some((group, after)) = attribute(&trees, at)
            && marks_test(&compact(group))
        {
            if is_punct(&trees[at + 1], '!') {
                return TokenStream::new(); // `#![cfg(test)]`: all that it stands in
            }
            at = end_of_item(&trees, after);
            continue;
        }
        kept.push(match tree {
            TokenTree::Group(group) => {
                let mut inner = Group::new(group.delimiter(), without_tests(&group.stream()));
                inner.set_span(group.span());
                TokenTree::Group(inner)
            }
            other => other.clone(),
        });
        at += 1;
    }
    kept.into_iter().collect()
}

/// An item ends with its block or its semicolon, whichever comes first.
fn end_of_item(trees: &[TokenTree], start: usize) -> usize {
    let ends = |tree: &TokenTree| match tree {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        other => is_punct(other, ';'),
    };
    trees.iter().skip(start).position(ends).map_or(trees.len(), |offset| start + offset + 1)
}

/// The files that are modules of test builds only, because their parent says `#[cfg(test)] mod name;`: each as
/// `directory/name`, which stands for `directory/name.rs` and for all in `directory/name/`.
pub fn test_modules(sources: &[Source]) -> BTreeSet<String> {
    let mut modules = BTreeSet::new();
    for source in sources {
        let Ok(tokens) = &source.tokens else { continue };
        let trees = trees(tokens);
        let directory = module_directory(&source.path);
        for at in 0..trees.len() {
            if let Some((group, after)) = attribute(&trees, at)
                && marks_test(&compact(group))
                && let Some(name) = declared_module(&trees[after..end_of_item(&trees, after)])
            {
                modules.insert(format!("{directory}/{name}"));
            }
        }
    }
    modules
}

pub fn is_in_test_module(path: &str, modules: &BTreeSet<String>) -> bool {
    modules.iter().any(|module| {
        path.strip_prefix(module.as_str()).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
    })
}

/// Where the child modules of a file lie.
fn module_directory(path: &str) -> &str {
    let (directory, file) = path.rsplit_once('/').unwrap_or((".", path));
    if matches!(file, "mod.rs" | "lib.rs" | "main.rs") { directory } else { path.trim_end_matches(".rs") }
}

/// The name in `… mod name ;`.
fn declared_module(item: &[TokenTree]) -> Option<String> {
    match item {
        [.., TokenTree::Ident(keyword), TokenTree::Ident(name), end]
            if keyword == "mod" && is_punct(end, ';') =>
        {
            Some(plain(name))
        }
        _ => None,
    }
}

/// A function with a body: its name, the line of its `fn`, and its lines from there to the closing brace.
pub struct Function {
    pub name: String,
    pub line: usize,
    pub lines: usize,
}

/// All functions at any depth, also those written inside a macro call.
pub fn functions(tokens: &TokenStream) -> Vec<Function> {
    let trees = trees(tokens);
    let mut found = Vec::new();
    for (at, tree) in trees.iter().enumerate() {
        if let TokenTree::Ident(keyword) = tree
            && keyword == "fn"
            && let Some(TokenTree::Ident(name)) = trees.get(at + 1)
            && let Some(TokenTree::Group(body)) = trees.get(end_of_item(&trees, at) - 1)
            && body.delimiter() == Delimiter::Brace
        {
            let line = keyword.span().start().line;
            found.push(Function { name: plain(name), line, lines: body.span_close().end().line - line + 1 });
        }
        if let TokenTree::Group(group) = tree {
            found.extend(functions(&group.stream()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> TokenStream {
        text.parse().unwrap()
    }

    fn texts(text: &str) -> Vec<String> {
        names(&parsed(text)).iter().map(Name::text).collect()
    }

    #[test]
    fn names_are_whole_paths_and_use_trees_are_spread_out() {
        assert_eq!(
            texts("use std::{fs, net::{IpAddr, *}};"),
            ["use", "std::fs", "std::net::IpAddr", "std::net::*"]
        );
        assert_eq!(texts("<T as Clock>::now()"), ["T", "as", "Clock", "::now"]);
        assert_eq!(texts("// std::fs\n \"std::env\" /* a::b */"), [""; 0]);
    }

    #[test]
    fn names_know_what_stands_around_them() {
        let names = names(&parsed("f(x.await);\nprintln!(); a != b"));
        assert!(names.iter().any(|name| name.after_dot && name.last() == "await" && name.line == 1));
        assert!(names.iter().any(|name| name.is_macro && name.last() == "println" && name.line == 2));
        assert!(!names.iter().any(|name| name.last() == "a" && name.is_macro));
    }

    #[test]
    fn tests_are_left_out_and_what_stands_beside_them_is_not() {
        let tokens = parsed(
            "fn a() {} #[cfg(test)] #[allow(x)] mod tests { fn b() {} } #[cfg(any(test, y))] fn c() {}",
        );
        let kept: Vec<String> =
            functions(&without_tests(&tokens)).into_iter().map(|function| function.name).collect();
        assert_eq!(kept, ["a", "c"]);
        assert!(without_tests(&parsed("#![cfg(test)] fn a() {}")).is_empty());
        assert!(functions(&without_tests(&parsed("mod m { #[tokio::test] async fn a() {} }"))).is_empty());
    }

    #[test]
    fn test_modules_in_their_own_file_are_known_by_their_parent() {
        let modules = test_modules(&[
            Source::new("c/src/lib.rs", "#[cfg(test)] pub(crate) mod samples; mod real;".into()),
            Source::new("c/src/real.rs", "#[cfg(test)]\nmod tests;".into()),
        ]);
        assert!(is_in_test_module("c/src/samples.rs", &modules));
        assert!(is_in_test_module("c/src/real/tests/more.rs", &modules));
        assert!(!is_in_test_module("c/src/real.rs", &modules));
        assert!(!is_in_test_module("c/src/samples_of_something.rs", &modules));
    }
}
