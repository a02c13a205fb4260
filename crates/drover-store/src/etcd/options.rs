//! Where an etcd cluster is, and how long to wait for it.

use super::failure::OpenEtcdError;
use std::time::Duration;

/// Longest prefix, in bytes. It stands before each key of a transaction up to three times (compare, change, and the
/// read of what a failed compare found), 127 keys each: 24 KiB, which fit into what `TXN_BYTES_MAX` leaves.
pub const ETCD_PREFIX_BYTES_MAX: usize = 64;
/// Most endpoints: etcd's own advice ends at seven members.
pub const ETCD_ENDPOINTS_MAX: usize = 16;

/// How to reach a cluster. [`EtcdOptions::new`] gives waits that outlast an election, which takes up to 2 s where
/// etcd's own settings are untouched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdOptions {
    /// Client URLs of the members, `http://HOST:PORT`.
    pub endpoints: Vec<String>,
    /// What stands before every key of this installation, such as `/drover`. Installations with different prefixes
    /// share a cluster; none may be the beginning of another, up to a slash.
    pub prefix: String,
    /// Longest wait for a connection to one member.
    pub connect_timeout: Duration,
    /// Longest wait for one member's answer; then another one is asked.
    pub attempt_timeout: Duration,
    /// Longest wait for a call with all of its attempts.
    pub call_timeout: Duration,
    /// Wait before the second attempt; doubles with each.
    pub retry_delay_min: Duration,
    /// Longest wait between two attempts.
    pub retry_delay_max: Duration,
    /// A connection on which nothing comes for this long is asked whether it lives, and left when it is silent for
    /// as long again. It is what ends a watch on a member that is cut off. Above 5 s: who asks more often is hung up
    /// on by etcd (`--grpc-keepalive-min-time`).
    pub keep_alive: Duration,
    /// Transactions under way at once; more wait their turn.
    pub in_flight_max: usize,
    /// Opens a store also where another cluster answers than the one in which it was begun: for reading what was
    /// restored from a snapshot, never for going on with it.
    pub accepts_restored: bool,
}

impl EtcdOptions {
    /// The given cluster and prefix, with the waits that drover uses.
    #[must_use]
    pub fn new(endpoints: Vec<String>, prefix: impl Into<String>) -> Self {
        Self {
            endpoints,
            prefix: prefix.into(),
            connect_timeout: Duration::from_secs(1),
            attempt_timeout: Duration::from_secs(2),
            call_timeout: Duration::from_secs(10),
            retry_delay_min: Duration::from_millis(25),
            retry_delay_max: Duration::from_millis(400),
            keep_alive: Duration::from_secs(6),
            in_flight_max: 64,
            accepts_restored: false,
        }
    }

    /// How messages name this store.
    #[must_use]
    pub fn name(&self) -> String {
        format!("etcd {} at {}", self.prefix, self.endpoints.join(", "))
    }

    /// Checks what can be checked without asking.
    ///
    /// # Errors
    /// What can't be used, and what can.
    pub fn validate(&self) -> Result<(), OpenEtcdError> {
        let bad = |what: String| Err(OpenEtcdError::Options { problem: what });
        if self.endpoints.is_empty() || self.endpoints.len() > ETCD_ENDPOINTS_MAX {
            return bad(format!(
                "{} endpoints; give one for each member, at most {ETCD_ENDPOINTS_MAX}",
                self.endpoints.len()
            ));
        }
        for endpoint in &self.endpoints {
            if !endpoint.starts_with("http://") {
                return bad(format!(
                    "endpoint {endpoint:?} is not http://HOST:PORT; TLS to etcd is not supported yet"
                ));
            }
        }
        let shape =
            self.prefix.starts_with('/') && !self.prefix.ends_with('/') && !self.prefix.contains("//");
        if !shape || self.prefix.chars().any(char::is_control) {
            return bad(format!("prefix {:?} is not of the shape /drover or /site/drover", self.prefix));
        }
        if self.prefix.len() > ETCD_PREFIX_BYTES_MAX {
            return bad(format!("prefix {:?} is longer than {ETCD_PREFIX_BYTES_MAX} bytes", self.prefix));
        }
        if self.in_flight_max == 0 {
            return bad("no transaction may be under way: in_flight_max is zero".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_refused_before_anything_is_asked() {
        let good = EtcdOptions::new(vec!["http://127.0.0.1:2379".to_owned()], "/drover");
        assert_eq!(good.validate(), Ok(()));
        let with_endpoints = |endpoints| EtcdOptions { endpoints, ..good.clone() };
        let with_prefix = |prefix: &str| EtcdOptions { prefix: prefix.to_owned(), ..good.clone() };
        let bad = [
            ("0 endpoints", with_endpoints(vec![])),
            ("TLS to etcd", with_endpoints(vec!["https://127.0.0.1:2379".to_owned()])),
            ("prefix", with_prefix("drover")),
            ("prefix", with_prefix("/")),
            ("longer than 64", with_prefix(&format!("/{}", "p".repeat(64)))),
            ("in_flight_max", EtcdOptions { in_flight_max: 0, ..good.clone() }),
        ];
        for (told, options) in bad {
            let error = options.validate().unwrap_err().to_string();
            assert!(error.contains(told), "{told}: {error}");
        }
    }
}
