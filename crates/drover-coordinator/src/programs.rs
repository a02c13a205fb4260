//! The programs that runbooks run: read when a runbook is loaded, so that a plan can name exactly what will be run (I9),
//! and looked at again whenever the directory is, so that a changed program is a changed runbook.

use drover_model::config::decode::{self, SourceFile};
use drover_model::config::diagnostic::Diagnostic;
use drover_model::config::version_of;
use drover_model::plan::LoadedRunbook;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

/// Bytes of one program, at most: a script, or a statically linked tool.
pub const PROGRAM_BYTES_MAX: u64 = 64 << 20;
/// Read at once.
const CHUNK_BYTES: usize = 64 << 10;
/// Bits of a mode that let somebody execute a file.
const EXECUTE_BITS: u32 = 0o111;

/// What tells that a file is not what it was, without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    /// Change of content or mode, in seconds and nanoseconds; nobody can set it back.
    changed: (i64, i64),
    mode: u32,
}

impl Stamp {
    fn of(m: &Metadata) -> Self {
        Self {
            device: m.dev(),
            inode: m.ino(),
            length: m.len(),
            changed: (m.ctime(), m.ctime_nsec()),
            mode: m.mode(),
        }
    }
}

/// A stamp for each program that these runbooks name; none for one that is not there.
#[must_use]
pub fn stamps(runbooks: &[SourceFile]) -> Vec<(String, Option<Stamp>)> {
    // Runbooks that are wrong are judged where they are loaded; until then they run nothing.
    let Ok(books) = decode::load_runbooks(runbooks) else { return Vec::new() };
    let programs = books.iter().flat_map(|b| b.runbook.programs());
    programs.map(|p| (p.to_owned(), std::fs::metadata(p).ok().as_ref().map(Stamp::of))).collect()
}

/// Reads every program of these runbooks.
///
/// # Errors
/// A finding for each program that can't be read or run, at the place where its runbook names it.
pub fn read_all(
    files: &[SourceFile],
    mut books: Vec<LoadedRunbook>,
) -> Result<Vec<LoadedRunbook>, Vec<Diagnostic>> {
    let mut findings = Vec::new();
    for book in &mut books {
        for path in book.runbook.programs() {
            match digest(Path::new(path)) {
                Ok(digest) => drop(book.programs.insert(path.to_owned(), digest)),
                Err(e) => findings.push(finding(files, path, &e)),
            }
        }
        if !book.programs.is_empty() {
            book.version = version_of(&(&book.version, &book.programs));
        }
    }
    if findings.is_empty() { Ok(books) } else { Err(findings) }
}

fn finding(files: &[SourceFile], path: &str, error: &io::Error) -> Diagnostic {
    let found = files.iter().find_map(|f| Some((f, f.text.find(path)?)));
    let (file, offset) = found.map_or((None, 0), |(f, offset)| (Some(f), offset));
    let before = file.map_or("", |f| &f.text[..offset]);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let source_line = file.and_then(|f| f.text[line_start..].lines().next()).unwrap_or_default();
    Diagnostic {
        file: file.map(|f| f.name.clone()).unwrap_or_default(),
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
        offset,
        length: path.len().max(1),
        source_line: source_line.to_owned(),
        message: format!("can't run {path}: {error}"),
        suggestion: Some("put it there, or take the step out".to_owned()),
    }
}

/// The SHA-256 of a program's file, in hexadecimal.
///
/// # Errors
/// When it can't be read, is larger than [`PROGRAM_BYTES_MAX`], or is nothing that could be executed.
pub fn digest(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    if metadata.permissions().mode() & EXECUTE_BITS == 0 {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is not executable"));
    }
    let (mut hash, mut chunk, mut length) = (Sha256::new(), vec![0; CHUNK_BYTES], 0);
    loop {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            return Ok(hex::encode(hash.finalize()));
        }
        length += read as u64;
        if length > PROGRAM_BYTES_MAX {
            return Err(io::Error::other(format!("it has more than {PROGRAM_BYTES_MAX} bytes")));
        }
        hash.update(&chunk[..read]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn program(dir: &Path, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn runbook(path: &Path) -> Vec<SourceFile> {
        let text = format!(
            "kind: Runbook\nname: d\npurpose: drain\ndescription: x\nsteps:\n  - shift_traffic\n  - verify_dns\n  \
             - run: {{command: [{}], repeatability: keyed}}\n  - validate\n",
            path.display()
        );
        vec![SourceFile::new("r.yaml", text)]
    }

    fn loaded(path: &Path) -> Result<Vec<LoadedRunbook>, Vec<Diagnostic>> {
        let files = runbook(path);
        read_all(&files, decode::load_runbooks(&files).unwrap())
    }

    #[test]
    fn a_changed_program_is_a_changed_runbook() {
        let dir = tempfile::tempdir().unwrap();
        let path = program(dir.path(), "a.sh", "#!/bin/sh\n", 0o755);
        let before = loaded(&path).unwrap().remove(0);
        assert_eq!(before.programs.len(), 1);
        let stamped = stamps(&runbook(&path));
        program(dir.path(), "a.sh", "#!/bin/sh\nexit 0\n", 0o755);
        let after = loaded(&path).unwrap().remove(0);
        assert_eq!(before.runbook, after.runbook);
        assert_ne!(before.version, after.version);
        assert_ne!(before.programs, after.programs);
        assert_ne!(stamps(&runbook(&path)), stamped, "the change would not be noticed");
    }

    #[test]
    fn what_can_not_be_run_is_refused_where_it_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let refused = |path: &Path| loaded(path).unwrap_err().remove(0).to_string();
        let absent = dir.path().join("absent");
        let told = refused(&absent);
        assert!(
            told.starts_with(&format!("r.yaml:8:21: can't run {}: No such file", absent.display())),
            "{told}"
        );
        assert_eq!(stamps(&runbook(&absent)), [(absent.display().to_string(), None)]);
        let told = refused(&program(dir.path(), "plain", "text", 0o644));
        assert!(told.contains("it is not executable"), "{told}");
        assert!(refused(dir.path()).contains("it is not a file"));
    }
}
