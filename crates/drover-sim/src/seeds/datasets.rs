//! The dataset of a generated world, and what happens to its write right. It is drawn by dice of its own, so that what a seed
//! does to traffic stays what it was.

use super::recipes::Draft;
use super::worlds::{REGIONS, one_of};
use fastrand::Rng;

/// Each story of so many seeds is about the write right, besides; the others have a person's moves in them.
const ABOUT_IT: u64 = 8;
const WHICH: u64 = 3;

/// Makes other dice of a seed.
const OTHER_DICE: u64 = 0x005e_ed0f_da7a_5e75;

/// By how much clocks are wrong in the worst case, in parts of a million: within the drift that the intervals allow.
const RATE_MAX: i64 = 80_000;

/// A dataset and who is who in it.
pub(super) struct Data {
    draft: Draft,
    holder: &'static str,
    others: Vec<&'static str>,
    seed: u64,
}

/// The agent of a region, as the world has it.
fn agent(region: &str) -> String {
    format!("{region}-1")
}

impl Data {
    pub(super) fn of(seed: u64) -> Self {
        let mut chance = Rng::with_seed(seed ^ OTHER_DICE);
        let mut all = REGIONS.to_vec();
        chance.shuffle(&mut all);
        // Two copies are the smallest dataset, in which one peer's word is enough.
        all.truncate(*one_of(&mut chance, &[(1, &2), (1, &3)]));
        let holder = all.remove(0);
        Self { draft: Draft::new(chance), holder, others: all, seed }
    }

    /// As its file has it.
    pub(super) fn document(&self) -> String {
        let members = std::iter::once(&self.holder).chain(&self.others).zip(7_414..);
        let members: Vec<String> = members
            .map(|(region, port)| format!("{{agent: {}, peer: '127.0.0.1:{port}'}}", agent(region)))
            .collect();
        format!(
            "---\nkind: Dataset\nname: orders\nholder: {}\nmembers: [{}]\n",
            agent(self.holder),
            members.join(", ")
        )
    }

    /// What happens to it.
    pub(super) fn faults(mut self) -> Draft {
        let dice = self.draft.chance.u32(..);
        self.draft.at(0, format!("dice {dice}"));
        if self.seed % ABOUT_IT == WHICH {
            self.clocks();
            let t = self.draft.between(10, 150);
            self.trouble(t);
            let t = self.draft.between(300, 420);
            self.trouble(t);
        } else if self.draft.percent(60) {
            let t = self.draft.between(5, 560);
            self.moved(t);
        }
        self.draft
    }

