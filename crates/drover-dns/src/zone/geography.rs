//! Where clients are, made ready to be looked up: the zone's networks, cut into blocks of which each has one answer.
//!
//! A resolver keeps an answer for all clients of the block that it is told (RFC 7871, 7.3.1). So a block must not reach into a longer
//! network, whose clients get another answer: around a network the space is halved until nothing else is left in the piece. The
//! blocks lie side by side, so that finding a client is one binary search, and the block's length is what the resolver is told.

use std::collections::BTreeMap;
use std::net::IpAddr;

use drover_model::RegionId;
use drover_model::config::{ClientNetwork, Outside, Steering};
use ipnet::IpNet;

use super::draws::network;
use super::{NETWORK_BITS_V4, NETWORK_BITS_V6, RecordSet};

/// Clients that get one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Block {
    /// The first of its networks, as [`network`] numbers them.
    first: u64,
    /// How long its prefix is.
    bits: u8,
    /// The longest of the zone's networks that has it.
    of: Option<usize>,
}

/// Where clients are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Geography {
    networks: Vec<ClientNetwork>,
    four: Vec<Block>,
    six: Vec<Block>,
    jurisdictions: BTreeMap<RegionId, String>,
    outside: Outside,
}

/// What is known of a client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'g> {
    geography: &'g Geography,
    network: Option<&'g ClientNetwork>,
    /// Of his address, as far as it decides this.
    pub(crate) bits: u8,
}

/// No region may answer him.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotAllowed;

impl Geography {
    /// From what is published. The lines were read when the record set was checked; what is none is passed over.
    pub(crate) fn new(set: &RecordSet) -> Self {
        let mut geography = Self::default();
        for line in set.members.iter().filter_map(|member| serde_json::from_str(&member.value).ok()) {
            match line {
                Steering::Outside(outside) => geography.outside = outside,
                Steering::Jurisdictions(places) => geography.jurisdictions = places,
                Steering::Network(network) => geography.networks.push(network),
            }
        }
        let (mut four, mut six) = (vec![], vec![]);
        for (of, network) in geography.networks.iter().enumerate() {
            match network.cidr {
                IpNet::V4(_) => four.push(block(&network.cidr, of)),
                IpNet::V6(_) => six.push(block(&network.cidr, of)),
            }
        }
        let (all_four, all_six) = (whole(IpAddr::from([0; 4])), whole(IpAddr::from([0; 16])));
        cut(all_four, NETWORK_BITS_V4, four, &mut geography.four);
        cut(all_six, NETWORK_BITS_V6, six, &mut geography.six);
        geography
    }

    /// What is known of a client.
    pub(crate) fn place(&self, client: IpAddr) -> Place<'_> {
        let number = network(client);
        let blocks = if client.to_canonical().is_ipv4() { &self.four } else { &self.six };
        let after = blocks.partition_point(|block| block.first <= number);
        let block = after.checked_sub(1).and_then(|at| blocks.get(at));
        let network = block.and_then(|block| self.networks.get(block.of?));
        Place { geography: self, network, bits: block.map_or(0, |block| block.bits) }
    }
}

impl Place<'_> {
    /// Those of the members with weight that may be answered: the nearest alone where there is one. By place in the set, with the weight.
    ///
    /// # Errors
    /// When none may.
    pub(crate) fn allowed<'m>(
        &self,
        members: impl Iterator<Item = (&'m str, u32)>,
    ) -> Result<Vec<(usize, u32)>, NotAllowed> {
        let with_weight: Vec<(usize, (&str, u32))> =
            members.enumerate().filter(|(_, (_, weight))| *weight > 0).collect();
        let wanted = self.network.and_then(|network| network.jurisdiction.as_ref());
        let is_inside = |region: &str| {
            wanted.is_none_or(|wanted| {
                let place = self.geography.jurisdictions.iter().find(|(name, _)| name.as_str() == region);
                place.is_some_and(|(_, place)| place == wanted)
            })
        };
        let mut left: Vec<_> =
            with_weight.iter().copied().filter(|(_, (region, _))| is_inside(region)).collect();
        if left.is_empty() {
            match self.geography.outside {
                Outside::Refuse => return Err(NotAllowed),
                Outside::Answer => left = with_weight,
            }
        }
        let prefer = self.network.map_or(&[][..], |network| network.prefer.as_slice());
        let nearest =
            prefer.iter().find_map(|near| left.iter().find(|(_, (region, _))| *region == near.as_str()));
        let chosen = nearest.map_or(left.as_slice(), std::slice::from_ref);
        Ok(chosen.iter().map(|(place, (_, weight))| (*place, *weight)).collect())
    }
}

