//! Links between documents that lead somewhere, and shell scripts that bash can read.

use super::Finding;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

/// Relative links of a Markdown page. `exists` is asked for paths relative to the repository's root.
pub fn check_links(page: &str, text: &str, exists: &dyn Fn(&Path) -> bool) -> Vec<Finding> {
    let folder = Path::new(page).parent().unwrap_or(Path::new(""));
    links(text)
        .into_iter()
        .filter_map(|(line, target)| {
            let file = target.split('#').next().unwrap_or_default();
            if file.is_empty() || is_absolute(&target) {
                return None;
            }
            match inside(&folder.join(file)) {
                None => Some(Finding::at(page, line, format_args!("link `{target}` leaves the repository"))),
                Some(path) if !exists(&path) => {
                    Some(Finding::at(page, line, format_args!("link `{target}` leads nowhere")))
                }
                Some(_) => None,
            }
        })
        .collect()
}

/// `https:…`, `mailto:…`: a scheme before any slash.
fn is_absolute(target: &str) -> bool {
    target.split('/').next().is_some_and(|first| first.contains(':'))
}

/// The path without `.` and `..`; none when it would leave the root.
fn inside(path: &Path) -> Option<PathBuf> {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => clean.push(part),
            Component::CurDir => {}
            Component::ParentDir if clean.pop() => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(clean)
}

/// `[text](target "title")` and `[label]: target` outside code, with their lines.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut in_fence = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_fence = !in_fence;
        } else if !in_fence {
            let prose = without_code_spans(line);
            let inline = prose.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
            let definition =
                prose.strip_prefix('[').and_then(|rest| rest.split_once("]: ")).map(|(_, target)| target);
            let targets = inline.chain(definition.and_then(|target| target.split_whitespace().next()));
            found.extend(targets.map(|target| (index + 1, target.trim_matches(['<', '>']).to_owned())));
        }
    }
    found
}

/// Every second piece between backquotes is code. The `](` of a link whose text is code stays.
fn without_code_spans(line: &str) -> String {
    line.split('`').step_by(2).collect()
}

pub fn is_script(bytes: &[u8]) -> bool {
    let first = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    first.starts_with(b"#!") && first.ends_with(b"sh")
}

pub fn check_script(root: &Path, path: &str) -> Option<Finding> {
    let output = Command::new("bash").arg("-n").arg(root.join(path)).output().expect("run bash");
    let error = String::from_utf8_lossy(&output.stderr);
    (!output.status.success())
        .then(|| Finding::new(path, format_args!("bash can't read it: {}", error.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(text: &str) -> usize {
        check_links("docs/page.md", text, &|path| {
            path == Path::new("README.md") || path == Path::new("docs/other.md")
        })
        .len()
    }

    #[test]
    fn links_that_lead_nowhere_are_found() {
        assert_eq!(
            findings(
                "see [a](other.md#part), [`b`](../README.md \"title\"), [c](#here), [d](https://x.test/y)"
            ),
            0
        );
        assert_eq!(findings("see [a](missing.md) and [b](../missing.md)"), 2);
        assert_eq!(findings("[a]: missing.md\n[b]: other.md"), 1);
        assert_eq!(findings("see [a](../../README.md) and [b](/README.md)"), 2);
    }

    #[test]
    fn code_is_not_prose() {
        assert_eq!(findings("`[a](missing.md)`\n```\n[a](missing.md)\n```\n"), 0);
        assert_eq!(findings("```\n```\n[a](missing.md)"), 1);
    }

    #[test]
    fn scripts_that_bash_cannot_read_are_found() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("bad"), "#!/bin/bash\nif true; then\n").unwrap();
        std::fs::write(folder.path().join("good"), "#!/bin/bash\nif true; then :; fi\n").unwrap();
        assert!(check_script(folder.path(), "bad").is_some());
        assert_eq!(check_script(folder.path(), "good"), None);
        assert!(
            is_script(b"#!/usr/bin/env bash\n")
                && !is_script(b"#!/usr/bin/env python3\n")
                && !is_script(b"bash")
        );
    }
}
