//! PowerDNS keeps its zone in a database, and no journal: a trigger writes down what comes in.

use super::zone_server::{KEY_NAME, ZoneServerKind, run};
use crate::exit::ExitCode;
use crate::failure::{Failure, Result};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

const SCHEMA: &str = "/usr/share/pdns-backend-sqlite3/schema/schema.sqlite3.sql";
pub(super) const DATABASE: &str = "pdns.db";
/// Every text that is ever added, by the database's own account.
const TRIGGER: &str = "CREATE TABLE added (number INTEGER PRIMARY KEY, name TEXT, content TEXT);
    CREATE TRIGGER texts AFTER INSERT ON records WHEN new.type = 'TXT'
    BEGIN INSERT INTO added (name, content) VALUES (new.name, new.content); END;";

/// Takes dynamic updates, and runs what they put.
pub(super) const TAKES_UPDATES: &str =
    "dnsupdate=yes\nallow-dnsupdate-from=127.0.0.0/8\nenable-lua-records=shared\n";

/// What it is started with.
pub(super) fn config(directory: &Path, query: SocketAddr, more: &str) -> String {
    let (d, port, address) = (directory.display(), query.port(), query.ip());
    format!(
        "launch=gsqlite3\ngsqlite3-database={d}/{DATABASE}\nsocket-dir={d}\nlocal-address={address}\nlocal-port={port}\n\
         {more}security-poll-suffix=\ndisable-syslog=yes\n\
         cache-ttl=0\nquery-cache-ttl=0\nnegquery-cache-ttl=0\nzone-cache-refresh-interval=0\n"
    )
}

/// Makes the database, with the zone of the file `zone` and a key that may update it.
pub(super) fn fill(directory: &Path, zone: &str, secret: &str) -> Result<()> {
    let schema = std::fs::File::open(SCHEMA).map_err(|e| {
        let failure = Failure::because(ExitCode::Failed, format!("can't read {SCHEMA}"), &e);
        failure.hint(ZoneServerKind::PowerDns.to_install())
    })?;
    run(ZoneServerKind::PowerDns, directory, "/usr/bin/sqlite3", &[DATABASE], schema.into())?;
    run(ZoneServerKind::PowerDns, directory, "/usr/bin/sqlite3", &[DATABASE, TRIGGER], Stdio::null())?;
    for words in [
        &["load-zone", zone, "zone"][..],
        &["import-tsig-key", KEY_NAME, "hmac-sha256", secret],
        &["set-meta", zone, "TSIG-ALLOW-DNSUPDATE", KEY_NAME],
        &["set-meta", zone, "TSIG-ALLOW-AXFR", KEY_NAME],
    ] {
        run(
            ZoneServerKind::PowerDns,
            directory,
            "/usr/bin/pdnsutil",
            &[&["--config-dir=."], words].concat(),
            Stdio::null(),
        )?;
    }
    Ok(())
}

/// Every text that was added, after its name, in order.
///
/// # Errors
/// When the database can't be read.
pub(super) fn added(directory: &Path) -> Result<String> {
    asked(directory, "SELECT name || ' ' || content FROM added ORDER BY number")
}

/// What its database answers, a line each.
///
/// # Errors
/// When it can't be read.
pub(super) fn asked(directory: &Path, question: &str) -> Result<String> {
    run(ZoneServerKind::PowerDns, directory, "/usr/bin/sqlite3", &[DATABASE, question], Stdio::null())
}
