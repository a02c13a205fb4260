//! Response-rate limiting: so that nobody uses this server to flood a third party whose address he forges.
//!
//! The intuition: forged questions come from one network (the victim's) and are alike, because what is large or easy to
//! multiply is worth repeating. So answers are counted by client network and by what they say. Who is over the limit gets
//! every second answer empty and marked as truncated: a real resolver asks again over TCP, which can't be forged; a victim gets
//! less than was sent in his name. Who shows a valid cookie has proven his address and is not counted.
//!
//! Whoever knows many names could ask for each of them: so a network has a limit on all of its answers, too, ten times as wide.
//!
//! The table has a fixed size. Whoever comes to a place that another heavy one has, shares its limit; once that one is idle, the place
//! is his.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use siphasher::sip::SipHasher13;
use std::hash::Hasher;

use crate::answer::AnswerKind;
use crate::zone::network;

/// Places of the table; 512 KiB.
const PLACES: usize = 65_536;
/// So many answers a second are microseconds apart at least.
const ANSWERS_PER_SECOND_MAX: u32 = 100_000;

/// What to do with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Send it.
    Send,
    /// Too much: send it empty, marked as truncated, or as it is where it is small.
    Hint,
    /// Too much: send nothing.
    Drop,
}

/// So many times as many answers of all kinds as of one.
const ALL_KINDS: u64 = 10;

/// The answers that networks were given lately.
#[derive(Debug)]
pub(super) struct RateLimit {
    /// Until when what was given is paid for, in microseconds since the start.
    places: Vec<AtomicU64>,
    /// Between two like answers to one network, on average.
    interval_micros: u64,
    /// How far ahead of that a network may be.
    burst_micros: u64,
    key: (u64, u64),
    began: Instant,
}

impl RateLimit {
    /// Of so many like answers a second to one network, and as many at once.
    pub(super) fn new(answers_per_second: u32, key: (u64, u64)) -> Self {
        let burst_micros = Duration::from_secs(1).as_micros() as u64;
        Self {
            places: (0..PLACES).map(|_| AtomicU64::new(0)).collect(),
            interval_micros: burst_micros / u64::from(answers_per_second.clamp(1, ANSWERS_PER_SECOND_MAX)),
            burst_micros,
            key,
            began: Instant::now(),
        }
    }

    /// Judges one answer, and counts it. `draw` decides which of those above the limit are sent empty.
    pub(super) fn judge(&self, client: IpAddr, kind: AnswerKind, name: &[u8], draw: u64) -> Verdict {
        self.judge_at(self.began.elapsed().as_micros() as u64, client, kind, name, draw)
    }

    fn judge_at(&self, now: u64, client: IpAddr, kind: AnswerKind, name: &[u8], draw: u64) -> Verdict {
        let of_kind = self.is_within(now, self.hash(client, Some(kind), name), self.interval_micros);
        let of_all = || self.is_within(now, self.hash(client, None, &[]), self.interval_micros / ALL_KINDS);
        match of_kind && of_all() {
            true => Verdict::Send,
            false if draw & 1 == 0 => Verdict::Hint,
            false => Verdict::Drop,
        }
    }

    /// The generic cell rate algorithm: an answer is paid for when the account, which each answer moves on by the interval, is
    /// not further ahead of the clock than the burst.
    fn is_within(&self, now: u64, hash: u64, interval_micros: u64) -> bool {
        let Some(place) = self.places.get(hash as usize % PLACES) else { return true };
        let mut standing = place.load(Ordering::Relaxed);
        loop {
            // An account that is behind the clock is nobody's any more; one that is ahead counts for all who share it.
            let from = standing.max(now);
            if from > now + self.burst_micros {
                return false;
            }
            let next = from + interval_micros;
            match place.compare_exchange_weak(standing, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(other) => standing = other,
            }
        }
    }

    fn hash(&self, client: IpAddr, kind: Option<AnswerKind>, name: &[u8]) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.key.0, self.key.1);
        hasher.write_u64(network(client));
        match kind {
            Some(AnswerKind::OfName) => hasher.write(name),
            Some(AnswerKind::NoSuchName) => hasher.write_u8(1),
            Some(AnswerKind::Refusal) => hasher.write_u8(2),
            None => hasher.write_u8(3),
        }
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    const SECOND: u64 = 1_000_000;

    fn client(last: u8) -> IpAddr {
        Ipv4Addr::new(198, 51, 100, last).into()
    }

    /// Answers that are sent of `count` in one moment.
    fn sent(limit: &RateLimit, now: u64, client: IpAddr, name: &str, count: u64) -> usize {
        let of = |n| limit.judge_at(now, client, AnswerKind::OfName, name.as_bytes(), n);
        (0..count).filter(|n| of(*n) == Verdict::Send).count()
    }

    #[test]
    fn a_network_gets_so_many_like_answers_a_second_and_no_other_pays_for_it() {
        let limit = RateLimit::new(10, (1, 2));
        let now = 5 * SECOND;
        // The first, and a second's worth ahead.
        assert_eq!(sent(&limit, now, client(1), "a", 50), 11);
        assert_eq!(sent(&limit, now, client(200), "a", 50), 0, "of the same network");
        assert_eq!(sent(&limit, now, Ipv4Addr::new(198, 51, 101, 1).into(), "a", 5), 5);
        assert_eq!(sent(&limit, now, client(1), "b", 5), 5, "other answers");
        let absent = |n: u64| limit.judge_at(now, client(1), AnswerKind::NoSuchName, &n.to_be_bytes(), n);
        let served = (0..50).filter(|n| absent(*n) == Verdict::Send).count();
        assert_eq!(served, 11, "names that are not there are alike");
        assert_eq!(sent(&limit, now + SECOND, client(1), "a", 50), 10);
        let six = |low: u128| IpAddr::from(Ipv6Addr::from((0x2001_0db8 << 96) | low));
        assert_eq!(sent(&limit, now, six(1), "a", 50), 11);
        assert_eq!(sent(&limit, now, six(1 << 71), "a", 50), 0, "of the same /56");
    }

    #[test]
    fn many_names_for_one_network_have_a_limit_together() {
        let limit = RateLimit::new(10, (1, 2));
        let served = (0..500_u64).filter(|n| {
            limit.judge_at(0, client(1), AnswerKind::OfName, &n.to_be_bytes(), 1) == Verdict::Send
        });
        assert_eq!(served.count(), 101);
    }

    #[test]
    fn above_the_limit_every_second_answer_is_a_hint_to_come_by_tcp() {
        let limit = RateLimit::new(1, (1, 2));
        let _ = sent(&limit, 0, client(1), "a", 10);
        let verdicts: Vec<_> =
            (0..4).map(|draw| limit.judge_at(0, client(1), AnswerKind::OfName, b"a", draw)).collect();
        assert_eq!(verdicts, [Verdict::Hint, Verdict::Drop, Verdict::Hint, Verdict::Drop]);
    }

    #[test]
    fn a_place_goes_to_whoever_comes_once_it_is_idle() {
        let limit = RateLimit::new(10, (3, 4));
        // More networks than places: most meet an idle one.
        let networks = (0..200_000_u32).map(|n| IpAddr::from(Ipv4Addr::from(n << 8)));
        let served = networks.enumerate().filter(|(n, network)| {
            limit.judge_at(*n as u64 * SECOND, *network, AnswerKind::OfName, b"a", 1) == Verdict::Send
        });
        assert_eq!(served.count(), 200_000);
    }
}
