//! What an answer needs of a record set, and no more, so that it lies in one place beside its name's other sets.
//!
//! With 100,000 names no cache has them all, and each place that an answer must look at is another wait for memory.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use smallvec::SmallVec;

use super::{Answering, Data, DnsName, RecordSet, RecordType};

/// A record set as it is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Served {
    rtype: RecordType,
    answering: Answering,
    ttl_seconds: u32,
    weight_total: u32,
    values: Values,
}

/// The values of the set's type. So many lie beside the rest as most services have regions, or as there is room for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Values {
    A(SmallVec<[Share<Ipv4Addr>; 5]>),
    Aaaa(SmallVec<[Share<Ipv6Addr>; 2]>),
    Cname(SmallVec<[Share<DnsName>; 2]>),
    /// Of what no traffic moves, in the order of the members.
    Fixed(Arc<[Data]>),
    /// One at least is an alias, whose answers are its target's: only Route 53 knows them.
    Elsewhere,
}

/// What may be answered, and for which draws: those below its bound that no earlier one took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Share<T> {
    pub(super) below: u16,
    pub(super) value: T,
}

/// A value that is to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Drawn<'a> {
    A(Ipv4Addr),
    Aaaa(Ipv6Addr),
    Cname(&'a DnsName),
    Fixed(&'a Data),
}

impl Served {
    pub(super) const fn new(set: &RecordSet, weight_total: u32, values: Values) -> Self {
        let (rtype, answering, ttl_seconds) = (set.rtype, set.answering, set.ttl_seconds);
        Self { rtype, answering, ttl_seconds, weight_total, values }
    }

    pub(super) const fn answering(&self) -> Answering {
        self.answering
    }

    /// What the member at this place answers. None: there are aliases.
    pub(super) fn at(&self, place: usize) -> Option<Drawn<'_>> {
        match &self.values {
            Values::A(shares) => shares.get(place).map(|share| Drawn::A(share.value)),
            Values::Aaaa(shares) => shares.get(place).map(|share| Drawn::Aaaa(share.value)),
            Values::Cname(shares) => shares.get(place).map(|share| Drawn::Cname(&share.value)),
            Values::Fixed(values) => values.get(place).map(Drawn::Fixed),
            Values::Elsewhere => None,
        }
    }

    pub(crate) const fn rtype(&self) -> RecordType {
        self.rtype
    }

    pub(crate) const fn ttl_seconds(&self) -> u32 {
        self.ttl_seconds
    }

    /// The same, given for another time.
    pub(super) fn with_ttl(&self, ttl_seconds: u32) -> Self {
        Self { ttl_seconds, ..self.clone() }
    }

    /// The value that `draw` falls on: by weight, never one of weight 0. None: there are aliases.
    pub(crate) fn draw(&self, draw: u64) -> Option<Drawn<'_>> {
        let point = point(draw, self.weight_total);
        match &self.values {
            Values::A(shares) => drawn(shares, point).map(|address| Drawn::A(*address)),
            Values::Aaaa(shares) => drawn(shares, point).map(|address| Drawn::Aaaa(*address)),
            Values::Cname(shares) => drawn(shares, point).map(Drawn::Cname),
            // All or none of it are answered.
            Values::Fixed(_) | Values::Elsewhere => None,
        }
    }
}

/// Where a uniform draw falls among weights of this sum. The bias of the multiplication is below 100 × 255 / 2³², six in a million.
pub(super) fn point(draw: u64, weight_total: u32) -> u32 {
    // The product of two numbers of 32 bits, halved, has 32 bits.
    (((draw >> 32) * u64::from(weight_total)) >> 32) as u32
}

fn drawn<T>(shares: &[Share<T>], point: u32) -> Option<&T> {
    shares.iter().find(|share| point < u32::from(share.below)).map(|share| &share.value)
}
