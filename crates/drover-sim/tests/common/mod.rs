//! What several tests of this crate begin with.

use drover_sim::WorldFiles;
use std::collections::BTreeMap;
use std::path::Path;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// The runbooks that drover ships with.
pub fn runbooks() -> WorldFiles {
    let mut runbooks = BTreeMap::new();
    for entry in std::fs::read_dir(Path::new(ROOT).join("runbooks")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "yaml") {
            let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
            runbooks.insert(stem, std::fs::read_to_string(&path).unwrap());
        }
    }
    WorldFiles { runbooks: runbooks.into_iter().collect(), ..WorldFiles::default() }
}

/// A number from the environment, when it is set.
pub fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|e| panic!("{name}={text}: {e}")))
}