    fn target(&mut self) -> &'static str {
        self.draft.chance.choice(&self.others).copied().unwrap_or(self.holder)
    }

    fn any(&mut self) -> &'static str {
        if self.draft.percent(50) { self.holder } else { self.target() }
    }

    fn moves(&mut self, t: u64, target: &str) {
        self.draft.at(t, format!("dataset move orders --to {target}"));
    }

    /// Each at one end of what is allowed, or somewhere.
    fn clocks(&mut self) {
        let names: Vec<String> =
            std::iter::once(&self.holder).chain(&self.others).map(|r| agent(r)).collect();
        for name in names.into_iter().chain(["leader".to_owned()]) {
            let anything = self.draft.chance.i64(-RATE_MAX..=RATE_MAX);
            let rate =
                *one_of(&mut self.draft.chance, &[(1, &0), (1, &anything), (1, &RATE_MAX), (1, &-RATE_MAX)]);
            self.draft.at(0, format!("rate {name} {rate}ppm"));
        }
    }

    fn trouble(&mut self, t: u64) {
        let recipe = *one_of(
            &mut self.draft.chance,
            &[
                (3, &(Self::cut_off as fn(&mut Self, u64))),
                (3, &(Self::forgetful as fn(&mut Self, u64))),
                (5, &(Self::late as fn(&mut Self, u64))),
                (2, &(Self::led_by_several as fn(&mut Self, u64))),
                (2, &(Self::stopped as fn(&mut Self, u64))),
                (1, &(Self::lost as fn(&mut Self, u64))),
                (1, &(Self::restarted as fn(&mut Self, u64))),
            ],
        );
        recipe(self, t);
    }

    /// A person moves it, and may think better of it.
    fn moved(&mut self, t: u64) {
        let target = self.any();
        self.moves(t, target);
        if self.draft.percent(50) {
            let later = self.draft.between(0, 2);
            self.draft.at(t + later, "dataset abort orders");
        }
        if self.draft.percent(30) {
            let (target, later) = (self.any(), self.draft.between(10, 90));
            self.moves(t + later, target);
        }
    }

    /// The holder's coordinators don't hear it, and its peers may.
    fn cut_off(&mut self, t: u64) {
        let (holder, target, back) = (agent(self.holder), self.target(), self.draft.between(30, 120));
        self.draft.at(t, format!("silence {holder}"));
        if self.draft.percent(40) {
            let blind = self.draft.between(0, 20);
            self.draft.at(t + blind, format!("blind {holder}"));
        }
        let later = self.draft.between(0, 15);
        self.moves(t + later, target);
        if self.draft.percent(20) {
            let abort = self.draft.between(1, 8);
            self.draft.at(t + later + abort, "dataset abort orders");
        }
        self.draft.at(t + back, format!("heal {holder}"));
    }

    /// The target starts anew when it has written, and hears of nothing but the holder before it, which has heard of nothing
    /// either: what it is sealed for stands on its disk alone.
    fn forgetful(&mut self, t: u64) {
        let (holder, target) = (self.holder, self.target());
        self.draft.at(t, format!("break link {holder} {target}"));
        let third = self.others.iter().copied().find(|other| *other != target);
        let deaf: Vec<String> = std::iter::once(holder).chain(third).map(agent).collect();
        for name in &deaf {
            self.draft.at(t, format!("silence {name}"));
        }
        let later = self.draft.between(0, 8);
        self.moves(t + later, target);
        let again = t + later + self.draft.between(10, 25);
        self.draft.at(again, format!("silence {}", agent(target)));
        self.draft.at(again, format!("restart {}", agent(target)));
        self.draft.at(again, format!("heal link {holder} {target}"));
        let back = again + self.draft.between(20, 60);
        for name in deaf.into_iter().chain([agent(target)]) {
            self.draft.at(back, format!("heal {name}"));
        }
    }

    /// The leader's close is long on its way, and the holder is lost just before it arrives.
    fn late(&mut self, t: u64) {
        let (holder, target, takes) = (agent(self.holder), self.target(), self.draft.between(3, 12));
        self.draft.at(t, format!("delay store {takes}s"));
        self.moves(t, target);
        let lost = t + takes - self.draft.between(0, 1);
        self.draft.at(lost, format!("silence {holder}"));
        if self.draft.percent(80) {
            self.draft.at(lost, format!("blind {holder}"));
        }
        let back = self.draft.between(20, 90);
        self.draft.at(lost + back, format!("heal {holder}"));
    }

    /// Leaders come and go while it is moved.
    fn led_by_several(&mut self, t: u64) {
        let target = self.target();
        if self.draft.percent(50) {
            let holder = agent(self.holder);
            self.draft.at(t.saturating_sub(2), format!("silence {holder}"));
            let back = self.draft.between(20, 90);
            self.draft.at(t + back, format!("heal {holder}"));
        }
        self.moves(t, target);
        for _ in 0..self.draft.between(1, 3) {
            let (when, how) =
                (self.draft.between(0, 12), one_of(&mut self.draft.chance, &[(1, "crash"), (1, "depose")]));
            self.draft.at(t + when, how);
        }
        if self.draft.percent(40) {
            let abort = self.draft.between(1, 14);
            self.draft.at(t + abort, "dataset abort orders");
        }
    }

    /// The holder's agent is stopped and its database goes on, for as long as its gate lets it.
    fn stopped(&mut self, t: u64) {
        let (holder, target) = (agent(self.holder), self.target());
        self.draft.at(t, format!("stop-agent {holder}"));
        let later = self.draft.between(0, 10);
        self.moves(t + later, target);
        let wakes = self.draft.between(3, 40);
        if self.draft.percent(50) {
            self.draft.at(t + wakes, format!("silence {holder}"));
            let back = self.draft.between(10, 60);
            self.draft.at(t + wakes + back, format!("heal {holder}"));
        }
        self.draft.at(t + wakes, format!("wake-agent {holder}"));
    }

    /// The holder's region is lost with all that is in it.
    fn lost(&mut self, t: u64) {
        let (holder, target) = (self.holder, self.target());
        self.draft.at(t, format!("break {holder}"));
        let later = self.draft.between(0, 30);
        self.moves(t + later, target);
        let back = self.draft.between(5, 120);
        self.draft.at(t + back, format!("heal {holder}"));
    }

    /// Agents start anew while it is moved.
    fn restarted(&mut self, t: u64) {
        let target = self.target();
        self.moves(t, target);
        for _ in 0..self.draft.between(1, 4) {
            let (when, who) = (self.draft.between(0, 15), agent(self.any()));
            self.draft.at(t + when, format!("restart {who}"));
        }
    }
}
