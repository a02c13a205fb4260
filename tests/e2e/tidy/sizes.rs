//! A file holds one idea and a function fits a screen; tests are read as often as the rest, so they count too.

use super::Finding;
use super::tokens::{Source, functions};

const FILE_LINES_MAX: usize = 600;
/// From the line of `fn` to the closing brace.
const FUNCTION_LINES_MAX: usize = 70;

pub fn check(sources: &[Source]) -> Vec<Finding> {
    sources.iter().flat_map(check_one).collect()
}

fn check_one(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let lines = source.text.lines().count();
    if lines > FILE_LINES_MAX {
        findings.push(Finding::new(&source.path, format_args!("{lines} lines, {FILE_LINES_MAX} at most")));
    }
    match &source.tokens {
        Err(error) => {
            findings.push(Finding::new(&source.path, format_args!("can't be read as Rust: {error}")))
        }
        Ok(tokens) => {
            let long = functions(tokens).into_iter().filter(|function| function.lines > FUNCTION_LINES_MAX);
            findings.extend(long.map(|function| {
                let what =
                    format!("fn {}: {} lines, {FUNCTION_LINES_MAX} at most", function.name, function.lines);
                Finding::at(&source.path, function.line, what)
            }));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(text: &str) -> Vec<Finding> {
        check(&[Source::new("a.rs", text.to_owned())])
    }

    /// `fn f() {`, some lines, `}`.
    fn function(lines: usize) -> String {
        format!("fn f()\n{{{}}}", "\n".repeat(lines - 2))
    }

    #[test]
    fn the_bounds_themselves_are_allowed_and_one_more_is_not() {
        assert_eq!(findings(&"\n".repeat(600)), []);
        assert_eq!(findings(&"\n".repeat(601)).len(), 1);
        assert_eq!(findings(&function(70)), []);
        assert_eq!(findings(&function(71)).len(), 1);
    }

    #[test]
    fn functions_hide_nowhere() {
        for around in [
            "impl A { F }",
            "trait A { fn g(); F }",
            "mod tests { #[test] F }",
            "proptest! { F }",
            "fn g() { F }",
        ] {
            let found = findings(&around.replace('F', &function(71)));
            assert!(found.iter().any(|finding| finding.what.starts_with("fn f:")), "{around}: {found:?}");
        }
    }

    #[test]
    fn what_is_not_rust_is_said() {
        assert_eq!(findings("fn f( {").len(), 1);
    }
}
