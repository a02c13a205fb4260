//! Plays every file of `tests/scenarios`: one test a file. With `DROVER_UPDATE_SCENARIOS=1` it writes what came out
//! into the file instead of comparing.

use drover_sim::{Script, WorldFiles};
use std::collections::BTreeMap;
use std::path::Path;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

fn texts(folder: &str) -> std::io::Result<BTreeMap<String, String>> {
    let mut texts = BTreeMap::new();
    for entry in std::fs::read_dir(Path::new(ROOT).join(folder))? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "yaml") {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            texts.insert(stem, std::fs::read_to_string(&path)?);
        }
    }
    Ok(texts)
}

fn scenario(path: &Path) -> datatest_stable::Result<()> {
    let runbooks = texts("runbooks")?.into_iter().collect();
    let files = WorldFiles { worlds: texts("tests/scenarios/worlds")?, runbooks };
    let expected = std::fs::read_to_string(path)?;
    if !expected.lines().next().is_some_and(|line| line.starts_with("# ") && line.contains(':')) {
        return Err("the first line says `# item N: what it shows`".into());
    }
    let played = Script::new(&*expected).play(&files)?;
    if played == expected {
        return Ok(());
    }
    if std::env::var_os("DROVER_UPDATE_SCENARIOS").is_some() {
        return Ok(std::fs::write(path, played)?);
    }
    Err(difference(&expected, &played).into())
}

/// The first lines that differ: what follows is often different only because of them.
fn difference(expected: &str, played: &str) -> String {
    let (mut expected_lines, mut played_lines) = (expected.lines(), played.lines());
    let mut number = 0;
    loop {
        number += 1;
        match (expected_lines.next(), played_lines.next()) {
            (a, b) if a == b && a.is_some() => {}
            (expected, played) => {
                let shown = |line: Option<&str>| line.unwrap_or("(the end)").to_owned();
                return format!(
                    "line {number} is `{}`, but now it is `{}`; DROVER_UPDATE_SCENARIOS=1 writes it down",
                    shown(expected),
                    shown(played)
                );
            }
        }
    }
}

datatest_stable::harness! {
    { test = scenario, root = "../../tests/scenarios", pattern = r"^[^/]*\.txt$" },
}
