//! Which of a record set's values a client gets, and in which order.
//!
//! The intuition: each value with weight runs towards the client at a speed that is its weight, and the answer names those that
//! arrive first. How long a run takes is chance, exponentially distributed; then the first to arrive is one of them in proportion to
//! the weights, and so is each next one among those that are left. Where the chance is the client's network and not a die, the
//! same network gets the same values; and who changes one weight changes one speed, so that just those networks move that must
//! (highest random weight, also called rendezvous hashing). Every server of the zone computes the same, of whatever build and
//! machine: so there are integers only, and a hash whose result is laid down.

use std::hash::Hasher;
use std::net::IpAddr;

use drover_model::config::geography::{CLIENT_BITS_V4_MAX, CLIENT_BITS_V6_MAX};
use drover_model::config::{Answering, Answers, Draws};
use siphasher::sip::SipHasher24;
use smallvec::SmallVec;

use super::served::point;
use super::{DnsName, Drawn, Geography, NotAllowed, Placed, RecordKey};

/// Of a client's address, what counts as one network, in bits.
pub(crate) const NETWORK_BITS_V4: u8 = CLIENT_BITS_V4_MAX;
pub(crate) const NETWORK_BITS_V6: u8 = CLIENT_BITS_V6_MAX;

/// The networks of both kinds of address, told apart.
const OF_V6: u64 = 1 << NETWORK_BITS_V6;

/// Names this use of the hash. Another one would move every client.
const STABLE_DRAWS: [u64; 2] = [u64::from_be_bytes(*b"drover s"), u64::from_be_bytes(*b"table d1")];

/// Binary digits behind the point of a logarithm. The shares are off by their last one.
const LOG_FRACTION_BITS: u32 = 32;

/// What decides which values a client gets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chance {
    /// A uniform random number.
    pub(crate) draw: u64,
    /// Who asks.
    pub(crate) client: IpAddr,
}

/// What there is of the zone around a record set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Around<'z> {
    pub(crate) origin: &'z DnsName,
    pub(crate) geography: &'z Geography,
}

impl Chance {
    /// Another chance for the same client: each CNAME on the way needs one that does not depend on the last one's choice.
    pub(crate) const fn next(self) -> Self {
        Self { draw: next_draw(self.draw), ..self }
    }
}

/// The client's network as a number: /24, or /56 of IPv6.
pub(crate) fn network(client: IpAddr) -> u64 {
    match client.to_canonical() {
        IpAddr::V4(four) => u64::from(u32::from(four) >> (u32::BITS - u32::from(NETWORK_BITS_V4))),
        IpAddr::V6(six) => OF_V6 | (u128::from(six) >> (u128::BITS - u32::from(NETWORK_BITS_V6))) as u64,
    }
}

/// Values for one answer: most have one, which touches no heap.
pub(crate) type Chosen<'a> = SmallVec<[Drawn<'a>; 1]>;

/// Members by their place, with what orders them.
type Running<T> = SmallVec<[(T, usize); 8]>;

impl Placed {
    /// How many bits of the client's address decide what he gets, and the values of one answer, in their order: none of weight 0, and none at all where
    /// there are aliases; or that the zone's geography allows none of them.
    pub(crate) fn chosen(&self, around: &Around<'_>, chance: Chance) -> (u8, Result<Chosen<'_>, NotAllowed>) {
        let Answering { answers, draws } = self.served.answering();
        match (answers, draws) {
            (Answers::One, Draws::Anew) => match self.served.draw(chance.draw) {
                Some(drawn) => (0, Ok(Chosen::from_buf([drawn]))),
                None => (0, Ok(Chosen::new())),
            },
            (answers, Draws::Anew) => {
                let weights = self.members_by_weight().map(|(_, weight)| weight);
                (0, Ok(self.at(&in_drawn_order(weights, answers, chance.draw))))
            }
            (answers, Draws::Stable) => {
                let run = Run::new(around.origin, self.set.key(), network(chance.client));
                (u8::MAX, Ok(self.at(&in_stable_order(&run, self.members_by_weight(), answers))))
            }
            (answers, Draws::Nearest) => {
                let place = around.geography.place(chance.client);
                let chosen = place.allowed(self.members_by_weight()).map(|allowed| {
                    let weights = allowed.iter().map(|(_, weight)| *weight);
                    let drawn = in_drawn_order(weights, answers, chance.draw);
                    let places = drawn.iter().filter_map(|at| allowed.get(*at));
                    self.at(&places.map(|(place, _)| *place).collect::<Places>())
                });
                (place.bits, chosen)
            }
        }
    }

    fn at(&self, places: &[usize]) -> Chosen<'_> {
        places.iter().filter_map(|place| self.served.at(*place)).collect()
    }

    fn members_by_weight(&self) -> impl Iterator<Item = (&str, u32)> {
        let members = &self.set.document().members;
        members.iter().map(|member| (member.set_id.as_str(), u32::from(member.weight)))
    }
}

