//! What the rules read: every file of the repository that is not built or ignored, in a fixed order.

use super::tokens::Source;
use std::fs;
use std::path::{Path, PathBuf};

/// Never part of the repository, wherever they are.
const SKIPPED: [&str; 2] = [".git", ".drover"];

/// The checkout.
pub struct Repository {
    pub root: PathBuf,
    /// Relative to the root, with `/`, sorted.
    paths: Vec<String>,
}

impl Repository {
    pub fn read() -> Self {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = manifest.parent().expect("tests/ lies in the repository").to_path_buf();
        let mut paths = Vec::new();
        collect(&root, "", &mut paths);
        paths.sort();
        Self { root, paths }
    }

    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.paths.iter().map(String::as_str)
    }

    pub fn with_extension(&self, extension: &str) -> impl Iterator<Item = &str> {
        self.files().filter(move |path| Path::new(path).extension().is_some_and(|found| found == extension))
    }

    pub fn bytes(&self, path: &str) -> Vec<u8> {
        fs::read(self.root.join(path)).unwrap_or_else(|error| panic!("read {path}: {error}"))
    }

    pub fn text(&self, path: &str) -> String {
        String::from_utf8(self.bytes(path)).unwrap_or_else(|error| panic!("read {path}: {error}"))
    }

    pub fn sources(&self) -> Vec<Source> {
        self.with_extension("rs").map(|path| Source::new(path, self.text(path))).collect()
    }
}

fn collect(directory: &Path, prefix: &str, paths: &mut Vec<String>) {
    let entries =
        fs::read_dir(directory).unwrap_or_else(|error| panic!("list {}: {error}", directory.display()));
    for entry in entries {
        let entry = entry.expect("read a directory entry");
        let name = entry.file_name().to_string_lossy().into_owned();
        let kind = entry.file_type().expect("file type");
        let path = format!("{prefix}{name}");
        if kind.is_file() {
            paths.push(path);
        } else if kind.is_dir() && !is_skipped(prefix, &name) {
            collect(&entry.path(), &format!("{path}/"), paths);
        }
    }
}

/// As in `.gitignore`: build output lies at the root only.
fn is_skipped(prefix: &str, name: &str) -> bool {
    SKIPPED.contains(&name) || (prefix.is_empty() && (name == "target" || name.starts_with("target-")))
}
