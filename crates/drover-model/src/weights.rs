//! The weights of a service's regions.

use crate::ids::RegionId;
use crate::units::Weight;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Weights by region; in a text, a map.
///
/// In one piece and in the order of the regions, since they are walked far more often than looked up. Shared until
/// changed, since a plan repeats what stands and each of its steps what the one before made.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(from = "BTreeMap<RegionId, Weight>")]
#[schemars(with = "BTreeMap<RegionId, Weight>")]
pub struct Weights(Arc<Vec<(RegionId, Weight)>>);

impl Weights {
    /// The weight of `region`, where one is said.
    #[must_use]
    pub fn get(&self, region: &RegionId) -> Option<&Weight> {
        self.place(region).ok().map(|at| &self.0[at].1)
    }

    /// The weight of `region`: nothing where none is said.
    #[must_use]
    pub fn of(&self, region: &RegionId) -> Weight {
        self.get(region).copied().unwrap_or_default()
    }

    /// Says the weight of `region`.
    pub fn insert(&mut self, region: RegionId, weight: Weight) {
        let place = self.place(&region);
        let all = Arc::make_mut(&mut self.0);
        match place {
            Ok(at) => all[at].1 = weight,
            Err(at) => all.insert(at, (region, weight)),
        }
    }

    /// Each region with its weight, ascending.
    #[must_use]
    pub fn iter(&self) -> Iter<'_> {
        Iter(self.0.iter())
    }

    /// The regions, ascending.
    pub fn keys(&self) -> impl Iterator<Item = &RegionId> + Clone {
        self.0.iter().map(|(region, _)| region)
    }

    /// The weights in the order of their regions.
    pub fn values(&self) -> impl ExactSizeIterator<Item = &Weight> + Clone {
        self.0.iter().map(|(_, weight)| weight)
    }

    /// As [`Self::values`], to be changed.
    pub fn values_mut(&mut self) -> impl ExactSizeIterator<Item = &mut Weight> {
        Arc::make_mut(&mut self.0).iter_mut().map(|(_, weight)| weight)
    }

    fn place(&self, region: &RegionId) -> Result<usize, usize> {
        self.0.binary_search_by(|(other, _)| other.cmp(region))
    }
}

/// A walk over [`Weights`].
#[derive(Debug, Clone)]
pub struct Iter<'a>(std::slice::Iter<'a, (RegionId, Weight)>);

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a RegionId, &'a Weight);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(region, weight)| (region, weight))
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl<'a> IntoIterator for &'a Weights {
    type Item = (&'a RegionId, &'a Weight);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl FromIterator<(RegionId, Weight)> for Weights {
    fn from_iter<I: IntoIterator<Item = (RegionId, Weight)>>(items: I) -> Self {
        let all: Vec<_> = items.into_iter().collect();
        if all.is_sorted_by(|(one, _), (next, _)| one < next) {
            return Self(Arc::new(all));
        }
        all.into_iter().collect::<BTreeMap<_, _>>().into()
    }
}

impl From<BTreeMap<RegionId, Weight>> for Weights {
    fn from(map: BTreeMap<RegionId, Weight>) -> Self {
        Self(Arc::new(map.into_iter().collect()))
    }
}

impl Serialize for Weights {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn region(number: u8) -> RegionId {
        RegionId::new(format!("region-{number}")).unwrap()
    }

    proptest! {
        #[test]
        fn weights_are_what_a_map_would_be(
            said in prop::collection::vec((0u8..12, any::<u8>()), 0..20),
            more in prop::collection::vec((0u8..12, any::<u8>()), 0..4),
        ) {
            let pair = |(r, w): &(u8, u8)| (region(*r), Weight(*w));
            let mut map: BTreeMap<_, _> = said.iter().map(pair).collect();
            let mut weights: Weights = said.iter().map(pair).collect();
            let before = weights.clone();
            for (region, weight) in more.iter().map(pair) {
                map.insert(region.clone(), weight);
                weights.insert(region, weight);
            }
            prop_assert!(weights.iter().eq(&map));
            prop_assert!(weights.keys().eq(map.keys()) && weights.values().eq(map.values()));
            for number in 0..12 {
                prop_assert_eq!(weights.get(&region(number)), map.get(&region(number)));
                prop_assert_eq!(weights.of(&region(number)).0, map.get(&region(number)).map_or(0, |w| w.0));
            }
            let text = serde_json::to_string(&map).unwrap();
            prop_assert_eq!(&serde_json::to_string(&weights).unwrap(), &text);
            prop_assert_eq!(&serde_json::from_str::<Weights>(&text).unwrap(), &weights);
            prop_assert_eq!(before, said.iter().map(pair).collect(), "what others share is not changed");
        }
    }
}
