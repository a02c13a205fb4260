//! What the pure crates must not do. They are told the time and the chance; they touch nothing; two runs on the same
//! input print the same bytes. The simulator and `explain --replay` rest on this.
//!
//! Clippy's `disallowed-methods` says some of it at the line while one types; this list is complete, and also sees
//! what no type tells (`.await`, a macro, a glob import).

use super::Finding;
use super::tokens::{Name, Source, is_in_test_module, names, test_modules, without_tests};

/// Where `.await` may stand in a pure crate.
enum Awaits {
    Nowhere,
    /// In the one file of that name.
    OnlyIn(&'static str),
}

struct PureCrate {
    sources: &'static str,
    awaits: Awaits,
    /// May it write log lines?
    logs: bool,
}

const PURE: &[PureCrate] = &[
    PureCrate { sources: "crates/drover-model/src/", awaits: Awaits::Nowhere, logs: false },
    PureCrate { sources: "crates/drover-core/src/", awaits: Awaits::Nowhere, logs: false },
    PureCrate { sources: "crates/drover-exec/src/", awaits: Awaits::OnlyIn("drive.rs"), logs: true },
];

/// Types of `std::net` that are data and open nothing.
const ADDRESSES: [&str; 7] =
    ["IpAddr", "Ipv4Addr", "Ipv6Addr", "SocketAddr", "SocketAddrV4", "SocketAddrV6", "AddrParseError"];

/// Modules and crates that touch the world.
const WORLD: [&[&str]; 6] =
    [&["std", "fs"], &["std", "env"], &["std", "process"], &["std", "thread"], &["reqwest"], &["hyper"]];

/// Checks the sources of the pure crates among `sources`, without their tests.
pub fn check(sources: &[Source]) -> Vec<Finding> {
    let tests = test_modules(sources);
    let mut findings = Vec::new();
    for source in sources {
        let Some(rules) = PURE.iter().find(|pure| source.path.starts_with(pure.sources)) else { continue };
        let Ok(tokens) = &source.tokens else { continue }; // `sizes` reports what can't be read
        if is_in_test_module(&source.path, &tests) {
            continue;
        }
        let broken = names(&without_tests(tokens)).into_iter().filter_map(|name| {
            Some(Finding::at(&source.path, name.line, breaks(&name, &source.path, rules)?))
        });
        findings.extend(broken);
    }
    findings
}

fn breaks(name: &Name, path: &str, rules: &PureCrate) -> Option<String> {
    let text = name.text();
    if let Some(why) = waits(name, path, rules) {
        Some(why)
    } else if reads_clock(name) {
        Some(format!("`{text}`: pure code is told the time"))
    } else if draws(name) {
        Some(format!("`{text}`: pure code is told the chance, as a seed or a value"))
    } else if ["HashMap", "HashSet", "hash_map", "hash_set"].iter().any(|word| name.has(word)) {
        Some(format!("`{text}`: its order leaks into output and hashes; use BTreeMap or BTreeSet"))
    } else if touches_world(name) {
        Some(format!("`{text}`: pure code does no input or output"))
    } else if speaks(name) {
        Some(format!("`{text}!`: pure code returns what there is to say"))
    } else if !rules.logs
        && name.segments.len() > 1
        && ["tracing", "log"].contains(&name.segments[0].as_str())
    {
        Some(format!("`{text}`: pure code returns its reasons instead of logging them"))
    } else {
        None
    }
}

/// Whoever may wait may also use the runtime to do it; nobody else.
fn waits(name: &Name, path: &str, rules: &PureCrate) -> Option<String> {
    if matches!(rules.awaits, Awaits::OnlyIn(file) if path.ends_with(&format!("/{file}"))) {
        return None;
    }
    let is_await = name.after_dot && name.last() == "await";
    let is_async = matches!(rules.awaits, Awaits::Nowhere) && name.last() == "async";
    let is_runtime = name.segments.len() > 1 && name.has("tokio");
    (is_await || is_async || is_runtime)
        .then(|| format!("`{}`: pure code does not wait, except for the driver", name.text()))
}

/// `X::now` whatever `X` is called here: an alias must not help.
fn reads_clock(name: &Name) -> bool {
    (name.segments.len() > 1 && name.last() == "now")
        || name.has("Instant")
        || name.has("SystemTime")
        || name.contains(&["TimeZone", "system"])
        || (name.after_dot && name.last() == "elapsed")
}

fn draws(name: &Name) -> bool {
    let sources = ["rand", "fastrand", "getrandom"];
    (name.segments.len() > 1 && sources.iter().any(|word| name.has(word)))
        || ["RandomState", "thread_rng", "OsRng"].iter().any(|word| name.has(word))
}

fn touches_world(name: &Name) -> bool {
    let opens_socket = name.contains(&["std", "net"])
        && !name
            .segments
            .iter()
            .skip_while(|segment| *segment != "net")
            .nth(1)
            .is_some_and(|kind| ADDRESSES.contains(&kind.as_str()));
    opens_socket || (name.segments.len() > 1 && WORLD.iter().any(|module| name.contains(module)))
}

fn speaks(name: &Name) -> bool {
    name.is_macro && ["println", "print", "eprintln", "eprint", "dbg"].contains(&name.last())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> Vec<Finding> {
        check(&[Source::new(path, text.to_owned())])
    }

    #[test]
    fn each_impurity_is_found_in_each_pure_crate() {
        let samples = [
            "fn f() { let t = std::time::Instant::now(); }",
            "use jiff::Timestamp as T; fn f() -> T { T::now() }",
            "fn f() { vec.push(Zoned::now()); }",
            "fn f() -> X { <X>::now() }",
            "fn f() { then.elapsed(); }",
            "fn f() { fastrand::u64(..); }",
            "use rand::Rng;",
            "fn f() { getrandom::fill(&mut bytes); }",
            "use std::collections::{BTreeMap, HashMap};",
            "struct S { seen: HashSet<u8> }",
            "use std::{fmt, fs};",
            "fn f() { std::env::var(\"HOME\"); }",
            "use std::net::TcpStream;",
            "use std::net;",
            "use std::net::*;",
            "fn f() { println!(\"x\"); }",
            "fn f() { wrap!(std::thread::sleep(d)); }",
        ];
        for pure in PURE {
            for sample in samples {
                let path = format!("{}deep/a.rs", pure.sources);
                assert_eq!(findings(&path, sample).len(), 1, "{path}: {sample}");
            }
        }
    }

    #[test]
    fn waiting_is_for_the_driver() {
        let text = "async fn f() { g().await }";
        assert_eq!(findings("crates/drover-core/src/a.rs", text).len(), 2);
        assert_eq!(findings("crates/drover-exec/src/a.rs", text).len(), 1);
        assert_eq!(findings("crates/drover-exec/src/overdrive.rs", text).len(), 1);
        assert_eq!(findings("crates/drover-exec/src/drive.rs", text), []);
        assert_eq!(findings("crates/drover-exec/src/a.rs", "use tokio::sync::mpsc;").len(), 1);
        assert_eq!(findings("crates/drover-exec/src/drive.rs", "use tokio::sync::mpsc;"), []);
        assert_eq!(findings("crates/drover-exec/src/drive.rs", "fn f() { Instant::now() }").len(), 1);
    }

    #[test]
    fn logging_is_not_for_deciders() {
        assert_eq!(findings("crates/drover-core/src/a.rs", "fn f() { tracing::info!(\"x\"); }").len(), 1);
    }

    #[test]
    fn innocent_code_is_left_alone() {
        let text = r#"
            //! Instant::now in a comment
            use std::net::{IpAddr, SocketAddr};
            /// HashMap in a doc comment
            fn handle(now: Timestamp) -> &'static str { self.now.max(now); let rand = 4; "std::fs::read" }
            #[cfg(test)]
            mod tests { use std::collections::HashMap; fn f() { println!("{}", Instant::now()); } }
        "#;
        assert_eq!(findings("crates/drover-core/src/a.rs", text), []);
        assert_eq!(findings("crates/drover-agent/src/a.rs", "use std::fs::read;"), []);
    }
}