fn whole(of: IpAddr) -> Block {
    Block { first: network(of), bits: 0, of: None }
}

fn block(cidr: &IpNet, of: usize) -> Block {
    Block { first: network(cidr.network()), bits: cidr.prefix_len(), of: Some(of) }
}

/// The piece, in blocks of which each has one answer; `within` are the networks in it, and their like.
fn cut(mut piece: Block, bits_max: u8, within: Vec<Block>, into: &mut Vec<Block>) {
    if let Some(same) = within.iter().find(|network| network.bits <= piece.bits) {
        piece.of = same.of;
    }
    let longer: Vec<Block> = within.into_iter().filter(|network| network.bits > piece.bits).collect();
    if longer.is_empty() || piece.bits >= bits_max {
        into.push(piece);
        return;
    }
    let half = 1_u64 << (bits_max - piece.bits - 1);
    let (left, right): (Vec<Block>, Vec<Block>) =
        longer.into_iter().partition(|network| network.first < piece.first + half);
    let bits = piece.bits + 1;
    cut(Block { bits, ..piece }, bits_max, left, into);
    cut(Block { first: piece.first + half, bits, ..piece }, bits_max, right, into);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn geography(networks: &[(&str, &[&str], Option<&str>)], outside: Outside) -> Geography {
        let region = |name: &&str| RegionId::new(*name).unwrap();
        let network = |(cidr, prefer, jurisdiction): &(&str, &[&str], Option<&str>)| {
            Steering::Network(ClientNetwork {
                cidr: cidr.parse().unwrap(),
                prefer: prefer.iter().map(region).collect(),
                jurisdiction: jurisdiction.map(str::to_owned),
            })
        };
        let places = [("eu-west", "EU"), ("eu-north", "EU"), ("us-east", "US")];
        let places = places.iter().map(|(name, place)| (region(name), (*place).to_owned())).collect();
        let mut lines = vec![Steering::Outside(outside), Steering::Jurisdictions(places)];
        lines.extend(networks.iter().map(network));
        let member = |line: &Steering| super::super::Member {
            set_id: "#1".into(),
            value: serde_json::to_string(line).unwrap(),
            weight: 1,
        };
        Geography::new(&RecordSet {
            name: "example.test".into(),
            rtype: super::super::RecordType::Geography,
            ttl_seconds: 1,
            members: lines.iter().map(member).collect(),
            generation: 1,
            epoch: drover_model::Epoch { incarnation: 1, counter: 1 },
            owner: String::new(),
            note: String::new(),
            answering: super::super::Answering::USUAL,
        })
    }

    fn allowed(geography: &Geography, client: &str, weights: [u32; 3]) -> Option<Vec<usize>> {
        let members = ["eu-west", "eu-north", "us-east"].into_iter().zip(weights);
        let found = geography.place(client.parse().unwrap()).allowed(members).ok()?;
        Some(found.into_iter().map(|(place, _)| place).collect())
    }

    const NETWORKS: [(&str, &[&str], Option<&str>); 4] = [
        ("198.51.0.0/16", &["us-east", "eu-west"], None),
        ("198.51.100.0/24", &["eu-north", "eu-west"], Some("EU")),
        ("203.0.113.0/24", &[], Some("EU")),
        ("2001:db8::/32", &["eu-west"], None),
    ];

    #[test]
    fn the_nearest_allowed_region_that_has_weight_is_taken() {
        let zone = geography(&NETWORKS, Outside::Answer);
        for (client, weights, expected) in [
            ("198.51.7.1", [50, 30, 20], vec![2]),
            ("198.51.7.1", [50, 30, 0], vec![0]),
            ("198.51.7.1", [0, 30, 0], vec![1]),
            ("198.51.100.1", [50, 30, 20], vec![1]),
            ("198.51.100.1", [50, 0, 20], vec![0]),
            // Nearest of none: by weight among those that may.
            ("203.0.113.9", [50, 30, 20], vec![0, 1]),
            ("2001:db8:7::1", [50, 30, 20], vec![0]),
            // Nobody knows where he is.
            ("192.0.2.1", [50, 30, 20], vec![0, 1, 2]),
            ("2001:db9::1", [0, 30, 20], vec![1, 2]),
            // Up, and outside of the jurisdiction.
            ("198.51.100.1", [0, 0, 20], vec![2]),
        ] {
            assert_eq!(allowed(&zone, client, weights), Some(expected), "{client} {weights:?}");
        }
        let strict = geography(&NETWORKS, Outside::Refuse);
        assert_eq!(allowed(&strict, "198.51.100.1", [0, 0, 20]), None);
        assert_eq!(allowed(&strict, "198.51.7.1", [0, 0, 20]), Some(vec![2]));
    }

    #[test]
    fn a_block_reaches_into_no_other_network() {
        let zone = geography(&NETWORKS, Outside::Answer);
        let bits = |client: &str| zone.place(client.parse().unwrap()).bits;
        assert_eq!(bits("198.51.100.9"), 24);
        assert_eq!(bits("198.51.101.9"), 24, "beside it");
        assert_eq!(bits("198.51.0.9"), 18, "the half of the /16 without it, and again");
        assert_eq!(bits("2001:db8:1::"), 32);
        let nothing = Geography::default();
        assert_eq!(nothing.place("198.51.100.9".parse().unwrap()).bits, 0);
    }

    proptest! {
        #[test]
        fn blocks_answer_as_the_longest_prefix_does_and_all_of_a_block_alike(
            networks in prop::collection::vec((any::<u32>(), 0u8..=24), 0..12),
            clients in prop::collection::vec(any::<u32>(), 20),
        ) {
            let cidrs: Vec<String> = networks
                .iter()
                .map(|(at, bits)| IpNet::new(std::net::Ipv4Addr::from(*at).into(), *bits).unwrap().trunc().to_string())
                .collect();
            let told: Vec<(&str, &[&str], Option<&str>)> = cidrs.iter().map(|c| (c.as_str(), &[][..], None)).collect();
            let zone = geography(&told, Outside::Answer);
            // Near the networks as well as anywhere.
            let near = networks.iter().flat_map(|(at, _)| [*at, at ^ 0x100, at ^ 0x8000]);
            for client in clients.iter().copied().chain(near) {
                let at: IpAddr = std::net::Ipv4Addr::from(client).into();
                let longest = zone.networks.iter().filter(|n| n.cidr.contains(&at)).map(|n| n.cidr).max_by_key(IpNet::prefix_len);
                let place = zone.place(at);
                prop_assert_eq!(place.network.map(|n| n.cidr), longest, "{}", at);
                let mask = u32::MAX.checked_shl(32 - u32::from(place.bits)).unwrap_or(0);
                for other in [client & mask, client | !mask] {
                    let of_other = zone.place(std::net::Ipv4Addr::from(other).into());
                    prop_assert_eq!((of_other.network.map(|n| n.cidr), of_other.bits), (longest, place.bits));
                }
            }
        }
    }
}
