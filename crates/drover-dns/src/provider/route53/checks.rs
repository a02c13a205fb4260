//! What Route 53's health checks should be, and how one that is there compares. Pure.
//!
//! Unknown is not down. A check of a page is *inverted*: it is unhealthy while the page positively declares the region out of service, and
//! healthy while the page says anything else, or nobody answers. A region's records follow a *calculated* check, which is healthy while
//! all but one of those are: it takes two pages to leave the region, and one that lies or is dead neither takes it out nor keeps it in.
//!
//! The hard case is a check that is new. Route 53 takes it for healthy until its checkers have reported, so an inverted one is unhealthy
//! until then: it counts only once they have. A check's interval and kind can't be changed, so whatever is changed of one makes another.

use aws_sdk_route53::types::{HealthCheck, HealthCheckConfig, HealthCheckType};
use drover_model::config::{DECLARING_MIN, version_of};
use drover_model::{RegionId, Span};
use hyper::Uri;

use crate::provider::health_checks::{WantedChecks, WantedPage, WantedRegion};

/// Every reference of drover's begins so.
const HEAD: &str = "drover";
/// Deleted checks keep their reference for some days, and then another one is made under the next number.
pub(super) const REFERENCES_MAX: u32 = 20;
/// Hexadecimal digits of a configuration's digest in a reference: 64 characters is all that one may have.
const DIGEST_CHARS: usize = 8;

/// Whose a check is: the zone, and what it is for. Part of the reference that it was made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Role {
    zone: String,
    role: String,
}

impl Role {
    /// Of the check that a region's records follow.
    pub(super) fn of_region(hosted_zone: &str, region: &RegionId) -> Self {
        Self { zone: version_of(&hosted_zone), role: version_of(&(region, "region")) }
    }

    /// Of the check of one page.
    pub(super) fn of_page(hosted_zone: &str, region: &RegionId, page: &WantedPage) -> Self {
        Self { zone: version_of(&hosted_zone), role: version_of(&(region, "page", &page.agent)) }
    }

    /// A reference of this role; `number` counts those that can't be used any more.
    pub(super) fn reference(&self, digest: &str, number: u32) -> String {
        format!("{HEAD}-{}-{}-{digest}-{number}", self.zone, self.role)
    }

    pub(super) fn has(&self, check: &HealthCheck) -> bool {
        check.caller_reference().starts_with(&format!("{HEAD}-{}-{}-", self.zone, self.role))
    }

    /// Is it of this role, and was it made as it should be now?
    pub(super) fn has_now(&self, check: &HealthCheck, digest: &str) -> bool {
        check.caller_reference().starts_with(&format!("{HEAD}-{}-{}-{digest}-", self.zone, self.role))
    }
}

/// Is a check one of drover's for this zone?
pub(super) fn is_of_zone(check: &HealthCheck, hosted_zone: &str) -> bool {
    check.caller_reference().starts_with(&format!("{HEAD}-{}-", version_of(&hosted_zone)))
}

/// A check of one page.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PageCheck {
    pub(super) config: HealthCheckConfig,
    /// By which a check that was made with other settings is told apart.
    pub(super) digest: String,
}

