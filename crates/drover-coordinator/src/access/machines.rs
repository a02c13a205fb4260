//! Whose certificates were shown to this coordinator, and which of them end soon: who renews them is told before an agent
//! falls silent.

use drover_model::Timestamp;
use drover_model::machine::{CertificateEnding, MachineIdentity};
use drover_pki::Peer;
use drover_pki::ledger::ends_soon;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Machines that are remembered, at most: each has a certificate of the authority, so that they are few.
const MACHINES_MAX: usize = 1_024;

/// From when and until when the newest certificate of each machine counts.
#[derive(Debug, Default)]
pub(crate) struct Machines(Mutex<BTreeMap<MachineIdentity, (Timestamp, Timestamp)>>);

impl Machines {
    /// A certificate was shown, and counts.
    pub(crate) fn saw(&self, peer: &Peer, now: Timestamp) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = seen.get_mut(&peer.identity) {
            // One that was renewed may still be in use elsewhere.
            if peer.until > known.1 {
                *known = (peer.from, peer.until);
            }
            return;
        }
        if seen.len() >= MACHINES_MAX {
            seen.retain(|_, (_, until)| *until >= now);
        }
        if seen.len() < MACHINES_MAX {
            seen.insert(peer.identity.clone(), (peer.from, peer.until));
        }
    }

    /// Those that have less than a third of their life left. What has ended is refused, which is told elsewhere.
    pub(crate) fn ending(&self, now: Timestamp) -> Vec<CertificateEnding> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ending = seen.iter().filter(|(_, (from, until))| *until >= now && ends_soon(*from, *until, now));
        ending
            .map(|(machine, (_, until))| CertificateEnding { machine: machine.clone(), until: *until })
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
            machines.ending(at_secs(at)).into_iter().map(|e| e.machine.to_string()).collect()
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
