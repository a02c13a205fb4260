//! The memory allocator of our programs, with the settings that the figures are measured with.
//!
//! Reports, verdicts and views are made and dropped by the ten thousand each second, by all of the runtime's threads.
//! glibc's allocator either keeps an arena for each of them (201 MiB for a coordinator whose live data are 70) or,
//! told to keep one, makes them wait for each other (a region's failure is answered in 946 ms instead of 590).

pub use tikv_jemallocator::Jemalloc;

/// `narenas`: threads share two arenas, each with its own cache in front; memory that one thread frees serves the
/// next. `dirty_decay_ms`: what isn't used again for half a second goes back to the system, so that a burst (a start,
/// an evacuation) doesn't stay in the process. `muzzy_decay_ms`: at once, instead of being kept mapped.
/// Who must change them at night sets `_RJEM_MALLOC_CONF`, which comes after these.
/// Source: jemalloc(3), TUNING.
const SETTINGS: &[u8; 46] = b"narenas:2,dirty_decay_ms:500,muzzy_decay_ms:0\0";

// SAFETY: jemalloc declares `extern const char *malloc_conf` (with this prefix), reads it once before the first
// allocation and never writes it. A reference to an array has the layout of a pointer to its first byte, the bytes end
// in a NUL, and nothing else in the program has this name.
#[expect(unsafe_code, reason = "the name is how jemalloc finds its settings")]
#[unsafe(export_name = "_rjem_malloc_conf")]
static MALLOC_CONF: &[u8; 46] = SETTINGS;
