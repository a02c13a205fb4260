//! The peer of everything that waits for the disk: a bare `fdatasync` loop on the same file system.

use crate::error::{Attempt, Result};
use crate::samples::Samples;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Written before each sync: one page, as the smallest commit of any store.
const WRITE_BYTES: usize = 4096;
/// The file is written through over and over in place, so that no sync has to make it longer: the cheapest sync there is.
const FILE_BYTES: u64 = 1 << 20;

/// Times of `count` writes with `fdatasync` in `directory`.
pub fn fdatasync(directory: &Path, count: usize) -> Result<Samples> {
    let path = directory.join("fdatasync");
    let file = File::create(&path).attempt(format!("create {}", path.display()))?;
    let failed = || format!("sync {}", path.display());
    let page = [0x5a_u8; WRITE_BYTES];
    for at in (0..FILE_BYTES).step_by(WRITE_BYTES) {
        file.write_all_at(&page, at).attempt(failed())?;
    }
    file.sync_all().attempt(failed())?;
    let mut samples = Samples::new();
    for n in 0..count as u64 {
        let at = n * WRITE_BYTES as u64 % FILE_BYTES;
        samples.time(|| file.write_all_at(&page, at).and_then(|()| file.sync_data())).attempt(failed())?;
    }
    std::fs::remove_file(&path).attempt(format!("remove {}", path.display()))?;
    Ok(samples)
}

/// A directory that goes when the figure is done: beside this program, so that it is on the disk that builds are on and
/// not in memory, as /tmp often is.
pub fn scratch() -> Result<tempfile::TempDir> {
    let program = std::env::current_exe().attempt("find this program")?;
    let beside = program.parent().map_or_else(|| PathBuf::from("."), Path::to_owned);
    tempfile::Builder::new()
        .prefix("bench-")
        .tempdir_in(&beside)
        .attempt(format!("make a directory in {}", beside.display()))
}
