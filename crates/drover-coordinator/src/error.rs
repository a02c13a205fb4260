//! What can go wrong in a coordinator, by what was attempted.

use drover_model::Timestamp;
use drover_model::config::diagnostic::Diagnostic;
use drover_model::write_right::IntervalsError;
use drover_store::JsonError;
use std::path::PathBuf;

/// Why the coordinator could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum CoordinatorError {
    /// The configuration directory could not be read.
    #[error("can't read the configuration in {}", directory.display())]
    ReadConfig {
        /// Where.
        directory: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It was read and is wrong.
    #[error("the configuration has {} error(s), the first: {}", diagnostics.len(), diagnostics.first().map(ToString::to_string).unwrap_or_default())]
    BadConfig {
        /// Every finding.
        diagnostics: Vec<Diagnostic>,
    },
    /// The store could not be opened.
    #[error("can't open the store in {place}")]
    OpenStore {
        /// Where.
        place: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Its records are elsewhere than the configuration says: it would begin as if nothing had ever been.
    #[error(
        "the settings say that the records are in {wanted}, and this state directory's are in {found}: {next}"
    )]
    StoreElsewhere {
        /// Where the settings say.
        wanted: String,
        /// Where they are.
        found: String,
        /// What to do.
        next: String,
    },
    /// The store knows less than was seen of it.
    #[error(
        "the store in {place} is at revision {now}, and {seen} was seen before: it was put back to an earlier state, as by \
         restoring a snapshot, and could give orders again that were given already; to go on from there, `drover store \
         export` it and import that under another prefix, which gives it an incarnation of its own"
    )]
    StoreWentBack {
        /// Which.
        place: String,
        /// The latest revision that was seen.
        seen: u64,
        /// The one that it has.
        now: u64,
    },
    /// There is no store where one was asked for.
    #[error("there is no store in {place}")]
    NoStore {
        /// Where.
        place: String,
    },
    /// The store was given up for a copy of it.
    #[error(
        "this store was retired at {at} by `drover store export --retire`: its records live on where that export was \
         imported; to go on here after all, import it into an empty state directory"
    )]
    Retired {
        /// When.
        at: Timestamp,
    },
    /// Something in the store, or the export, is above what this drover knows.
    #[error(
        "it is at level {level}, which needs drover {} or later, and this drover ({}) knows level {}: it would misread or lose what \
         is in there; start the later drover, or import an export from before the level was raised",
        if needs.is_empty() { "of a later version" } else { needs },
        env!("CARGO_PKG_VERSION"),
        crate::level::KNOWN
    )]
    HigherLevel {
        /// The level.
        level: u32,
        /// The first version that knows it.
        needs: String,
    },
    /// An import into the store was begun and not finished.
    #[error(
        "the import into this store (of the file with SHA-256 {sha256}) was not finished: remove what is there (the files \
         of an embedded store, or `etcdctl del --prefix` its prefix), and import again"
    )]
    HalfImported {
        /// Of the file.
        sha256: String,
    },
    /// An import goes into an empty store.
    #[error(
        "the store is not empty: it has {key}; import into a new state directory, or under another prefix"
    )]
    NotEmpty {
        /// One of its keys.
        key: String,
    },
    /// A record could not be read or written.
    #[error("can't {what}")]
    Store {
        /// What was attempted.
        what: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A record would be larger than one may be; it was not written.
    #[error("can't {what}: it takes {bytes} bytes, and a record may have {limit}")]
    TooLarge {
        /// What was attempted.
        what: String,
        /// The size.
        bytes: usize,
        /// The most that the store takes.
        limit: usize,
    },
    /// Somebody else leads now (I3).
    #[error("another coordinator took over: {what} was refused")]
    Fenced {
        /// What was attempted.
        what: String,
    },
    /// The API could not listen.
    #[error("can't listen on {address}")]
    Listen {
        /// Where.
        address: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Beyond loopback whoever connects must prove who they are.
    #[error(
        "refusing to listen on {address} in plain text: beyond loopback and the Unix socket the API needs certificates"
    )]
    NotLoopback {
        /// Where.
        address: String,
    },
    /// Something in the directory is not what drover wrote.
    #[error("can't make an HTTP client")]
    HttpClient {
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl CoordinatorError {
    /// A store failure while doing `what`.
    pub(crate) fn store(
        what: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        CoordinatorError::Store { what: what.into(), source: source.into() }
    }
    /// The store answered, and what it has under this key makes no sense here: no other record need wait for that.
    pub(crate) fn is_of_one_record(&self) -> bool {
        let CoordinatorError::Store { source, .. } = self else { return false };
        match source.downcast_ref::<JsonError>() {
            Some(error) => !matches!(error, JsonError::Read { .. }),
            None => source.is::<IntervalsError>(),
        }
    }
}
