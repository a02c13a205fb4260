//! Publications that did not reach every server (`published_partial`): which server missed what, until it is seen to show it.
//!
//! A server that is cut off answers what it was told last. That stops no move, and must not be forgotten: who missed something is
//! named in the step, in `status`, `dns show` and `dns history`, until a comparison sees that it caught up, by a peer or by the reconciler. A
//! restart forgets who missed what; that a server can't be asked, or shows something else, is found by the next comparison.

use crate::coordinator::Coordinator;
use crate::source::{by_record, sources};
use drover_dns::provider::{Applied, LaggingState, MissingInstance, Observed};
use drover_dns::publish::{Batch, Change};
use drover_dns::zone::{RecordKey, RecordSet};
use drover_model::config::DnsSettings;
use std::collections::{BTreeMap, BTreeSet};

/// By server. No more than there are servers and record sets.
#[derive(Debug, Default)]
pub(crate) struct Missed(BTreeMap<String, MissedBy>);

/// What one server missed.
#[derive(Debug, Default)]
struct MissedBy {
    /// Why it did, the last time.
    reason: String,
    /// The record sets, each at the generation that it missed.
    sets: BTreeMap<RecordKey, u64>,
}

/// A record set whose publication a server has caught up with.
#[derive(Debug, PartialEq, Eq)]
struct CaughtUp {
    key: RecordKey,
    servers: Vec<String>,
    /// Those that still miss it.
    missing: Vec<String>,
    live: RecordSet,
}

/// The names, in order.
pub(crate) fn names(missing: &[MissingInstance]) -> BTreeSet<String> {
    missing.iter().map(|one| one.instance.clone()).collect()
}

/// The servers that are not known to show what is live.
pub(crate) fn not_showing(observed: &Observed) -> Vec<String> {
    let lagging = observed.lagging.iter().filter(|l| l.state != LaggingState::Unsigned);
    lagging.map(|l| l.instance.clone()).collect()
}

impl Missed {
    /// Says whether any of it was not known.
    fn note(&mut self, missing: &[MissingInstance], sets: &[(RecordKey, u64)]) -> bool {
        let mut is_news = false;
        for one in missing {
            let missed = self.0.entry(one.instance.clone()).or_default();
            missed.reason.clone_from(&one.reason);
            for (key, generation) in sets {
                is_news |= missed.sets.insert(key.clone(), *generation) != Some(*generation);
            }
        }
        is_news
    }

    /// Why a server missed something; nothing where it has all.
    pub(crate) fn reason(&self, server: &str) -> Option<&str> {
        self.0.get(server).map(|missed| missed.reason.as_str())
    }

    /// How many record sets were published without this server.
    pub(crate) fn count(&self, server: &str) -> u64 {
        self.0.get(server).map_or(0, |missed| missed.sets.len() as u64)
    }

    /// Takes out what is seen to be there, and what nobody looks for any more.
    fn settle(&mut self, observed: &[Observed], servers: &BTreeSet<&str>) -> Vec<CaughtUp> {
        let observed: BTreeMap<&RecordKey, &Observed> = observed.iter().map(|o| (&o.key, o)).collect();
        self.0.retain(|server, _| servers.contains(server.as_str()));
        let mut caught_up: BTreeMap<RecordKey, CaughtUp> = BTreeMap::new();
        for (server, MissedBy { sets, .. }) in &mut self.0 {
            sets.retain(|key, generation| {
                let Some(observed) = observed.get(key) else { return false };
                let missing = not_showing(observed);
                let Some(live) = observed.current.as_ref().filter(|live| live.generation >= *generation)
                else {
                    return true;
                };
                if missing.contains(server) {
                    return true;
                }
                let (key, live) = (key.clone(), live.clone());
                let one = caught_up.entry(key.clone());
                let one = one.or_insert_with(|| CaughtUp { key, servers: vec![], missing, live });
                one.servers.push(server.clone());
                false
            });
        }
        self.0.retain(|_, missed| !missed.sets.is_empty());
        caught_up.into_values().collect()
    }
}

