//! Coordinators, one in each region: any that has the store shows a right and renews it.

use super::DatasetWorld;
use super::agenda::What;
use super::agent::{ANSWER_WITHIN, Letter};
use super::net::latency;
use drover_exec::write_right::{Revision, TransferEvent, renew};
use drover_model::Timestamp;
use drover_model::write_right::{Renew, Sealed, WriteRight};
use std::sync::Arc;

impl DatasetWorld {
    /// The coordinator that this agent asks after so many others.
    fn coordinator(&self, m: usize, before: usize) -> usize {
        let machine = &self.machines[m];
        let preferred = machine.agent.as_ref().map_or(0, |process| process.preferred);
        (machine.place + preferred + before) % self.env.coordinators()
    }

    fn is_heard(&self, m: usize, coordinator: usize) -> bool {
        let machine = &self.machines[m];
        let arrives = !machine.facts.silent && self.env.carries(machine.place, coordinator);
        arrives && self.env.reads(coordinator)
    }

    fn answers(&self, m: usize, coordinator: usize) -> bool {
        self.env.carries(coordinator, self.machines[m].place)
    }

    fn prefers(&mut self, m: usize, coordinator: usize) {
        let count = self.env.coordinators();
        let machine = &mut self.machines[m];
        if let Some(process) = &mut machine.agent {
            process.preferred = (coordinator + count - machine.place) % count;
        }
    }

    /// Does any answer an agent that reads, and how many did not before?
    pub(super) fn read_by(&mut self, m: usize) -> (bool, u64) {
        let count = self.env.coordinators();
        for before in 0..count {
            let coordinator = self.coordinator(m, before);
            if self.is_heard(m, coordinator) && self.answers(m, coordinator) {
                self.prefers(m, coordinator);
                return (true, u64::try_from(before).unwrap_or_default());
            }
        }
        (false, u64::try_from(count).unwrap_or_default())
    }

    /// A renewal arrives. One that is not heard, or whose answer is lost, goes to the next coordinator, as it was sent first.
    pub(super) fn renewal(&mut self, m: usize, before: usize, sent: Timestamp, asked: Renew) {
        let coordinator = self.coordinator(m, before);
        let mut answer = None;
        if self.is_heard(m, coordinator) {
            answer = Some(match renew(&self.stored.record, &asked) {
                Ok(renewal) => {
                    self.store(renewal.record());
                    Letter::Renewed(renewal.committed())
                }
                Err(_) => Letter::Refused(self.stored.record.clone()),
            });
        }
        if let Some(answer) = answer.filter(|_| self.answers(m, coordinator)) {
            self.prefers(m, coordinator);
            let takes = latency(&mut self.chance, before == 0);
            return self.sends(m, takes, What::Letter(m, answer));
        }
        let asks =
            self.machines[m].agent.as_ref().is_some_and(|process| process.session == asked.nonce.session);
        if asks && before + 1 < self.env.coordinators() {
            let next = sent + ANSWER_WITHIN.times(u64::try_from(before + 1).unwrap_or(u64::MAX));
            let renewal = What::Renewal { machine: m, before: before + 1, sent, renew: asked };
            self.agenda.put(next.max(self.now + latency(&mut self.chance, false)), renewal);
        }
    }

    /// What was swapped in. A record that is as it was is a change all the same: the store counts it.
    pub(super) fn store(&mut self, record: &WriteRight) {
        self.stored.revision = Revision(self.stored.revision.0 + 1);
        if *self.stored.record != *record {
            self.stored.record = Arc::new(record.clone());
        }
    }

    /// It tells all coordinators: the one that leads waits for it, and one that thinks that it leads.
    pub(super) fn says_sealed(&mut self, m: usize, sealed: &Sealed) {
        if self.machines[m].facts.silent {
            return;
        }
        let leaders = [Some(&self.lead), self.deposed.as_ref()];
        let counters: Vec<u64> = leaders.into_iter().flatten().map(|lead| lead.epoch.counter).collect();
        for counter in counters {
            let takes = latency(&mut self.chance, false);
            let event = Box::new(TransferEvent::Sealed(sealed.clone()));
            self.sends(m, takes, What::Lead(counter, event));
        }
    }
}