impl PageCheck {
    /// The error is why the page can't be checked.
    pub(super) fn of(
        checks: &WantedChecks,
        region: &WantedRegion,
        page: &WantedPage,
    ) -> Result<Self, String> {
        let uri: Uri = page.url.parse().map_err(|e| format!("{} is no address: {e}", page.url))?;
        let (Some(scheme), Some(host)) = (uri.scheme_str(), uri.host()) else {
            return Err(format!("{} has no host", page.url));
        };
        let is_tls = scheme == "https";
        let port = i32::from(uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 }));
        let interval = seconds(checks.interval);
        let threshold = i32::try_from(checks.failure_threshold).unwrap_or(i32::MAX);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let kind = if is_tls { HealthCheckType::HttpsStrMatch } else { HealthCheckType::HttpStrMatch };
        let mut config = HealthCheckConfig::builder()
            .r#type(kind.clone())
            .port(port)
            .resource_path(uri.path())
            .search_string(&region.text)
            .request_interval(interval)
            .failure_threshold(threshold)
            .inverted(true);
        // A certificate is not looked at, but a server may ask for the name.
        if is_tls {
            config = config.enable_sni(true);
        }
        let is_address = host.parse::<std::net::IpAddr>().is_ok();
        config = if is_address { config.ip_address(host) } else { config.fully_qualified_domain_name(host) };
        let said = (kind.as_str(), host, port, uri.path(), &region.text, interval, threshold);
        let digest = version_of(&said).chars().take(DIGEST_CHARS).collect();
        Ok(Self { config: config.build().map_err(|e| e.to_string())?, digest })
    }

    /// What a hand has changed of it; nothing: it is as it was made.
    pub(super) fn changed(&self, found: &HealthCheck) -> Option<String> {
        let (wanted, Some(found)) = (&self.config, found.health_check_config()) else {
            return Some("it has no settings".to_owned());
        };
        changed_kind(wanted, found).or_else(|| {
            let differs = [
                ("the address", wanted.ip_address() != found.ip_address()),
                ("the host", wanted.fully_qualified_domain_name() != found.fully_qualified_domain_name()),
                ("the port", wanted.port() != found.port()),
                ("the path", wanted.resource_path() != found.resource_path()),
                ("the text", wanted.search_string() != found.search_string()),
                ("the interval", wanted.request_interval() != found.request_interval()),
                ("the threshold", wanted.failure_threshold() != found.failure_threshold()),
            ];
            let named: Vec<&str> =
                differs.iter().filter(|(_, differs)| *differs).map(|(what, _)| *what).collect();
            (!named.is_empty()).then(|| format!("{} was changed", named.join(", ")))
        })
    }
}

/// A check that counts those of the pages.
pub(super) fn region_check(pages: &[String]) -> Result<HealthCheckConfig, String> {
    let config = HealthCheckConfig::builder()
        .r#type(HealthCheckType::Calculated)
        .health_threshold(healthy_min(pages.len()))
        .set_child_health_checks(Some(pages.to_vec()));
    config.build().map_err(|e| e.to_string())
}

/// The digest in the reference of a region's check, of which nothing is fixed: it is brought to whatever pages there are, so that records
/// follow the same one for ever.
pub(super) const REGION_DIGEST: &str = "region00";

/// So many of the checks of pages must be healthy: fewer only when two or more declare the region out of service.
pub(super) fn healthy_min(pages: usize) -> i32 {
    i32::try_from((pages + 1).saturating_sub(DECLARING_MIN)).unwrap_or(i32::MAX)
}

/// What a hand has changed of a region's check that drover does not bring back, since nobody knows what for.
pub(super) fn changed_region(found: &HealthCheck) -> Option<String> {
    let (Ok(wanted), Some(found)) = (region_check(&[]), found.health_check_config()) else {
        return Some("it has no settings".to_owned());
    };
    changed_kind(&wanted, found)
}

/// Does it count just these?
pub(super) fn counts(found: &HealthCheck, pages: &[String]) -> bool {
    let Some(found) = found.health_check_config() else { return false };
    let sorted = |ids: &[String]| {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids
    };
    found.health_threshold() == Some(healthy_min(pages.len()))
        && sorted(found.child_health_checks()) == sorted(pages)
}

