//! Where traffic stands, and what people have laid down about it: the targets that are reconciled for ever.

use crate::decision::FailureClass;
use crate::ids::{RegionId, RunId, ServiceId};
use crate::time::Timestamp;
use crate::units::{Generation, Percent, RequestsPerSecond, Weight};
use crate::weights::Weights;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Why a region carries less than its configured share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum ShareReason {
    /// It carries what the configuration says.
    Configured,
    /// An operator drained it.
    Drained {
        /// By which run.
        run: RunId,
    },
    /// It failed and was left.
    FailedOver {
        /// By which run.
        run: RunId,
        /// A person commanded that run.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        by_hand: bool,
    },
    /// It is coming back by a ramp.
    Returning {
        /// By which run.
        run: RunId,
        /// A person commanded that run.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        by_hand: bool,
    },
}

impl ShareReason {
    /// The run that set the share; the configured share was set by none.
    #[must_use]
    pub fn run(&self) -> Option<&RunId> {
        match self {
            ShareReason::Configured => None,
            ShareReason::Drained { run }
            | ShareReason::FailedOver { run, .. }
            | ShareReason::Returning { run, .. } => Some(run),
        }
    }
}

/// One region's part in a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RegionShare {
    /// Of its configured weight.
    pub share: Percent,
    /// Why.
    pub reason: ShareReason,
}

/// A service's published target, the object that DNS is reconciled towards (store key `traffic/SERVICE`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TrafficState {
    /// The service.
    pub service: ServiceId,
    /// Raised by every change; also the record set's generation in DNS.
    pub generation: Generation,
    /// Every region of the service.
    pub shares: BTreeMap<RegionId, RegionShare>,
    /// The weights that follow from shares and configuration, summing to [`crate::units::WEIGHT_SUM`]. Never all zero (I4).
    pub weights: Weights,
    /// When it last changed.
    pub changed_at: Timestamp,
    /// Who changed it then.
    #[serde(default, skip_serializing_if = "TargetOrigin::is_configuration")]
    pub origin: TargetOrigin,
    /// The last generation that a run or an adoption made. Where DNS is behind it, more is due than what the configuration changed since.
    #[serde(default, skip_serializing_if = "Generation::is_none")]
    pub decided: Generation,
}

/// Who made a target what it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum TargetOrigin {
    /// The configuration: nobody was asked.
    #[default]
    Configuration,
    /// A run, whose plan was approved or passed the guards.
    Run {
        /// Which.
        run: RunId,
    },
    /// The adoption of a record set.
    Adoption,
}

impl TargetOrigin {
    /// Nobody was asked.
    #[must_use]
    pub const fn is_configuration(&self) -> bool {
        matches!(self, Self::Configuration)
    }
}

impl TrafficState {
    /// Is nothing but the configuration between `live` and this?
    #[must_use]
    pub fn is_unasked_beyond(&self, live: Generation) -> bool {
        self.origin.is_configuration() && self.decided <= live && live < self.generation
    }

    /// The published weight of `region`.
    #[must_use]
    pub fn weight(&self, region: &RegionId) -> Weight {
        self.weights.of(region)
    }

    /// Does `region` carry its full configured share?
    #[must_use]
    pub fn is_full(&self, region: &RegionId) -> bool {
        self.shares.get(region).is_some_and(|s| s.share == Percent::FULL)
    }
}

/// Who did something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Actor {
    /// Drover itself.
    Automatic,
    /// A person.
    Person {
        /// User name.
        name: String,
        /// Host that the command came from.
        host: String,
    },
}

impl std::fmt::Display for Actor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Actor::Automatic => f.pad("drover"),
            Actor::Person { name, .. } => f.pad(name),
        }
    }
}

/// An operator's drain of a region or of one service in it (store key `holds/ID`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Hold {
    /// The run that drained, which names the hold.
    pub run: RunId,
    /// The region.
    pub region: RegionId,
    /// The services that were drained.
    pub services: Vec<ServiceId>,
    /// Who.
    pub by: Actor,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
    /// Until when; absent only when `--no-expiry` was said. When it ends, drover undrains by the usual path, if the guards let it.
    pub expires_at: Option<Timestamp>,
}

/// Automatic action is off (store key `freeze`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Freeze {
    /// Who.
    pub by: Actor,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
    /// Until when; absent only when `--no-expiry` was said.
    pub expires_at: Option<Timestamp>,
}

impl Freeze {
    /// Does it still hold at `now`?
    #[must_use]
    pub fn holds_at(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|t| now < t)
    }
}

/// After an automatic failover, no further one of that class for a while (store key `blocks/SERVICE/CLASS`), ended by `rearm`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Block {
    /// Which service.
    pub service: ServiceId,
    /// Which class of failure.
    pub class: FailureClass,
    /// The run that set it.
    pub run: RunId,
    /// Until when.
    pub until: Timestamp,
}

/// How much a service is asked to carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "source", rename_all = "snake_case")]
pub enum Load {
    /// Measured lately.
    Measured {
        /// The rate over the last metrics interval.
        rate: RequestsPerSecond,
        /// When it was read.
        at: Timestamp,
    },
    /// Declared in the configuration.
    Declared {
        /// `peak_load`.
        rate: RequestsPerSecond,
    },
    /// Neither.
    Unknown,
}

impl Load {
    /// The rate, when there is one.
    #[must_use]
    pub fn rate(self) -> Option<RequestsPerSecond> {
        match self {
            Load::Measured { rate, .. } | Load::Declared { rate } => Some(rate),
            Load::Unknown => None,
        }
    }
}
