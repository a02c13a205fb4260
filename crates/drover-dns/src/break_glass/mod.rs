//! Moving a service's DNS without any coordinator: what a person wants becomes a record set that he holds ([`shift`]), and what was done
//! is written into a file that says so later ([`Recorder`]).
//!
//! The intuition: a record set belongs to its owner, and every provider leaves alone what is somebody else's. So whoever breaks the
//! glass becomes the owner, by the swap that changes what is answered. A leader that is alive after all, its successor, and one that was
//! deposed all find an owner who is not drover. The write is made under the epoch that commands the zone, so that it deposes nobody:
//! all other services go on.

mod record;
mod recorder;
mod shift;

pub use record::{
    Began, Ended, Entry, Flaw, Intends, Line, Outcome, RECORD_BYTES_MAX, RECORD_LINES_MAX, Record, Session,
    Shifted, Unsound, Verified,
};
pub use recorder::{NotRecorded, Recorder};
pub use shift::{NoShift, Shift, shift};
