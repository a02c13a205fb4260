//! Each direct dependency has a line that says what it is for and what was rejected, and no line outlives its
//! dependency. Each crate of ours carries the licence and the lints of the workspace.

use super::Finding;
use std::collections::BTreeSet;

pub const PAGE: &str = "docs/dependencies.md";

/// Cells of a row: crate, what for, why this one, rejected.
const CELLS: usize = 4;

/// `used` are (our crate, the crate that it uses).
pub fn check_page(page: &str, used: &[(String, String)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut explained = BTreeSet::new();
    for (index, line) in page.lines().enumerate() {
        let Some(name) = row_name(line) else { continue };
        let filled = line.trim().trim_matches('|').split('|').filter(|cell| !cell.trim().is_empty()).count();
        if filled != CELLS {
            findings.push(Finding::at(
                PAGE,
                index + 1,
                format_args!("`{name}`: {filled} cells filled, not {CELLS}"),
            ));
        }
        if !explained.insert(name) {
            findings.push(Finding::at(PAGE, index + 1, format_args!("`{name}` has a line already")));
        }
    }
    for (user, name) in used {
        if !explained.contains(name.as_str()) {
            findings.push(Finding::new(user, format_args!("uses `{name}`, which has no line in {PAGE}")));
        }
    }
    let stale = explained.into_iter().filter(|name| !used.iter().any(|(_, other)| other == name));
    findings.extend(
        stale.map(|name| Finding::new(PAGE, format_args!("`{name}` is used by no crate: take its line out"))),
    );
    findings
}

/// The crate of a row "| `crate` | …".
fn row_name(line: &str) -> Option<&str> {
    line.trim().strip_prefix("| `")?.split('`').next()
}

/// `text` is the crate's Cargo.toml.
pub fn check_manifest(name: &str, licence: Option<&str>, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if licence != Some("Apache-2.0") {
        findings.push(Finding::new(name, "has another licence than Apache-2.0 (`license.workspace = true`)"));
    }
    // Without it the crate is built with none of the workspace's lints, and nothing else would say so.
    let inherits = text.lines().skip_while(|line| line.trim() != "[lints]").nth(1).map(str::trim);
    if inherits != Some("workspace = true") {
        findings
            .push(Finding::new(name, "does not take the workspace's lints (`[lints]`, `workspace = true`)"));
    }
    findings
}

/// A feature of ours is on only where a build asks for it by name, so that what tests build and is not for anybody's
/// production can't come along. `asked` are (our crate, the features that the manifest wants of it).
pub fn check_features(name: &str, by_default: &[String], asked: &[(String, Vec<String>)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !by_default.is_empty() {
        findings.push(Finding::new(name, format_args!("has features by default: {}", by_default.join(", "))));
    }
    for (other, features) in asked.iter().filter(|(_, features)| !features.is_empty()) {
        let features = features.join(", ");
        findings.push(Finding::new(name, format_args!("turns on features of `{other}`: {features}")));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str =
        "| crate | what for | why | rejected |\n| --- | --- | --- | --- |\n| `a` | x | y | z |\n";

    fn findings(page: &str, used: &[&str]) -> Vec<Finding> {
        let used: Vec<_> = used.iter().map(|name| ("drover-x".to_owned(), (*name).to_owned())).collect();
        check_page(page, &used)
    }

    #[test]
    fn unexplained_and_stale_and_half_filled_lines_are_found() {
        assert_eq!(findings(SAMPLE, &["a"]), []);
        assert!(findings(SAMPLE, &["a", "b"])[0].what.contains("`b`"));
        assert!(findings(SAMPLE, &[])[0].what.contains("take its line out"));
        assert_eq!(findings("| `a` | x |  | z |\n", &["a"]).len(), 1);
        assert_eq!(findings(&format!("{SAMPLE}| `a` | x | y | z |"), &["a"]).len(), 1);
    }

    #[test]
    fn features_that_nobody_asked_for_are_found() {
        let faults = vec!["fault-points".to_owned()];
        assert_eq!(check_features("x", &[], &[("drover-y".to_owned(), vec![])]), []);
        assert_eq!(check_features("x", &faults, &[]).len(), 1);
        assert_eq!(check_features("x", &[], &[("drover-y".to_owned(), faults)]).len(), 1);
    }

    #[test]
    fn manifests_that_differ_are_found() {
        let good = "[package]\nname = \"x\"\n\n[lints]\nworkspace = true\n";
        assert_eq!(check_manifest("x", Some("Apache-2.0"), good), []);
        assert_eq!(check_manifest("x", Some("MIT"), good).len(), 1);
        assert_eq!(check_manifest("x", None, good).len(), 1);
        assert_eq!(check_manifest("x", Some("Apache-2.0"), "[package]\n").len(), 1);
        assert_eq!(
            check_manifest("x", Some("Apache-2.0"), "[lints]\n[dependencies]\nworkspace = true\n").len(),
            1
        );
    }
}
