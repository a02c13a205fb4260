//! How what is served changes: batches of compare-and-swap changes under an epoch, durable before they are
//! visible.

mod batch;
mod change_log;
mod decide;
mod from_peer;
mod ledger;
mod page;
mod proofs;
mod publisher;
mod seal;
mod shortened;
mod state_file;

pub use batch::{AppliedBatch, AppliedChange, Batch, Change, Conflict, FenceReason, PublishError, Published};
pub(crate) use batch::{SentBatch, SentBatchView};
pub(crate) use decide::objection;
pub use from_peer::{PeerState, RefusedOffer, Taken, WhyRefused};
pub use page::{Offer, OfferPage};
pub(crate) use page::{ReadPage, UnreadPage};
pub use proofs::BUCKETS;
pub use publisher::{Fence, OpenError, Publisher};
pub use seal::{
    Digest, PublicKey, SEALED_CHANGES_MAX, Seal, SealError, Sealing, Signature, SigningKey, TRUSTED_KEYS_MAX,
    TrustedKeys, UnusableSigningKey,
};
pub use shortened::{SHORTENED_SECONDS_MAX, ShortTime, ShortTimes, Shortened};
pub use state_file::{STATE_FILE_NAME, StateFileError};

/// The most changes in one batch for drover's own server.
pub const CHANGES_PER_BATCH_MAX: usize = 1000;

/// How many applied batches an instance remembers.
pub const APPLIED_BATCHES_KEPT_MAX: usize = 256;

/// How many single changes the remembered batches may hold together; the oldest batches go first.
pub const APPLIED_CHANGES_KEPT_MAX: usize = 4096;

/// How many removed record sets an instance remembers, so that no peer brings them back; the oldest go first.
pub const GONE_KEPT_MAX: usize = 1000;

/// The longest idempotency key, in bytes.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 256;

/// How long the changes behind a state may become, in bytes, before the state is written anew: some thousands of
/// changes, which a start reads in a fraction of a second.
pub const CHANGES_BYTES_MAX: u64 = 4 * 1024 * 1024;
