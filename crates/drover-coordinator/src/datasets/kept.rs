//! A dataset's record as it is in the store, with what a later drover wrote into it.
//!
//! Any coordinator renews, once a second, and while an installation is upgraded some are older than others. One that wrote back only
//! what it knows would undo what a newer one has just written. To refuse instead would stop a writer where an older coordinator is
//! the only one that its holder reaches.

use drover_model::write_right::DatasetRecord;
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

/// A record, and the fields in it that this drover does not know.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Kept {
    pub(super) record: DatasetRecord,
    later: Map<String, Value>,
}

impl Kept {
    /// A record that nobody wrote before.
    pub(super) fn new(record: DatasetRecord) -> Self {
        Self { record, later: Map::new() }
    }

    /// The same with another record, and with the fields that are not known here.
    pub(super) fn with(&self, record: DatasetRecord) -> Self {
        Self { record, later: self.later.clone() }
    }
}

impl<'de> Deserialize<'de> for Kept {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let stored = Map::deserialize(from)?;
        let whole = Value::Object(stored);
        let record = DatasetRecord::deserialize(&whole).map_err(D::Error::custom)?;
        let known = serde_json::to_value(&record).map_err(D::Error::custom)?;
        let (Value::Object(stored), Value::Object(known)) = (whole, known) else {
            return Err(D::Error::custom("a record is an object"));
        };
        Ok(Self { record, later: unknown(stored, &known) })
    }
}

impl Serialize for Kept {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut whole = serde_json::to_value(&self.record).map_err(S::Error::custom)?;
        if let Value::Object(whole) = &mut whole {
            add(whole, &self.later);
        }
        whole.serialize(to)
    }
}

/// What is stored and not known, at any depth of objects.
fn unknown(stored: Map<String, Value>, known: &Map<String, Value>) -> Map<String, Value> {
    let left = |(name, value)| match (value, known.get(&name)) {
        (Value::Object(stored), Some(Value::Object(known))) => {
            let left = unknown(stored, known);
            (!left.is_empty()).then_some((name, Value::Object(left)))
        }
        (_, Some(_)) => None,
        (value, None) => Some((name, value)),
    };
    stored.into_iter().filter_map(left).collect()
}

/// Adds it again. What is known now is never replaced.
fn add(whole: &mut Map<String, Value>, later: &Map<String, Value>) {
    for (name, value) in later {
        match (whole.get_mut(name), value) {
            (Some(Value::Object(within)), Value::Object(later)) => add(within, later),
            (Some(_), _) => {}
            (None, value) => drop(whole.insert(name.clone(), value.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drover_model::Timestamp;
    use drover_model::write_right::{RightSettings, RightState};
    use serde_json::json;

    fn stored() -> Value {
        json!({
            "right": {
                "incarnation": 7, "generation": 3, "holder": "eu-1", "state": "closing", "target": "us-1", "plan": "plan-1",
                "members": {"version": 2, "promotable": ["us-1"], "weights": {"us-1": 2}},
                "acknowledged": {"version": 2, "promotable": ["us-1"]}, "sync_set": [], "witness": "ap-1",
            },
            "intervals": RightSettings::default(),
            "renewed_at": Timestamp::from_millis(2_000), "not_writing_since": Timestamp::from_millis(1_000),
            "format": 2, "lag": {"bytes": 17},
        })
    }

    #[test]
    fn what_a_later_drover_wrote_comes_back_as_it_was() {
        let kept: Kept = serde_json::from_value(stored()).unwrap();
        let back = serde_json::to_value(&kept).unwrap();
        for pointer in ["/right/witness", "/right/members/weights", "/format", "/lag", "/right/plan"] {
            assert_eq!(back.pointer(pointer), stored().pointer(pointer), "{pointer}");
        }
        assert_eq!(serde_json::from_value::<Kept>(back).unwrap(), kept);
    }

    #[test]
    fn what_is_known_is_changed_and_dropped_as_this_drover_means_it() {
        let kept: Kept = serde_json::from_value(stored()).unwrap();
        let mut record = kept.record.clone();
        record.not_writing_since = None;
        record.right.state = RightState::Open;
        let back = serde_json::to_value(kept.with(record)).unwrap();
        assert_eq!(back["right"]["state"], "open");
        for gone in ["/not_writing_since", "/right/target", "/right/plan"] {
            assert_eq!(back.pointer(gone), None, "{gone}");
        }
        assert_eq!(back["lag"]["bytes"], 17);
    }

    #[test]
    fn a_record_that_lacks_something_is_none() {
        let mut stored = stored();
        stored["right"].as_object_mut().unwrap().remove("holder");
        assert!(serde_json::from_value::<Kept>(stored).unwrap_err().to_string().contains("holder"));
        assert!(serde_json::from_value::<Kept>(json!([])).is_err());
    }
}
