//! Which crate of this workspace may depend on which. Dependencies point down, and crates of one layer don't know
//! each other; a new edge is a change of the design. Development dependencies count like any other.

use super::Finding;

/// What one crate may use of the others.
enum MayUse {
    Only(&'static [&'static str]),
    All,
}

/// Layers 0 to 3.
const BELOW_PROGRAMS: &[&str] = &[
    "drover-model",
    "drover-core",
    "drover-exec",
    "drover-store",
    "drover-dns",
    "drover-pki",
    "drover-data",
    "drover-backup",
    "drover-kube",
];

const ALLOWED: &[(&str, MayUse)] = &[
    ("drover-model", MayUse::Only(&[])),
    ("drover-core", MayUse::Only(&["drover-model"])),
    ("drover-exec", MayUse::Only(&["drover-core", "drover-model"])),
    ("drover-store", MayUse::Only(&["drover-exec", "drover-model"])),
    ("drover-dns", MayUse::Only(&["drover-model"])),
    ("drover-pki", MayUse::Only(&["drover-model"])),
    ("drover-data", MayUse::Only(&["drover-model"])),
    ("drover-backup", MayUse::Only(&["drover-model"])),
    ("drover-kube", MayUse::Only(&["drover-core", "drover-model"])),
    ("drover-agent", MayUse::Only(BELOW_PROGRAMS)),
    ("drover-coordinator", MayUse::Only(BELOW_PROGRAMS)),
    ("drover-sim", MayUse::Only(&["drover-model", "drover-core", "drover-exec"])),
    ("drover-cli", MayUse::All),
    ("drover-bench", MayUse::All),
    ("drover-fuzz", MayUse::Only(&["drover-model", "drover-core", "drover-dns"])),
    ("drover-tests", MayUse::All),
];

/// `edges` are (who depends, on whom).
pub fn check(names: &[String], edges: &[(String, String)]) -> Vec<Finding> {
    let find = |name: &str| ALLOWED.iter().find(|(known, _)| *known == name).map(|(_, may_use)| may_use);
    let unknown = names
        .iter()
        .filter(|name| find(name).is_none())
        .map(|name| Finding::new(name, "has no place in the table of layers (tests/e2e/tidy/edges.rs)"));
    let upward = edges.iter().filter_map(|(from, to)| match find(from)? {
        MayUse::Only(allowed) if !allowed.contains(&to.as_str()) => {
            Some(Finding::new(from, format_args!("depends on {to}; it may use: {}", list(allowed))))
        }
        _ => None,
    });
    unknown.chain(upward).collect()
}

fn list(names: &[&str]) -> String {
    if names.is_empty() { "none of them".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(from: &str, to: &str) -> usize {
        check(&[from.to_owned()], &[(from.to_owned(), to.to_owned())]).len()
    }

    #[test]
    fn upward_and_sideways_edges_are_found() {
        assert_eq!(findings("drover-model", "drover-core"), 1);
        assert_eq!(findings("drover-core", "drover-exec"), 1);
        assert_eq!(findings("drover-dns", "drover-store"), 1);
        assert_eq!(findings("drover-pki", "drover-dns"), 1);
        assert_eq!(findings("drover-store", "drover-core"), 1);
        assert_eq!(findings("drover-agent", "drover-coordinator"), 1);
        assert_eq!(findings("drover-sim", "drover-store"), 1);
    }

    #[test]
    fn downward_edges_are_not() {
        assert_eq!(findings("drover-core", "drover-model"), 0);
        assert_eq!(findings("drover-coordinator", "drover-dns"), 0);
        assert_eq!(findings("drover-cli", "drover-agent"), 0);
    }

    #[test]
    fn a_crate_without_a_place_is_found() {
        let found = check(&["drover-helpers".to_owned()], &[]);
        assert_eq!(found.len(), 1, "{found:?}");
    }
}
