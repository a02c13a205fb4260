//! The network between the vantages and the regions: which segments a probe crosses, and what each loses.
//!
//! Four sites on three backbone segments; the witness hangs on Europe. A probe crosses the sender's access, the segments
//! between, and the target's access, so that probes of one target share its access, and those of Europe and the witness to
//! one region beyond share the backbone too: exactly the vantages that are to agree independently do not quite do so.

use fastrand::Rng;

/// The sites: three regions, then the witness.
pub const SITES: usize = 4;
const EU: usize = 0;
const US: usize = 1;
const AP: usize = 2;
const WITNESS: usize = 3;

/// Segments: an access for each site, then the backbone.
const SEGMENTS: usize = SITES + 4;
const EU_US: usize = SITES;
const US_AP: usize = SITES + 1;
const EU_AP: usize = SITES + 2;
const EU_WITNESS: usize = SITES + 3;

/// Lost on any probe's way for no reason that lasts.
const INDEPENDENT_LOSS: f64 = 0.01;
/// In a burst a segment loses this share of all that crosses it.
const BURST_LOSS: f64 = 0.3;
/// A burst lasts so long on average; lengths are exponential (Gilbert, "Capacity of a burst-noise channel", 1960).
const BURST_MEAN_SECONDS: f64 = 10.0;
/// Between the ends and begins of a segment's bursts, on average: one a day.
const QUIET_MEAN_SECONDS: f64 = 86_400.0;

/// The segments between two sites.
fn between(a: usize, b: usize) -> &'static [usize] {
    match (a.min(b), a.max(b)) {
        (EU, US) => &[EU_US],
        (US, AP) => &[US_AP],
        (EU, AP) => &[EU_AP],
        (EU, WITNESS) => &[EU_WITNESS],
        (US, WITNESS) => &[EU_WITNESS, EU_US],
        (AP, WITNESS) => &[EU_WITNESS, EU_AP],
        _ => &[],
    }
}

/// The bursts of one segment, as time goes on.
#[derive(Debug, Clone, Copy)]
struct Segment {
    begins: f64,
    ends: f64,
}

/// All segments.
#[derive(Debug, Clone)]
pub struct Paths {
    segments: [Segment; SEGMENTS],
    /// Before this no segment has a burst.
    calm_until: f64,
    chance: Rng,
}

impl Paths {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        let mut chance = Rng::with_seed(seed);
        let segments = [0; SEGMENTS].map(|_| next_burst(&mut chance, 0.0));
        Self { segments, calm_until: 0.0, chance }
    }

    /// Is a probe lost that is made at `seconds`, never earlier than the one before?
    pub fn loses(&mut self, from: usize, to: usize, seconds: f64) -> bool {
        let mut lost = self.chance.f64() < INDEPENDENT_LOSS;
        if seconds < self.calm_until {
            return lost;
        }
        for segment in &mut self.segments {
            while seconds >= segment.ends {
                *segment = next_burst(&mut self.chance, segment.ends);
            }
        }
        self.calm_until = self.segments.iter().map(|s| s.begins).fold(f64::INFINITY, f64::min);
        let crossed = between(from, to).iter().chain([&from, &to]);
        for segment in crossed.filter(|s| seconds >= self.segments[**s].begins) {
            debug_assert!(seconds < self.segments[*segment].ends);
            lost |= self.chance.f64() < BURST_LOSS;
        }
        lost
    }
}

fn next_burst(chance: &mut Rng, after: f64) -> Segment {
    let exponential = |chance: &mut Rng, mean: f64| -mean * (1.0 - chance.f64()).ln();
    let begins = after + exponential(chance, QUIET_MEAN_SECONDS);
    Segment { begins, ends: begins + exponential(chance, BURST_MEAN_SECONDS) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_much_is_lost_as_is_said_and_together_in_bursts() {
        let mut paths = Paths::new(7);
        let (mut lost, mut together, rounds) = (0.0, 0.0, 2_000_000);
        for n in 0..rounds {
            let seconds = f64::from(n) * 30.0;
            let both = [paths.loses(EU, AP, seconds), paths.loses(WITNESS, AP, seconds + 0.001)];
            lost += f64::from(u8::from(both[0]));
            together += f64::from(u8::from(both[0] && both[1]));
        }
        let rounds = f64::from(rounds);
        // A burst of 10 s a day on each of three segments adds 0.01 % to one in a hundred.
        assert!((lost / rounds - 0.0101).abs() < 0.0004, "{lost}");
        // Independent, one in ten thousand would be lost on both ways; the bursts that they share add their tenth.
        assert!((together / rounds - 0.000_12).abs() < 0.000_03, "{together}");
    }

    #[test]
    fn vantages_of_one_region_share_its_access_and_some_share_more() {
        assert_eq!(between(EU, AP), between(AP, EU));
        assert!(between(WITNESS, AP).contains(&EU_AP) && between(EU, AP).contains(&EU_AP));
        assert!(!between(US, AP).iter().any(|s| between(EU, AP).contains(s)));
    }
}
