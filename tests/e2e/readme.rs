//! The page of the README that leads from the sample world to three coordinators, typed as it stands there.

use crate::network;
use crate::world::{GUARD, binary, surroundings};
use std::fs::File;
use std::process::{Command, Stdio};
use std::time::Instant;

const README: &str = include_str!("../../README.md");
const TITLE: &str = "## Three coordinators\n";
/// What a reader would have seen by then.
const SEEN: [&str; 5] =
    ["regions is valid", "all is well", "leads,", "run-1 succeeded", "The audit is whole"];

/// The indented lines below a title, as one script.
fn script_below(title: &str) -> String {
    let (_, below) = README.split_once(title).unwrap();
    let section = below.split_once("\n## ").map_or(below, |(section, _)| section);
    let lines = section.lines().skip_while(|line| !line.starts_with("    "));
    let script = lines.take_while(|line| line.is_empty() || line.starts_with("    "));
    script.map(|line| format!("{}\n", line.get(4..).unwrap_or_default())).collect()
}

#[test]
fn the_page_from_the_sample_world_to_three_coordinators_can_be_typed() {
    network::is_needed();
    let site = tempfile::tempdir().unwrap();
    // Ports as they are on the page, in a network where nobody else has them; and all that is started in the background
    // ends with the shell.
    let script = format!("set -eu\nip link set lo up\n{}", script_below(TITLE));
    assert!(script.contains("drover token create"), "{script}");
    let said = site.path().join("said");
    let mut command = Command::new("unshare");
    command.args(["--net", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c", &script]);
    surroundings(&mut command, site.path());
    let path =
        format!("{}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", binary().parent().unwrap().display());
    command.env("PATH", path).stdin(Stdio::null());
    let out = File::create(&said).unwrap();
    command.stdout(out.try_clone().unwrap()).stderr(out);
    let mut typed = command.spawn().unwrap();
    let began = Instant::now();
    let status = loop {
        if let Some(status) = typed.try_wait().unwrap() {
            break status;
        }
        if began.elapsed() > 3 * GUARD {
            typed.kill().unwrap();
            break typed.wait().unwrap();
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    };
    let text = std::fs::read_to_string(&said).unwrap();
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(status.success(), "{status}: {text}");
    for seen in SEEN {
        assert!(words.contains(seen), "`{seen}` is not in: {text}");
    }
}
