//! What must not stand in any file: `unsafe` without a place in the table and an argument, tests that don't run,
//! code that is still to be written.

use super::Finding;
use super::tokens::{Source, attributes, names};

/// Files that may contain `unsafe`, each with what can't be done without. Every use needs a `// SAFETY:` comment.
pub const UNSAFE_ALLOWED: &[(&str, &str)] = &[
    ("crates/drover-coordinator/src/allocator.rs", "jemalloc finds its settings by a symbol's name"),
    ("crates/drover-dns/src/server/send_many.rs", "many datagrams in one call, each to its own address"),
    ("tests/partition/fabric.rs", "a TUN device is named by an ioctl"),
];

/// How far above an `unsafe` its argument may begin, in lines.
const SAFETY_COMMENT_LINES: usize = 6;

pub fn check(sources: &[Source], unsafe_allowed: &[(&str, &str)]) -> Vec<Finding> {
    let stale = unsafe_allowed
        .iter()
        .filter(|(path, _)| !sources.iter().any(|source| source.path == *path))
        .map(|(path, _)| {
            Finding::new(path, "may contain unsafe code but does not exist: take it out of the table")
        });
    stale.chain(sources.iter().flat_map(|source| check_one(source, unsafe_allowed))).collect()
}

fn check_one(source: &Source, unsafe_allowed: &[(&str, &str)]) -> Vec<Finding> {
    let Ok(tokens) = &source.tokens else { return Vec::new() }; // `sizes` reports what can't be read
    let allowed = unsafe_allowed.iter().any(|(path, _)| *path == source.path);
    let mut findings = Vec::new();
    for name in names(tokens) {
        let what = match name.last() {
            "unsafe" if !allowed => "unsafe code outside the table of tests/e2e/tidy/conduct.rs",
            "unsafe" if !is_argued(&source.text, name.line) => "unsafe code without a SAFETY comment",
            "todo" | "unimplemented" if name.is_macro => "code that is still to be written",
            _ => continue,
        };
        findings.push(Finding::at(&source.path, name.line, what));
    }
    let ignored = attributes(tokens).into_iter().filter(|(text, _)| ignores(text));
    findings.extend(ignored.map(|(_, line)| Finding::at(&source.path, line, "a test that does not run")));
    findings
}

/// `ignore`, `ignore = "why"`, `cfg_attr(…, ignore)`.
fn ignores(attribute: &str) -> bool {
    attribute == "ignore"
        || attribute.starts_with("ignore=")
        || (attribute.starts_with("cfg_attr(")
            && attribute.split([',', ')', '=']).any(|word| word == "ignore"))
}

/// Is there a `SAFETY:` on the line or shortly above it?
fn is_argued(text: &str, line: usize) -> bool {
    let first = line.saturating_sub(SAFETY_COMMENT_LINES + 1);
    text.lines().skip(first).take(line - first).any(|above| above.contains("// SAFETY:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[(&str, &str)] = &[("a.rs", "a sample")];

    fn findings(text: &str, table: &[(&str, &str)]) -> usize {
        check(&[Source::new("a.rs", text.to_owned())], table).len()
    }

    #[test]
    fn unsafe_needs_a_place_and_an_argument() {
        assert_eq!(findings("fn f() { unsafe { g() } }", &[]), 1);
        assert_eq!(findings("// SAFETY: because\nfn f() { unsafe { g() } }", &[]), 1);
        assert_eq!(findings("fn f() { unsafe { g() } }", TABLE), 1);
        assert_eq!(findings("// SAFETY: because\nfn f() { unsafe { g() } }", TABLE), 0);
        assert_eq!(findings("// SAFETY: because\n\n\n\n\n\n\n\nfn f() { unsafe { g() } }", TABLE), 1);
        assert_eq!(findings("#[unsafe(no_mangle)] fn f() {}", &[]), 1);
        assert_eq!(findings("#![deny(unsafe_code)] // unsafe", &[]), 0);
        assert_eq!(check(&[], TABLE).len(), 1, "a stale row");
    }

    #[test]
    fn tests_that_do_not_run_are_found() {
        assert_eq!(findings("#[test] #[ignore] fn f() {}", &[]), 1);
        assert_eq!(findings("mod m { #[ignore = \"slow\"] fn f() {} }", &[]), 1);
        assert_eq!(findings("#[cfg_attr(debug_assertions, ignore)] fn f() {}", &[]), 1);
        assert_eq!(findings("#[serde(ignore)] struct S; // #[ignore]", &[]), 0);
    }

    #[test]
    fn placeholders_are_found() {
        assert_eq!(findings("fn f() { todo!() } fn g() { unimplemented!(\"later\") }", &[]), 2);
        assert_eq!(findings("fn f() { let todo = \"todo!()\"; todo != x }", &[]), 0);
    }
}
