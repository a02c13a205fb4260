//! Does this instance know enough of the zone to say that a name is not there?
//!
//! One that lost its disk knows nothing, and its peers everything. Until it has heard all of it "there is no such name" would be a lie that
//! resolvers keep; a failure sends them to another name server at once (RFC 4697, 2.1.1).

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use tracing::info;

/// What a peer has that has shown all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Has {
    Something,
    Nothing,
    /// It is this server itself, which one list of peers for every machine names too.
    Itself,
}

#[derive(Debug, Default)]
pub(super) struct Readiness {
    is_waiting: AtomicBool,
    heard: Mutex<Heard>,
}

#[derive(Debug, Default)]
struct Heard {
    /// Peers that are not known to have nothing either.
    not_of: BTreeSet<String>,
    /// Another server has said so.
    has_another_nothing: bool,
}

impl Readiness {
    /// Of an instance that has nothing, and these peers; without any there is nobody to wait for.
    pub(super) fn waiting_for(peers: BTreeSet<String>) -> Self {
        let is_waiting = AtomicBool::new(!peers.is_empty());
        Self { is_waiting, heard: Mutex::new(Heard { not_of: peers, has_another_nothing: false }) }
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.is_waiting.load(Ordering::Relaxed)
    }

    /// All that a peer has was heard. If that is nothing, another may still have something; and that it has nothing itself is no news.
    pub(super) fn heard_all_of(&self, peer: &str, has: Has) {
        if !self.is_waiting() {
            return;
        }
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.not_of.remove(peer);
        heard.has_another_nothing |= has == Has::Nothing;
        if has == Has::Something {
            self.end("a peer has shown all it has");
        } else if heard.not_of.is_empty() && heard.has_another_nothing {
            self.end("no peer has anything either");
        }
    }

    /// The coordinator has published.
    pub(super) fn published(&self) {
        if self.is_waiting() {
            self.end("the coordinator has published");
        }
    }

    fn end(&self, why: &str) {
        if self.is_waiting.swap(false, Ordering::Relaxed) {
            info!(why, "this server, which had nothing, answers from now on");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_with_whoever_has_something_or_when_nobody_has() {
        let two = || Readiness::waiting_for(["a", "b"].map(str::to_owned).into());
        let (some, none, told) = (two(), two(), two());
        some.heard_all_of("b", Has::Something);
        none.heard_all_of("a", Has::Nothing);
        assert_eq!((some.is_waiting(), none.is_waiting(), told.is_waiting()), (false, true, true));
        none.heard_all_of("a", Has::Nothing);
        assert!(none.is_waiting(), "b may have something");
        none.heard_all_of("b", Has::Nothing);
        told.published();
        assert_eq!((none.is_waiting(), told.is_waiting()), (false, false));
        for order in [["a", "b"], ["b", "a"]] {
            let listed = two();
            for peer in order {
                assert!(listed.is_waiting());
                listed.heard_all_of(peer, if peer == "a" { Has::Itself } else { Has::Nothing });
            }
            assert!(!listed.is_waiting());
        }
        let alone = Readiness::waiting_for(["a".to_owned()].into());
        alone.heard_all_of("a", Has::Itself);
        assert!(alone.is_waiting(), "whoever lists nobody else may have meant to");
        assert!(!Readiness::waiting_for(BTreeSet::new()).is_waiting());
    }
}