/// Kind, inversion, and whether it is on: any of these turned around turns around what the check says.
fn changed_kind(wanted: &HealthCheckConfig, found: &HealthCheckConfig) -> Option<String> {
    let said = |flag: Option<bool>| flag.unwrap_or(false);
    if wanted.r#type() != found.r#type() {
        return Some(format!("it is of type {} now", found.r#type()));
    }
    if said(wanted.inverted()) != said(found.inverted()) {
        let now = if said(found.inverted()) { "inverted" } else { "not inverted" };
        return Some(format!("it is {now} now"));
    }
    said(found.disabled()).then(|| {
        // Route 53 takes a check that is disabled for healthy, and inverts that.
        let counts =
            if said(wanted.inverted()) { "it counts as a page that declares" } else { "nothing leaves" };
        format!("it is disabled: {counts} the region, whatever is said")
    })
}

fn seconds(span: Span) -> i32 {
    i32::try_from(span.as_millis() / 1_000).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(url: &str) -> (WantedChecks, WantedRegion, WantedPage) {
        let region = WantedRegion {
            region: RegionId::new("eu-west").unwrap(),
            text: "drover declares eu-west out of service".into(),
            pages: vec![],
        };
        let checks = WantedChecks { regions: vec![], interval: Span::from_secs(10), failure_threshold: 1 };
        (checks, region, WantedPage { agent: "us-east-1".into(), url: url.into() })
    }

    fn check(url: &str) -> PageCheck {
        let (checks, region, page) = wanted(url);
        PageCheck::of(&checks, &region, &page).unwrap()
    }

    #[test]
    fn a_check_is_inverted_and_looks_for_the_words() {
        let one = check("http://192.0.2.7:7412/v1/out-of-service/eu-west").config;
        assert_eq!(
            (one.ip_address(), one.port(), one.inverted()),
            (Some("192.0.2.7"), Some(7412), Some(true))
        );
        assert_eq!(one.resource_path(), Some("/v1/out-of-service/eu-west"));
        assert_eq!(one.r#type(), &HealthCheckType::HttpStrMatch);
        let six = check("https://[2001:db8::7]/v1/x").config;
        assert_eq!((six.ip_address(), six.port()), (Some("2001:db8::7"), Some(443)));
        let named = check("https://status.example.org/v1/x").config;
        assert_eq!(named.fully_qualified_domain_name(), Some("status.example.org"));
        assert_eq!((named.r#type(), named.enable_sni()), (&HealthCheckType::HttpsStrMatch, Some(true)));
        let (checks, region, page) = wanted("/v1/x");
        assert!(PageCheck::of(&checks, &region, &page).unwrap_err().contains("no host"));
    }

    #[test]
    fn two_of_however_many_pages_take_a_region_out() {
        for (pages, healthy) in [(2, 1), (3, 2), (4, 3), (16, 15)] {
            assert_eq!(healthy_min(pages), healthy, "{pages}");
        }
    }

    #[test]
    fn a_reference_says_zone_role_and_settings_within_its_64_characters() {
        let (_, region, page) = wanted("http://192.0.2.7/");
        let role = Role::of_page("Z1", &region.region, &page);
        let made = role.reference("0123abcd", REFERENCES_MAX);
        assert!(made.len() <= 64, "{made} has {}", made.len());
        let of = |reference: String| {
            HealthCheck::builder()
                .id("x")
                .caller_reference(reference)
                .health_check_version(1)
                .build()
                .unwrap()
        };
        let found = of(made);
        assert!(role.has(&found) && role.has_now(&found, "0123abcd") && !role.has_now(&found, "4567abcd"));
        assert!(is_of_zone(&found, "Z1") && !is_of_zone(&found, "Z2"));
        assert!(!Role::of_region("Z1", &region.region).has(&found));
        assert!(!is_of_zone(&of("somebody-else".into()), "Z1"));
    }

    #[test]
    fn what_a_hand_changed_is_told_in_words() {
        let made = check("http://192.0.2.7:7412/v1/x");
        let told = |edit: &dyn Fn(&mut HealthCheckConfig)| {
            let mut config = made.config.clone();
            edit(&mut config);
            let found = HealthCheck::builder().id("x").caller_reference("r").health_check_version(1);
            made.changed(&found.health_check_config(config).build().unwrap())
        };
        assert_eq!(told(&|_| {}), None);
        assert!(told(&|c| c.disabled = Some(true)).unwrap().contains("declares the region"));
        assert!(told(&|c| c.inverted = Some(false)).unwrap().contains("not inverted"));
        assert!(told(&|c| c.port = Some(80)).unwrap().contains("the port was changed"));
        assert!(told(&|c| c.search_string = None).unwrap().contains("the text"));
        assert!(told(&|c| c.r#type = HealthCheckType::Tcp).unwrap().contains("TCP"));
    }
}
