//! What a server of others has applied, by its own journal, printed by its own tool.

use super::powerdns;
use super::zone_server::{ZoneServerKind, directory, run};
use crate::failure::Result;
use std::path::Path;
use std::process::Stdio;

/// Which generation came to which record set, in order: `_drover-a.NAME generation N` for each registry that was added.
///
/// # Errors
/// When the journal can't be printed.
pub fn registered(kind: ZoneServerKind, at: &Path, zone: &str) -> Result<Vec<String>> {
    let directory = directory(at);
    let print = |program, words: &[&str]| run(kind, &directory, program, words, Stdio::null());
    let journal = match kind {
        ZoneServerKind::Bind => print("/usr/bin/named-journalprint", &["zone.jnl"]),
        ZoneServerKind::Knot => {
            print("/usr/sbin/kjournalprint", &["-c", kind.config_name(), "--no-color", zone])
        }
        ZoneServerKind::PowerDns => powerdns::added(&directory),
    };
    Ok(added(kind, &journal?))
}

/// The registries that a printed journal says were added.
fn added(kind: ZoneServerKind, journal: &str) -> Vec<String> {
    let mut adding = false;
    let mut found = Vec::new();
    for line in journal.lines() {
        let record = match kind {
            // Each line says what it does.
            ZoneServerKind::Bind => line.strip_prefix("add "),
            // Nothing else is in it.
            ZoneServerKind::PowerDns => Some(line),
            // A heading says it of all lines that follow.
            ZoneServerKind::Knot => {
                if line.starts_with(";;") {
                    adding = line.contains("Added");
                }
                Some(line).filter(|_| adding)
            }
        };
        found.extend(record.and_then(registry));
    }
    found
}

fn registry(record: &str) -> Option<String> {
    let name = record.split_whitespace().next().filter(|name| name.starts_with("_drover-"))?;
    let (_, after) = record.split_once("\"drover-set 1 generation=")?;
    let generation: String = after.chars().take_while(char::is_ascii_digit).collect();
    Some(format!("{} generation {generation}", name.trim_end_matches('.')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_registries_that_were_added_count() {
        let ours =
            "_drover-a.pay.test. 1 IN TXT \"drover-set 1 generation=7 epoch=1/1 ttl=1\" \"owner=drover\"";
        let other = "_drover-fence.test. 60 IN TXT \"drover-fence 1 epoch=1/1 updates=3\"";
        let bind = format!("del {ours}\nadd {ours}\nadd {other}\nadd pay.test. 1 IN A 192.0.2.1");
        assert_eq!(added(ZoneServerKind::Bind, &bind), ["_drover-a.pay.test generation 7"]);
        let knot = format!(
            ";; Removed\n{ours}\n;; Added\n{ours}\n{other}\n;; Changes between zone versions: 2 -> 3\n{ours}"
        );
        assert_eq!(added(ZoneServerKind::Knot, &knot), ["_drover-a.pay.test generation 7"]);
        let lines = format!("{ours}\n{other}").replace("test. ", "test ");
        assert_eq!(added(ZoneServerKind::PowerDns, &lines), ["_drover-a.pay.test generation 7"]);
    }
}
