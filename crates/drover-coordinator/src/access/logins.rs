//! Failed logins are counted, by address and all together.
//!
//! What protects a token is its 256 random bits, not this: nobody guesses one however often they try. So a valid token
//! always opens, also from an address from which others fail; else whoever floods a shared address would lock out the
//! operator beside him. What is over the limit is answered by 429 and leaves no trace but a count.

use drover_model::{Span, Timestamp};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

/// Failed logins from one address in [`FAILED_LOGINS_WINDOW`].
pub const FAILED_LOGINS_PER_ADDRESS: u32 = 10;
/// Failed logins from everywhere in [`FAILED_LOGINS_WINDOW`].
pub const FAILED_LOGINS_MAX: u32 = 100;
/// The time over which they are counted.
pub const FAILED_LOGINS_WINDOW: Span = Span::from_mins(1);
/// Addresses that are counted apart; what comes from others counts in the sum alone.
const ADDRESSES_MAX: usize = 1_024;

/// How often something happened since.
#[derive(Debug, Clone, Copy)]
struct Window {
    began: Timestamp,
    count: u32,
}

impl Window {
    fn ends(self) -> Timestamp {
        self.began + FAILED_LOGINS_WINDOW
    }
}

#[derive(Debug, Default)]
struct Counts {
    all: Option<Window>,
    by_address: BTreeMap<IpAddr, Window>,
}

/// The failed logins of late.
#[derive(Debug, Default)]
pub(crate) struct FailedLogins(Mutex<Counts>);

/// One more; gives the window as it is then.
fn count(held: Option<Window>, now: Timestamp) -> Window {
    match held.filter(|window| now < window.ends()) {
        Some(window) => Window { count: window.count.saturating_add(1), ..window },
        None => Window { began: now, count: 1 },
    }
}

impl FailedLogins {
    /// One more from `address`; none is the socket's. `Err` is how long until another one is taken as such.
    pub(crate) fn failed(&self, address: Option<IpAddr>, now: Timestamp) -> Result<(), Span> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all = count(counts.all, now);
        counts.all = Some(all);
        let own = address.and_then(|address| counts.of(address, now));
        let over = [(Some(all), FAILED_LOGINS_MAX), (own, FAILED_LOGINS_PER_ADDRESS)];
        let until =
            over.into_iter().filter_map(|(window, max)| window.filter(|w| w.count > max)).map(Window::ends);
        until.max().map_or(Ok(()), |end| Err(end.since(now)))
    }
}

impl Counts {
    fn of(&mut self, address: IpAddr, now: Timestamp) -> Option<Window> {
        if self.by_address.len() >= ADDRESSES_MAX && !self.by_address.contains_key(&address) {
            self.by_address.retain(|_, window| now < window.ends());
            if self.by_address.len() >= ADDRESSES_MAX {
                return None;
            }
        }
        let window = count(self.by_address.get(&address).copied(), now);
        self.by_address.insert(address, window);
        Some(window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbed::at_secs;
    use std::net::Ipv4Addr;

    fn address(n: u32) -> Option<IpAddr> {
        Some(IpAddr::V4(Ipv4Addr::from(n)))
    }

    #[test]
    fn one_address_has_its_limit_and_all_have_theirs() {
        let logins = FailedLogins::default();
        for _ in 0..FAILED_LOGINS_PER_ADDRESS {
            assert_eq!(logins.failed(address(1), at_secs(0)), Ok(()));
        }
        assert_eq!(logins.failed(address(1), at_secs(20)), Err(Span::from_secs(40)));
        assert_eq!(logins.failed(address(2), at_secs(20)), Ok(()), "another one is not meant");
        assert_eq!(logins.failed(address(1), at_secs(60)), Ok(()), "its minute is over");
        let mut taken = 0;
        while logins.failed(address(1_000 + taken), at_secs(61)).is_ok() {
            taken += 1;
        }
        assert_eq!(taken + 1, FAILED_LOGINS_MAX, "with the one of before");
        assert!(logins.failed(None, at_secs(62)).is_err());
    }

    #[test]
    fn what_is_remembered_of_addresses_is_bounded() {
        let logins = FailedLogins::default();
        let addresses = u32::try_from(ADDRESSES_MAX).unwrap();
        for n in 0..addresses + 50 {
            let _ = logins.failed(address(n), at_secs(0));
        }
        assert_eq!(logins.0.lock().unwrap().by_address.len(), ADDRESSES_MAX);
        let _ = logins.failed(address(addresses + 50), at_secs(60));
        assert_eq!(logins.0.lock().unwrap().by_address.len(), 1);
    }
}
