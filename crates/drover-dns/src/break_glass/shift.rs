//! From what is live and what a person wants to the record set that he will hold. Pure.

use std::collections::BTreeMap;

use drover_model::RegionId;
use drover_model::break_glass::HeldBy;

use crate::publish::Change;
use crate::zone::{InvalidRecordSet, Member, RecordSet, ValidRecordSet, WEIGHT_MAX};

/// Bytes of a reason that a record set's note keeps: it stands in one TXT string of a zone of others.
const NOTE_BYTES_MAX: usize = 200;

/// What a person wants of one service.
#[derive(Debug, Clone, Copy)]
pub struct Shift<'a> {
    /// The owner of what drover publishes.
    pub owner: &'a str,
    /// Weights by region; a region that is not named keeps what it has.
    pub weights: &'a BTreeMap<RegionId, u16>,
    /// What the configuration would answer for each region of the service.
    pub configured: &'a BTreeMap<RegionId, String>,
    /// Who will hold it.
    pub held_by: &'a HeldBy,
    /// Why.
    pub reason: &'a str,
}

/// Why there is no such record set. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoShift {
    /// Whoever made it knows what may be done to it.
    #[error("it belongs to \"{owner}\", who is neither drover nor anybody who broke the glass")]
    NotDrovers {
        /// Who that is.
        owner: String,
    },
    /// Nobody knows what to answer for it.
    #[error("{region} is neither live nor an endpoint of the configuration; known: {}", known.join(", "))]
    UnknownRegion {
        /// The region.
        region: RegionId,
        /// Those that are.
        known: Vec<String>,
    },
    /// No provider has a greater one.
    #[error("{weight} is no weight of {region}: it is 0 to {WEIGHT_MAX}")]
    Weight {
        /// The region.
        region: RegionId,
        /// What was asked for.
        weight: u16,
    },
    /// It would leave a name without an answer (I4), or is no record set.
    #[error("it can't be published")]
    Invalid(#[source] InvalidRecordSet),
}

/// The record set that is to be live, and the change that makes it so from `live` and from nothing else.
///
/// # Errors
/// When what is wanted can't be answered, or what is live is not drover's to change.
pub fn shift(live: &RecordSet, wanted: Shift<'_>) -> Result<(ValidRecordSet, Change), NoShift> {
    let Shift { owner, weights, configured, held_by, reason } = wanted;
    if live.owner != owner && HeldBy::of_owner(&live.owner).is_none() {
        return Err(NoShift::NotDrovers { owner: live.owner.clone() });
    }
    let mut members = live.members.clone();
    for (region, weight) in weights {
        if *weight > WEIGHT_MAX {
            return Err(NoShift::Weight { region: region.clone(), weight: *weight });
        }
        let standing = members.iter_mut().find(|member| member.set_id == region.as_str());
        match (standing, configured.get(region)) {
            (Some(member), _) => member.weight = *weight,
            (None, Some(value)) => members.push(Member {
                set_id: region.as_str().to_owned(),
                value: value.clone(),
                weight: *weight,
            }),
            (None, None) => {
                let of_live = live.members.iter().map(|member| member.set_id.clone());
                let mut known: Vec<String> =
                    of_live.chain(configured.keys().map(ToString::to_string)).collect();
                known.sort();
                known.dedup();
                return Err(NoShift::UnknownRegion { region: region.clone(), known });
            }
        }
    }
    let set = RecordSet {
        members,
        generation: live.generation.saturating_add(1),
        owner: held_by.owner(),
        note: cut(reason).to_owned(),
        ..live.clone()
    };
    let valid = ValidRecordSet::with_aliases(set).map_err(NoShift::Invalid)?;
    let change = Change::Put {
        expected_generation: Some(live.generation),
        record_set: valid.document().clone(),
        take_over: true,
    };
    Ok((valid, change))
}

fn cut(reason: &str) -> &str {
    let mut end = reason.len().min(NOTE_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    &reason[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zone::{Answering, RecordType};
    use drover_model::Epoch;

    fn live(owner: &str) -> RecordSet {
        let member = |(n, region): (usize, &str)| Member {
            set_id: region.into(),
            value: format!("192.0.2.{}", n + 1),
            weight: 50,
        };
        RecordSet {
            name: "checkout.example.test".into(),
            rtype: RecordType::A,
            ttl_seconds: 30,
            members: ["eu-west", "us-east"].into_iter().enumerate().map(member).collect(),
            generation: 7,
            epoch: Epoch { incarnation: 1, counter: 2 },
            owner: owner.into(),
            note: String::new(),
            answering: Answering::USUAL,
        }
    }

    fn shifted(owner: &str, weights: &[(&str, u16)]) -> Result<RecordSet, NoShift> {
        let region = |name: &str| RegionId::new(name).unwrap();
        let weights = weights.iter().map(|(name, weight)| (region(name), *weight)).collect();
        let configured = BTreeMap::from([(region("ap-south"), "192.0.2.3".to_owned())]);
        let held_by = HeldBy::new("ada", 1);
        let reason = "ü".repeat(NOTE_BYTES_MAX);
        let wanted = Shift {
            owner: "drover",
            weights: &weights,
            configured: &configured,
            held_by: &held_by,
            reason: &reason,
        };
        shift(&live(owner), wanted).map(|(set, _)| set.document().clone())
    }

    #[test]
    fn named_regions_get_their_weight_and_the_others_keep_theirs() {
        let set = shifted("drover", &[("eu-west", 0), ("ap-south", 20)]).unwrap();
        let told: Vec<_> =
            set.members.iter().map(|m| (m.set_id.as_str(), m.value.as_str(), m.weight)).collect();
        assert_eq!(
            told,
            [("eu-west", "192.0.2.1", 0), ("us-east", "192.0.2.2", 50), ("ap-south", "192.0.2.3", 20)]
        );
        assert_eq!((set.generation, set.owner.as_str()), (8, "break-glass/ada/00000001"));
        assert_eq!(set.note.len(), NOTE_BYTES_MAX, "cut between letters");
    }

    #[test]
    fn the_change_stands_on_what_was_shown() {
        let (weights, configured) = (BTreeMap::new(), BTreeMap::new());
        let held_by = HeldBy::new("ada", 1);
        let wanted = Shift {
            owner: "drover",
            weights: &weights,
            configured: &configured,
            held_by: &held_by,
            reason: "r",
        };
        let (set, change) = shift(&live("drover"), wanted).unwrap();
        assert_eq!((change.expected_generation(), change.put()), (Some(7), Some(set.document())));
    }

    #[test]
    fn nothing_dark_unknown_or_somebody_elses_comes_of_it() {
        let dark = shifted("drover", &[("eu-west", 0), ("us-east", 0)]).unwrap_err();
        assert!(matches!(&dark, NoShift::Invalid(InvalidRecordSet::AllWeightsZero { .. })), "{dark:?}");
        let unknown = shifted("drover", &[("mars", 1)]).unwrap_err();
        assert!(unknown.to_string().contains("known: ap-south, eu-west, us-east"), "{unknown}");
        assert!(matches!(shifted("drover", &[("eu-west", 256)]), Err(NoShift::Weight { .. })));
        assert!(matches!(shifted("terraform", &[("eu-west", 0)]), Err(NoShift::NotDrovers { .. })));
        assert!(
            shifted("break-glass/bob/0000000a", &[("eu-west", 0)]).is_ok(),
            "who held it before made room"
        );
    }
}
