//! Helpers shared by the end-to-end tests.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The program under test.
///
/// # Panics
/// When `DROVER_BIN` does not name it: the message says how to make it.
#[must_use]
pub fn binary() -> PathBuf {
    const HOW: &str = "build it with `tests/run build` and set DROVER_BIN=target/ci/drover";
    let given = std::env::var_os("DROVER_BIN").unwrap_or_else(|| panic!("DROVER_BIN is not set: {HOW}"));
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let path = root.join(PathBuf::from(given));
    path.canonicalize().unwrap_or_else(|e| panic!("DROVER_BIN is {}: {e}: {HOW}", path.display()))
}

/// Nothing of the caller's own drover, and every file inside of the test's directory.
pub fn surroundings(command: &mut Command, directory: &Path) {
    let places = ["DROVER_CONTEXT", "DROVER_COORDINATOR", "DROVER_STATE", "DROVER_CONFIG", "DROVER_LOG"];
    let people = ["DROVER_TOKEN_FILE"];
    let certificates = ["DROVER_PKI", "DROVER_CA", "DROVER_CERTIFICATE", "DROVER_KEY", "DROVER_CRL"];
    for name in places.into_iter().chain(certificates).chain(people) {
        command.env_remove(name);
    }
    for name in ["HOME", "TMPDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"] {
        command.env(name, directory);
    }
    command.env("NO_COLOR", "1").current_dir(directory);
}
