//! The program runs with jemalloc as we set it: both are found by symbols, so that nothing else would notice a loss.

use std::process::Command;

#[test]
fn the_program_has_jemalloc_with_our_settings() {
    let ran = Command::new(env!("CARGO_BIN_EXE_drover"))
        .arg("--version")
        .env("_RJEM_MALLOC_CONF", "stats_print:true,stats_print_opts:mdablxe")
        .output()
        .expect("drover runs");
    assert!(ran.status.success(), "{ran:?}");
    let told = String::from_utf8_lossy(&ran.stderr);
    let option = |name: &str| {
        let line = told.lines().find_map(|line| line.trim().strip_prefix(&format!("opt.{name}: ")));
        line.unwrap_or_else(|| panic!("no opt.{name} in {told:?}")).to_owned()
    };
    assert_eq!(option("narenas"), "2");
    assert_eq!(option("dirty_decay_ms"), "500 (arenas.dirty_decay_ms: 500)");
    assert_eq!(option("muzzy_decay_ms"), "0 (arenas.muzzy_decay_ms: 0)");
}
