//! A policy beside another, by the values that differ: `--set failure_threshold=5`.

use crate::exit::ExitCode;
use crate::failure::{Failure, Result};
use drover_model::config::decode::{self, SourceFile};
use drover_model::config::diagnostic::suggest;
use drover_model::config::{Config, HealthCheck, Service, encode};
use std::str::FromStr;

/// What may be set, under the names that the configuration has for it. All services get it.
pub const KEYS: [&str; 14] = [
    "automatic",
    "block_period",
    "common_cause_share",
    "common_cause_window",
    "failure_threshold",
    "failure_window",
    "gray_failure_share",
    "gray_min_samples",
    "max_latency",
    "max_unavailable_regions",
    "quorum",
    "recovery_threshold",
    "silent_after",
    "stable_hold",
];

/// The configuration with these values, judged as one that was read from files.
///
/// # Errors
/// When a key or value is wrong, or the values do not go together.
pub fn apply(config: &Config, words: &[String]) -> Result<Config> {
    let mut config = config.clone();
    for word in words {
        let Some((key, value)) = word.split_once('=') else {
            return Err(Failure::usage(format!("--set {word}: there is no `=`"))
                .hint("write the key and its value: --set failure_threshold=5"));
        };
        set(&mut config, key.trim(), value.trim())?;
    }
    let text = SourceFile::new(format!("with {}", words.join(" ")), encode::to_yaml(&config));
    let loaded = decode::load(&[text]).map_err(|found| {
        let mut failure =
            Failure::usage(format!("--set {}: no configuration could have this", words.join(" --set ")));
        // Each service has the value, and says the same of it.
        let mut causes: Vec<String> = vec![];
        for told in found.iter().map(|d| format!("{}{}", d.message, said(d.suggestion.as_ref()))) {
            if !causes.contains(&told) {
                causes.push(told);
            }
        }
        failure.causes = causes;
        failure.hint(
            "give a value that is allowed; where two depend on each other set both, such as --set failure_window=10m \
             with a larger failure_threshold",
        )
    })?;
    Ok(loaded.config)
}

fn said(suggestion: Option<&String>) -> String {
    suggestion.map(|s| format!(" ({s})")).unwrap_or_default()
}

fn set(config: &mut Config, key: &str, value: &str) -> Result<()> {
    let vantage = &mut config.settings.vantage;
    match key {
        "silent_after" => return into(&mut vantage.silent_after, key, value),
        "common_cause_share" => return into(&mut vantage.common_cause_share, key, value),
        "common_cause_window" => return into(&mut vantage.common_cause_window, key, value),
        _ => {}
    }
    if !KEYS.contains(&key) {
        let mut failure = Failure::usage(format!("--set {key}={value}: there is no key `{key}`"));
        failure.hint = suggest(key, KEYS);
        return Err(failure);
    }
    config.services.values_mut().try_for_each(|service| set_service(service, key, value))
}

fn set_service(service: &mut Service, key: &str, value: &str) -> Result<()> {
    let failover = &mut service.failover;
    match key {
        "automatic" => into(&mut failover.automatic, key, value),
        "block_period" => into(&mut failover.block_period, key, value),
        "failure_threshold" => into(&mut failover.failure_threshold, key, value),
        "failure_window" => into(&mut failover.failure_window, key, value),
        "gray_failure_share" => into(&mut failover.gray_failure_share, key, value),
        "gray_min_samples" => into(&mut failover.gray_min_samples, key, value),
        "max_unavailable_regions" => into(&mut failover.max_unavailable_regions, key, value),
        "quorum" => parsed(key, value).map(|n| failover.quorum = Some(n)),
        "recovery_threshold" => into(&mut failover.recovery_threshold, key, value),
        "stable_hold" => into(&mut failover.failback.stable_hold, key, value),
        "max_latency" => parsed(key, value).map(|span| match &mut service.check {
            HealthCheck::Http(check) => check.max_latency = Some(span),
            HealthCheck::Tcp(check) => check.max_latency = Some(span),
        }),
        // `set` knows the rest, and what there is not.
        _ => Err(Failure::new(ExitCode::Internal, format!("--set {key}: it belongs to no service"))),
    }
}

fn into<T: FromStr>(place: &mut T, key: &str, value: &str) -> Result<()>
where
    T::Err: std::fmt::Display,
{
    *place = parsed(key, value)?;
    Ok(())
}

fn parsed<T: FromStr>(key: &str, value: &str) -> Result<T>
where
    T::Err: std::fmt::Display,
{
    value.parse().map_err(|e: T::Err| {
        Failure::usage(format!("--set {key}={value}: {e}")).hint("drover config show says it as it is now")
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use drover_model::{Percent, Span};

    pub(in super::super) fn shipped() -> Config {
        let text = [
            include_str!("../../../../../regions/services.yaml"),
            include_str!("../../../../../regions/settings.yaml"),
            include_str!("../../../../../regions/eu-west.yaml"),
            include_str!("../../../../../regions/us-east.yaml"),
            include_str!("../../../../../regions/ap-south.yaml"),
            include_str!("../../../../../regions/witness.yaml"),
        ]
        .join("\n---\n");
        decode::load(&[SourceFile::new("regions", text)]).unwrap().config
    }

    fn with(words: &[&str]) -> Result<Config> {
        apply(&shipped(), &words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn every_key_sets_what_it_names() {
        let values = ["false", "2h", "34%", "7m", "4", "11m", "33%", "7", "3s", "2", "3", "12", "95s", "20m"];
        let words: Vec<String> = KEYS.iter().zip(values).map(|(k, v)| format!("{k}={v}")).collect();
        let set = apply(&shipped(), &words).unwrap();
        let vantage = &set.settings.vantage;
        assert_eq!(
            (vantage.silent_after, vantage.common_cause_share, vantage.common_cause_window),
            (Span::from_secs(95), Percent::whole(34), Span::from_mins(7))
        );
        for service in set.services.values() {
            let f = &service.failover;
            assert_eq!((f.automatic, f.quorum, f.max_unavailable_regions), (false, Some(3), 2));
            assert_eq!((f.failure_threshold, f.gray_min_samples, f.recovery_threshold), (4, 7, 12));
            assert_eq!(
                (f.block_period, f.failure_window, f.failback.stable_hold),
                (Span::from_hours(2), Span::from_mins(11), Span::from_mins(20))
            );
            assert_eq!(f.gray_failure_share, Percent::whole(33));
            let HealthCheck::Http(check) = &service.check else { panic!("{service:?}") };
            assert_eq!(check.max_latency, Some(Span::from_secs(3)));
        }
    }

    #[test]
    fn what_can_not_be_set_says_so() {
        let told = |words: &[&str]| {
            let failure = with(words).unwrap_err();
            assert_eq!(failure.code, ExitCode::Usage);
            format!("{} {} {}", failure.message, failure.causes.join("; "), failure.hint.unwrap())
        };
        assert!(told(&["failure_treshold=5"]).contains("did you mean `failure_threshold`?"));
        assert!(told(&["failure_window"]).contains("there is no `=`"));
        assert!(told(&["failure_window=10"]).contains("write it with its unit"));
        assert!(
            told(&["failure_threshold=30"]).contains("no configuration could have this"),
            "{}",
            told(&["failure_threshold=30"])
        );
        assert_eq!(with(&["failure_threshold=30", "failure_window=20m"]).unwrap().services.len(), 2);
    }
}
