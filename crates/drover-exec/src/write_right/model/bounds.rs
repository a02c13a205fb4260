//! How much may happen in one run of the model.

use crate::write_right::SwapKind;
use crate::write_right::rules::{Rule, Rules};
use drover_model::write_right::{RightIntervals, RightSettings};
use drover_model::{Percent, Span};

/// Milliseconds that each clock goes on by in one tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rates {
    pub agents: [u64; 3],
    pub coordinators: [u64; 2],
}

/// What may still happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Left {
    /// Renewals of the first holder that the store takes.
    pub renewals: u8,
    /// Renewals of the others.
    pub first_renewals: u8,
    /// Transfers that a leader begins.
    pub transfers: u8,
    pub aborts: u8,
    pub takeovers: u8,
    /// Transactions whose answer is lost.
    pub lost_answers: u8,
    pub member_changes: u8,
    pub crashes: u8,
    pub pauses: u8,
}

/// How long a right lasts, in ticks of the model, and by how much clocks may be wrong.
#[derive(Clone, Copy, Debug)]
pub enum Timing {
    /// Two ticks, a third: the smallest in which an answer can be late and a round of questions matters.
    Two,
    /// Three ticks, a half: the smallest in which a wait that is too short by the drift is too short by a tick.
    Three,
}

impl Timing {
    /// Milliseconds a tick of the slowest and of the fastest clock that is allowed.
    pub fn extremes(self) -> (u64, u64) {
        match self {
            Timing::Two => (4, 8),
            Timing::Three => (4, 12),
        }
    }

    fn intervals(self) -> RightIntervals {
        let ms = Span::from_millis;
        let (width, drift, demotion, renew) = match self {
            Timing::Two => (12, 3_333, 2, 1),
            Timing::Three => (24, 5_000, 1, 4),
        };
        RightIntervals::new(RightSettings {
            width: ms(width),
            drift: Percent::from_basis_points(drift),
            demotion: ms(demotion),
            renew: ms(renew),
            retry: ms(2),
            gate_tick: ms(1),
        })
        .unwrap()
    }
}

/// One configuration of the model.
#[derive(Clone, Debug)]
pub struct Bounds {
    pub intervals: RightIntervals,
    pub rules: Rules,
    /// What the store does without comparing revisions: nothing, but where that is broken.
    pub uncompared: Vec<SwapKind>,
    /// There is a gate.
    pub gate: bool,
    /// The holder hears of the transfer: it reads the record, and gets the order to seal itself. One that does not is
    /// the more dangerous one, and has far fewer states.
    pub holder_hears: bool,
    pub ticks: u64,
    pub rates: Vec<Rates>,
    pub left: Left,
    /// Who is a member at first.
    pub members: Vec<usize>,
    /// To whom a right may be transferred.
    pub targets: Vec<usize>,
    /// Who may crash.
    pub crashing: Vec<usize>,
    /// What the members may be changed to.
    pub memberships: Vec<Vec<usize>>,
}

impl Bounds {
    /// One transfer, and a first renewal for whoever gets the right.
    pub fn left(renewals: u8) -> Left {
        Left { renewals, first_renewals: 1, transfers: 1, ..Left::default() }
    }

    /// The holder's clock is slow and all that wait for it are fast, which is the worst.
    pub fn new(timing: Timing, ticks: u64, left: Left) -> Self {
        let (slow, fast) = timing.extremes();
        Self {
            intervals: timing.intervals(),
            rules: Rules::default(),
            uncompared: Vec::new(),
            gate: true,
            holder_hears: true,
            ticks,
            rates: vec![Rates { agents: [slow, fast, fast], coordinators: [fast, fast] }],
            left,
            members: vec![1, 2],
            targets: vec![1],
            crashing: vec![1],
            memberships: vec![vec![1], vec![2]],
        }
    }

    /// Every clock at either extreme.
    pub fn every_drift(mut self, timing: Timing) -> Self {
        let (slow, fast) = timing.extremes();
        let rate = |bits: u32, bit: u32| if bits & (1 << bit) == 0 { slow } else { fast };
        self.rates = (0..32)
            .map(|bits| Rates {
                agents: [0, 1, 2].map(|bit| rate(bits, bit)),
                coordinators: [3, 4].map(|bit| rate(bits, bit)),
            })
            .filter(|rates| self.left.takeovers > 0 || rates.coordinators[0] == rates.coordinators[1])
            .collect();
        self
    }

    pub fn cut_off(mut self) -> Self {
        self.holder_hears = false;
        self
    }

    pub fn without(mut self, rules: &[Rule]) -> Self {
        self.rules = Rules::without(rules);
        self
    }
}