type Places = SmallVec<[usize; 8]>;

/// Drawn one after the other, each by weight among those that are left. The first one is that of a single answer.
fn in_drawn_order(weights: impl Iterator<Item = u32>, answers: Answers, draw: u64) -> Places {
    let mut left: Running<u32> = weights
        .enumerate()
        .filter(|(_, weight)| *weight > 0)
        .map(|(place, weight)| (weight, place))
        .collect();
    let mut total: u32 = left.iter().map(|(weight, _)| *weight).sum();
    let (mut draw, mut places) = (draw, Places::new());
    for _ in 0..answers.of(left.len()) {
        let mut point = point(draw, total);
        let found = left.iter().position(|(weight, _)| match point.checked_sub(*weight) {
            Some(beyond) => {
                point = beyond;
                false
            }
            None => true,
        });
        let Some(at) = found else { break };
        let (weight, place) = left.remove(at);
        places.push(place);
        total -= weight;
        draw = next_draw(draw);
    }
    places
}

/// As they arrive at the client's network.
fn in_stable_order<'m>(run: &Run, members: impl Iterator<Item = (&'m str, u32)>, answers: Answers) -> Places {
    let with_weight = members.enumerate().filter(|(_, (_, weight))| *weight > 0);
    let mut running: Running<(u64, u64)> = with_weight
        .map(|(place, (region, weight))| ((run.length(region), u64::from(weight)), place))
        .collect();
    // Who arrives sooner: the time is length / weight, compared without a division. A length has 38 bits, a weight 8.
    running.sort_by(|((a, by_a), _), ((b, by_b), _)| (a * by_b).cmp(&(b * by_a)));
    running.iter().take(answers.of(running.len())).map(|(_, place)| *place).collect()
}

/// What the regions run for: one name, and one network. The type of the records is left out, so that a client gets the same region
/// for both kinds of address; and so is the generation, so that it keeps it.
struct Run(SipHasher24);

impl Run {
    fn new(origin: &DnsName, key: &RecordKey, network: u64) -> Self {
        let mut hasher = SipHasher24::new_with_keys(STABLE_DRAWS[0], STABLE_DRAWS[1]);
        for name in [origin, &key.name] {
            hasher.write(name.wire().as_slice());
        }
        hasher.write(&network.to_be_bytes());
        Self(hasher)
    }

    /// How far it is for this region: exponentially distributed, as a logarithm with [`LOG_FRACTION_BITS`].
    fn length(&self, region: &str) -> u64 {
        let mut hasher = self.0;
        hasher.write(region.as_bytes());
        // Uniform above 0 and below 1, as so many parts of 2^64.
        let uniform = hasher.finish() | 1;
        (u64::from(u64::BITS) << LOG_FRACTION_BITS) - log2(uniform)
    }
}

/// The binary logarithm of a number above 0, rounded down to [`LOG_FRACTION_BITS`]: a digit for each squaring.
fn log2(number: u64) -> u64 {
    let leading = number.leading_zeros();
    // Between 1 and 2, with 63 bits behind the point.
    let mut rest = number << leading;
    let mut digits = u64::from(u64::BITS - 1 - leading);
    for _ in 0..LOG_FRACTION_BITS {
        let square = (u128::from(rest) * u128::from(rest)) >> 63;
        let digit = (square >> u64::BITS) as u64;
        rest = (square >> digit) as u64;
        digits = (digits << 1) | digit;
    }
    digits
}