impl Coordinator {
    /// What a batch did not reach.
    pub(crate) fn note_missed(&self, batch: &Batch, applied: &Applied) -> BTreeSet<String> {
        let missing = &applied.coverage().missing;
        let put = batch.changes.iter().filter_map(Change::put);
        let sets: Vec<_> = put.filter_map(|set| Some((set.key()?, set.generation))).collect();
        // Said once: it is tried again and again.
        if self.live().missed.note(missing, &sets) {
            tracing::warn!(
                ?missing,
                batch = batch.idempotency_key,
                "published_partial: DNS servers were not told"
            );
        }
        names(missing)
    }

    /// What servers have caught up with since the last look, kept beside the publications.
    pub(crate) fn settle_missed(&self, dns: &DnsSettings, observed: &[Observed]) {
        let servers: BTreeSet<&str> = dns.answering().map(|(name, _)| name).collect();
        let caught_up = self.live().missed.settle(observed, &servers);
        if caught_up.is_empty() {
            return;
        }
        let loaded = self.loaded();
        let sources = by_record(sources(&loaded.config));
        for CaughtUp { key, servers, missing, live } in caught_up {
            tracing::info!(record_set = %key, ?servers, ?missing, "DNS servers caught up with what was published without them");
            if let Some(source) = sources.get(&key) {
                self.keep_caught_up(*source, &key, &live, servers, missing);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drover_dns::provider::Lagging;
    use drover_dns::zone::{Member, RecordType};

    fn observed(generation: u64, lagging: &[(&str, LaggingState)]) -> Observed {
        let member = Member { set_id: "eu-west".into(), value: "192.0.2.1".into(), weight: 1 };
        let current = RecordSet {
            name: "app.example.test".into(),
            rtype: RecordType::A,
            ttl_seconds: 30,
            members: vec![member],
            generation,
            epoch: drover_model::Epoch { incarnation: 1, counter: 1 },
            owner: "drover".into(),
            note: String::new(),
            answering: Default::default(),
        };
        let lagging = lagging
            .iter()
            .map(|(instance, state)| Lagging { instance: (*instance).to_owned(), state: state.clone() });
        Observed {
            key: current.key().unwrap(),
            current: Some(current),
            is_changed_by_hand: false,
            lagging: lagging.collect(),
        }
    }

    #[test]
    fn a_server_has_missed_it_until_it_is_seen_to_show_it() {
        let servers = BTreeSet::from(["dns-1", "dns-2", "dns-3"]);
        let gone = || LaggingState::NotReached { reason: "connection refused".into() };
        let behind = || LaggingState::Behind { generation: Some(1) };
        let key = observed(2, &[]).key;
        let mut missed = Missed::default();
        let missing = ["dns-2", "dns-3"]
            .map(|server| MissingInstance { instance: server.into(), reason: "connection refused".into() });
        assert!(missed.note(&missing, &[(key.clone(), 2)]));
        assert!(!missed.note(&missing, &[(key, 2)]), "once more is no news");
        assert_eq!((missed.reason("dns-1"), missed.reason("dns-2")), (None, Some("connection refused")));
        for states in [&[("dns-2", gone()), ("dns-3", gone())], &[("dns-2", behind()), ("dns-3", gone())]] {
            assert_eq!(missed.settle(&[observed(2, states)], &servers), []);
        }
        // What is seen is older than what was published: somebody else answers.
        assert_eq!(missed.settle(&[observed(1, &[])], &servers), []);
        assert_eq!((missed.count("dns-1"), missed.count("dns-2")), (0, 1));
        let unsigned = observed(2, &[("dns-2", LaggingState::Unsigned), ("dns-3", gone())]);
        let caught_up = missed.settle(&[unsigned], &servers);
        assert_eq!(
            (&caught_up[0].servers[..], &caught_up[0].missing[..]),
            (&["dns-2".to_owned()][..], &["dns-3".to_owned()][..])
        );
        assert_eq!((missed.count("dns-2"), missed.count("dns-3")), (0, 1));
        // A server that is configured no longer is waited for no longer.
        assert_eq!(missed.settle(&[observed(2, &[])], &BTreeSet::from(["dns-1"])), []);
        assert_eq!(missed.count("dns-3"), 0);
    }
}
