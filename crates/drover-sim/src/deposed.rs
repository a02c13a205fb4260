//! A leader that slept, was succeeded, and wakes: it goes on publishing what stood when it led, until somebody tells it that
//! it does not lead any more (I3).

use crate::planted::Planted;
use crate::state::State;
use drover_model::traffic::TrafficState;
use drover_model::{Epoch, ServiceId, Shared};
use std::collections::BTreeMap;

/// What it believes.
pub(crate) struct Deposed {
    epoch: Epoch,
    traffic: Shared<BTreeMap<ServiceId, TrafficState>>,
}

impl Deposed {
    /// Under which it led.
    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }
}

impl State {
    /// The leader of now is about to be succeeded, and does not know it.
    pub(crate) fn depose(&mut self) {
        self.deposed = Some(Deposed { epoch: self.store.epoch, traffic: self.store.traffic.clone() });
    }

    /// It brings up what it remembers. The DNS server that has heard its successor refuses it.
    pub(crate) fn reconcile_deposed(&mut self) {
        if self.truth.dns_down {
            return;
        }
        let Some(Deposed { epoch, traffic }) = self.deposed.take() else { return };
        if epoch < self.dns.epoch && !self.lacks(Planted::EpochCheck) {
            return;
        }
        for target in traffic.values() {
            self.answer(target.clone(), epoch);
        }
        self.deposed = Some(Deposed { epoch, traffic });
    }
}
