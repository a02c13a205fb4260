//! Whose certificates were shown to this coordinator, and which of them end soon: who renews them is told before an agent
//! falls silent.

use drover_model::machine::{CertificateEnding, MachineIdentity};
use drover_model::{Span, Timestamp};
use drover_pki::Peer;
use drover_pki::ledger::ends_soon;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Machines that are remembered, at most: each has a certificate of the authority, so that they are few.
const MACHINES_MAX: usize = 1_024;

/// Of a machine that has not asked for so long nothing is told: it is gone, or asks another coordinator.
const TOLD_FOR: Span = Span::from_hours(24);

/// The newest certificate of a machine, and when it asked last.
#[derive(Debug, Clone, Copy)]
struct Seen {
    from: Timestamp,
    until: Timestamp,
    asked_at: Timestamp,
}

impl Seen {
    /// One that has ended is refused, which is told elsewhere.
    fn counts(&self, now: Timestamp) -> bool {
        self.until >= now && now.since(self.asked_at) < TOLD_FOR
    }
}

/// The newest certificate of each machine.
#[derive(Debug, Default)]
pub(crate) struct Machines(Mutex<BTreeMap<MachineIdentity, Seen>>);

impl Machines {
    /// A certificate was shown, and counts.
    pub(crate) fn saw(&self, peer: &Peer, now: Timestamp) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = seen.get_mut(&peer.identity) {
            known.asked_at = now;
            // The newest one, which may end before the one that it replaced; that one may still be in use elsewhere.
            if (peer.from, peer.until) > (known.from, known.until) {
                (known.from, known.until) = (peer.from, peer.until);
            }
            return;
        }
        if seen.len() >= MACHINES_MAX {
            seen.retain(|_, seen| seen.counts(now));
        }
        if seen.len() < MACHINES_MAX {
            let new = Seen { from: peer.from, until: peer.until, asked_at: now };
            seen.insert(peer.identity.clone(), new);
        }
    }

    /// Those that have less than a third of their life left, of machines that ask and that there are still.
    pub(crate) fn ending(
        &self,
        now: Timestamp,
        is_there: impl Fn(&MachineIdentity) -> bool,
    ) -> Vec<CertificateEnding> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ending =
            seen.iter().filter(|(_, seen)| seen.counts(now) && ends_soon(seen.from, seen.until, now));
        ending
            .filter(|(machine, _)| is_there(machine))
            .map(|(machine, seen)| CertificateEnding { machine: machine.clone(), until: seen.until })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbed::at_secs;

    fn peer(machine: &str, from: i64, until: i64) -> Peer {
        let identity = machine.parse().unwrap();
        Peer { identity, hosts: vec![], from: at_secs(from), until: at_secs(until), serial: String::new() }
    }

    #[test]
    fn what_ends_soon_is_told_until_it_is_renewed_or_has_ended() {
        let machines = Machines::default();
        let agent = "drover://agent/eu-west/a-1";
        machines.saw(&peer(agent, 0, 90), at_secs(1));
        machines.saw(&peer("drover://client/ann", 0, 900), at_secs(1));
        let ending = |at| -> Vec<String> {
            machines.ending(at_secs(at), |_| true).into_iter().map(|e| e.machine.to_string()).collect()
        };
        assert_eq!(ending(60), Vec::<String>::new(), "a third is left");
        assert_eq!(ending(61), [agent]);
        assert_eq!(ending(91), Vec::<String>::new());
        machines.saw(&peer(agent, 60, 150), at_secs(61));
        // A connection that was made with the old one.
        machines.saw(&peer(agent, 0, 90), at_secs(62));
        assert_eq!(ending(62), Vec::<String>::new());
    }

    #[test]
    fn a_newer_certificate_counts_also_where_it_ends_sooner() {
        let machines = Machines::default();
        let agent = "drover://agent/eu-west/a-1";
        machines.saw(&peer(agent, 0, 900), at_secs(1));
        machines.saw(&peer(agent, 2, 92), at_secs(3));
        let ending = machines.ending(at_secs(70), |_| true);
        assert_eq!((ending.len(), ending[0].until), (1, at_secs(92)));
    }

    #[test]
    fn a_machine_that_asks_no_more_or_is_configured_no_more_is_not_told() {
        let machines = Machines::default();
        let day = 86_400;
        machines.saw(&peer("drover://agent/eu-west/gone", 0, 10 * day), at_secs(8 * day));
        machines.saw(&peer("drover://agent/eu-west/a-1", 0, 10 * day), at_secs(8 * day + 1));
        let ending =
            |at, is_there: fn(&MachineIdentity) -> bool| machines.ending(at_secs(at), is_there).len();
        assert_eq!(ending(9 * day - 1, |_| true), 2);
        assert_eq!(ending(9 * day - 1, |machine| !machine.to_string().ends_with("/gone")), 1);
        assert_eq!(ending(9 * day, |_| true), 1);
    }

    #[test]
    fn many_machines_take_no_more_room() {
        let machines = Machines::default();
        for n in 0..2 * MACHINES_MAX {
            machines.saw(&peer(&format!("drover://client/c-{n}"), 0, 90), at_secs(1));
        }
        assert_eq!(machines.0.lock().unwrap().len(), MACHINES_MAX);
        machines.saw(&peer("drover://client/late", 90, 180), at_secs(91));
        assert_eq!(machines.0.lock().unwrap().len(), 1, "what has ended makes room");
    }
}