/// One step of `SplitMix64`.
const fn next_draw(draw: u64) -> u64 {
    let mixed = draw.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zone::RecordType;
    use std::collections::BTreeMap;

    const REGIONS: [&str; 4] = ["eu-west", "us-east", "ap-south", "sa-east"];
    /// 99.9 % of honest draws stay below it with two degrees of freedom.
    const CHI_SQUARE_MAX: f64 = 13.82;
    const NETWORKS: u64 = 20_000;

    fn stable(network: u64, weights: &[u32], answers: Answers) -> Vec<usize> {
        let name = |text: &str| DnsName::parse(text).unwrap();
        let key = RecordKey::new(name("app.example.test"), RecordType::A);
        let run = Run::new(&name("example.test"), &key, network);
        in_stable_order(&run, REGIONS.into_iter().zip(weights.iter().copied()), answers).to_vec()
    }

    fn chi_square(counts: &BTreeMap<usize, u64>, weights: &[u32], draws: u64) -> f64 {
        let total: u32 = weights.iter().sum();
        let off = |(place, weight): (usize, &u32)| {
            let expected = draws as f64 * f64::from(*weight) / f64::from(total);
            (counts.get(&place).copied().unwrap_or(0) as f64 - expected).powi(2) / expected
        };
        weights.iter().enumerate().filter(|(_, weight)| **weight > 0).map(off).sum()
    }

    #[test]
    fn logarithms_are_those_of_the_book() {
        let scale = f64::from(2_u32).powi(32);
        for number in [1, 2, 3, 10, 1 << 40, (1 << 63) + 12_345, u64::MAX] {
            let (ours, theirs) = (log2(number) as f64 / scale, (number as f64).log2());
            assert!((ours - theirs).abs() < 1e-8, "{number}: {ours} and {theirs}");
        }
        assert_eq!(log2(8), 3 << LOG_FRACTION_BITS);
    }

    #[test]
    fn over_many_networks_the_shares_follow_the_weights() {
        let weights = [50, 30, 20, 0];
        let mut counts = BTreeMap::new();
        for network in 0..NETWORKS {
            *counts.entry(stable(network, &weights, Answers::One)[0]).or_default() += 1;
        }
        let found = chi_square(&counts, &weights, NETWORKS);
        assert!(found < CHI_SQUARE_MAX && !counts.contains_key(&3), "{counts:?}: {found}");
    }

    #[test]
    fn just_those_networks_move_that_must() {
        let (before, after) = ([50, 30, 20, 0], [50, 30, 40, 0]);
        let mut moved = 0_u64;
        for network in 0..NETWORKS {
            let [from, to] = [before, after].map(|weights| stable(network, &weights, Answers::One)[0]);
            if from != to {
                assert_eq!(to, 2, "nobody goes where nothing was added");
                moved += 1;
            }
        }
        // From 20 of 100 to 40 of 120; five standard deviations of such a count are 260.
        let expected = NETWORKS as f64 * (40.0 / 120.0 - 20.0 / 100.0);
        assert!((moved as f64 - expected).abs() < 260.0, "{moved} moved, {expected} must");
        // A region that leaves moves its own networks and no other; back again, all have what they had.
        for network in 0..2_000 {
            let [with, without] =
                [before, [50, 30, 0, 0]].map(|weights| stable(network, &weights, Answers::One)[0]);
            assert!(with == 2 || with == without, "network {network}");
        }
    }

    /// What one build has answered, the next one must, and so must a server of another kind of machine.
    #[test]
    fn the_same_network_gets_the_same_region_of_every_build() {
        let first = |network| stable(network, &[50, 30, 20, 10], Answers::All);
        let told: Vec<_> = (0..4).map(|n| first(n * 7)).collect();
        assert_eq!(told, PINNED.map(|places| places.to_vec()));
    }

    /// Computed once by another program, from the description at the head of this file.
    const PINNED: [[usize; 4]; 4] = [[2, 0, 3, 1], [0, 1, 2, 3], [1, 2, 0, 3], [1, 2, 0, 3]];

    #[test]
    fn an_order_is_drawn_by_weight_and_has_nobody_twice() {
        let weights = [50_u32, 30, 20, 0];
        let mut random = fastrand::Rng::with_seed(7);
        let (mut firsts, mut seconds) = (BTreeMap::new(), BTreeMap::new());
        for _ in 0..NETWORKS {
            let places = in_drawn_order(weights.into_iter(), Answers::All, random.u64(..));
            let mut sorted = places.clone();
            sorted.sort_unstable();
            assert_eq!(sorted.as_slice(), [0, 1, 2]);
            *firsts.entry(places[0]).or_default() += 1;
            if places[0] == 0 {
                *seconds.entry(places[1]).or_default() += 1;
            }
        }
        let found = chi_square(&firsts, &weights, NETWORKS);
        assert!(found < CHI_SQUARE_MAX, "{firsts:?}: {found}");
        let (after_first, rest) = (seconds.values().sum(), [0, 30, 20, 0]);
        let found = chi_square(&seconds, &rest, after_first);
        assert!(found < CHI_SQUARE_MAX, "{seconds:?}: {found}");
        assert_eq!(in_drawn_order(weights.into_iter(), Answers::Several(2), 5).len(), 2);
        assert_eq!(stable(3, &weights, Answers::Several(2)), stable(3, &weights, Answers::All)[..2]);
    }

    #[test]
    fn a_network_is_24_bits_of_one_kind_and_56_of_the_other() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("198.51.100.7"), of("198.51.100.200"));
        assert_ne!(of("198.51.100.7"), of("198.51.101.7"));
        assert_eq!(of("198.51.100.7"), of("::ffff:198.51.100.9"));
        assert_eq!(of("2001:db8:0:1::1"), of("2001:db8:0:ff::2"));
        assert_ne!(of("2001:db8:0:100::1"), of("2001:db8:0:1::1"));
        assert_ne!(of("::"), of("0.0.0.0"));
    }
}
