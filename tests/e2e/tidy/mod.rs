//! The rules of this repository that no compiler checks: who may depend on whom, what pure crates must not do, how
//! long a file may get, which licences come along, what must be written down.
//!
//! Each rule is a function from what it reads to a list of findings, and is tested twice: here on the repository as
//! it stands, and in its own module on small samples that break it, so that a rule that finds nothing is known to
//! be able to. Rules about code read tokens, so a word in a comment or in a string is no finding, and code inside a
//! macro call is seen like any other.

mod conduct;
mod dependencies;
mod documents;
mod edges;
mod files;
mod invariants;
mod licences;
mod purity;
mod sizes;
mod tokens;

use cargo_metadata::{Metadata, MetadataCommand, Package};
use files::Repository;
use std::fmt;
use std::sync::OnceLock;

/// One broken rule at one place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    place: String,
    what: String,
}

impl Finding {
    fn new(place: impl fmt::Display, what: impl fmt::Display) -> Self {
        Self { place: place.to_string(), what: what.to_string() }
    }

    /// At a line, counted from 1.
    fn at(path: &str, line: usize, what: impl fmt::Display) -> Self {
        Self::new(format_args!("{path}:{line}"), what)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

#[track_caller]
fn assert_clean(findings: &[Finding]) {
    let lines: Vec<String> = findings.iter().map(Finding::to_string).collect();
    assert!(findings.is_empty(), "{} finding(s):\n{}", findings.len(), lines.join("\n"));
}

fn repository() -> &'static Repository {
    static REPOSITORY: OnceLock<Repository> = OnceLock::new();
    REPOSITORY.get_or_init(Repository::read)
}

/// The platforms that drover is shipped for; without a filter cargo would download the crates of all others too.
const PLATFORMS: [&str; 2] = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"];

fn metadata() -> &'static Metadata {
    static METADATA: OnceLock<Metadata> = OnceLock::new();
    METADATA.get_or_init(|| {
        // All features: also what only one of them brings in, like the fuzzer, has a licence.
        let always = ["--locked", "--all-features"].into_iter().map(String::from);
        let filters = PLATFORMS.iter().flat_map(|platform| ["--filter-platform".into(), (*platform).into()]);
        MetadataCommand::new()
            .manifest_path(repository().root.join("Cargo.toml"))
            .other_options(always.chain(filters).collect::<Vec<String>>())
            .exec()
            .expect("cargo metadata")
    })
}

/// The packages of this workspace.
fn own_packages() -> Vec<&'static Package> {
    metadata().workspace_packages()
}

#[test]
fn crates_depend_downwards_only() {
    let edges: Vec<(String, String)> = own_packages()
        .iter()
        .flat_map(|package| {
            let own = package.dependencies.iter().filter(|dependency| dependency.path.is_some());
            own.map(|dependency| (package.name.to_string(), dependency.name.clone()))
        })
        .collect();
    let names: Vec<String> = own_packages().iter().map(|package| package.name.to_string()).collect();
    assert!(!edges.is_empty(), "no edges read");
    assert_clean(&edges::check(&names, &edges));
}

#[test]
fn pure_crates_stay_pure() {
    assert_clean(&purity::check(&repository().sources()));
}

#[test]
fn files_and_functions_stay_short() {
    assert_clean(&sizes::check(&repository().sources()));
}

#[test]
fn no_unsafe_no_ignored_test_no_placeholder() {
    assert_clean(&conduct::check(&repository().sources(), conduct::UNSAFE_ALLOWED));
}

#[test]
fn licences_of_all_packages_are_allowed() {
    let packages: Vec<licences::Licensed> = metadata()
        .packages
        .iter()
        .filter(|package| package.source.is_some())
        .map(|package| licences::Licensed {
            name: package.name.to_string(),
            version: package.version.to_string(),
            licence: package.license.clone(),
        })
        .collect();
    assert!(packages.len() > 50, "only {} packages read", packages.len());
    assert_clean(&licences::check(&packages, licences::EXCEPTIONS));
}

#[test]
fn each_direct_dependency_is_explained() {
    let used: Vec<(String, String)> = own_packages()
        .iter()
        .flat_map(|package| {
            let foreign = package.dependencies.iter().filter(|dependency| dependency.path.is_none());
            foreign.map(|dependency| (package.name.to_string(), dependency.name.clone()))
        })
        .collect();
    assert_clean(&dependencies::check_page(&repository().text(dependencies::PAGE), &used));
}

#[test]
fn own_manifests_are_uniform() {
    let findings: Vec<Finding> = own_packages()
        .iter()
        .flat_map(|package| {
            let text = std::fs::read_to_string(&package.manifest_path).expect("read a manifest");
            dependencies::check_manifest(&package.name, package.license.as_deref(), &text)
        })
        .collect();
    assert_clean(&findings);
}

#[test]
fn features_are_off_unless_a_build_asks() {
    let findings: Vec<Finding> = own_packages()
        .iter()
        .flat_map(|package| {
            let own = package.dependencies.iter().filter(|dependency| dependency.path.is_some());
            let asked: Vec<_> = own.map(|d| (d.name.clone(), d.features.clone())).collect();
            let by_default = package.features.get("default").map_or(&[][..], Vec::as_slice);
            dependencies::check_features(&package.name, by_default, &asked)
        })
        .collect();
    let with_features = own_packages().iter().filter(|package| !package.features.is_empty()).count();
    assert!(with_features > 0, "no features read");
    assert_clean(&findings);
}

#[test]
fn links_in_documents_resolve() {
    let repository = repository();
    let findings: Vec<Finding> = repository
        .with_extension("md")
        .flat_map(|path| {
            documents::check_links(path, &repository.text(path), &|to| repository.root.join(to).exists())
        })
        .collect();
    assert_clean(&findings);
}

#[test]
fn each_invariant_has_its_guard_its_mark_and_its_test() {
    let repository = repository();
    assert_clean(&invariants::check(&repository.text(invariants::PAGE), &repository.sources()));
}

#[test]
fn shell_scripts_parse() {
    let repository = repository();
    let scripts: Vec<&str> =
        repository.files().filter(|path| documents::is_script(&repository.bytes(path))).collect();
    assert!(scripts.contains(&"tests/run"), "tests/run is a script");
    assert_clean(
        &scripts
            .iter()
            .filter_map(|path| documents::check_script(&repository.root, path))
            .collect::<Vec<_>>(),
    );
}
