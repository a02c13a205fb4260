//! No text makes the decoder panic, and what the encoder writes is always read back as it was.

use super::{BASE, load_text, sample_world, shipped_runbooks};
use crate::config::decode::{SourceFile, load, load_runbooks};
use crate::config::encode::to_yaml;
use crate::config::{Config, HealthCheck, HttpCheck, TlsOptions, defaults, scale};
use crate::time::Span;
use crate::units::{Percent, RequestsPerSecond};
use proptest::prelude::*;

/// Pieces that mean something in a file, to get deeper than random bytes do.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("---\n".to_owned()),
        Just("kind: Service\n".to_owned()),
        Just(": ".to_owned()),
        Just("&a ".to_owned()),
        Just("*a".to_owned()),
        Just("{".to_owned()),
        Just("]".to_owned()),
        Just("- ".to_owned()),
        Just("~".to_owned()),
        Just("99999999999999999999".to_owned()),
        Just("é\u{feff}\r\n\t".to_owned()),
        "[ -~]{0,6}",
        any::<char>().prop_map(String::from),
    ]
}

fn mutate(text: &str, edits: &[(prop::sample::Index, usize, String)]) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for (at, cut, insert) in edits {
        let at = at.index(chars.len() + 1);
        let end = (at + cut).min(chars.len());
        chars.splice(at..end, insert.chars());
    }
    chars.into_iter().collect()
}

fn edits() -> impl Strategy<Value = Vec<(prop::sample::Index, usize, String)>> {
    prop::collection::vec((any::<prop::sample::Index>(), 0usize..30, piece()), 1..6)
}

/// Whatever is found lies in the text, so that an editor can show it.
fn assert_places(text: &str, diagnostics: &[crate::config::diagnostic::Diagnostic]) {
    for d in diagnostics {
        assert!(d.line >= 1 && d.column >= 1 && d.length >= 1, "{d:?}");
        assert!(text.is_char_boundary(d.offset), "{d:?}");
        assert!(d.offset == text.len() || text.is_char_boundary(d.offset + d.length), "{d:?}");
        assert!(!d.message.is_empty());
    }
}

fn try_both(text: String) {
    let file = [SourceFile::new("f.yaml", text.clone())];
    match load(&file) {
        Ok(loaded) => assert_places(&text, &loaded.warnings),
        Err(errors) => {
            assert!(!errors.is_empty(), "refused without a reason");
            assert_places(&text, &errors);
        }
    }
    if let Err(errors) = load_runbooks(&file) {
        assert!(!errors.is_empty(), "refused without a reason");
        assert_places(&text, &errors);
    }
}

/// A valid configuration that differs from the sample in everything that is free to differ.
fn config() -> impl Strategy<Value = Config> {
    let texts = ("[ -~\t\n]{1,40}", "\\PC{1,20}");
    let numbers = (1u32..20, 100u64..100_000, 1u64..10_000_000, 0u32..9_999, any::<u8>(), any::<bool>());
    let places = (-90.0f64..90.0, -180.0f64..180.0);
    (texts, numbers, places).prop_map(
        |((body, city), (threshold, interval, soak, points, weight, tls), (lat, lon))| {
            let mut config = load(&sample_world()).unwrap().config;
            for region in config.regions.values_mut() {
                region.location.city.clone_from(&city);
                (region.location.latitude, region.location.longitude) = (lat, lon);
            }
            for service in config.services.values_mut() {
                service.interval = Span::from_millis(interval);
                service.timeout = Span::from_millis((interval / 3).max(100));
                service.failover.failure_threshold = threshold;
                service.failover.failure_window =
                    service.failover.failure_window_min(service.interval).times(2);
                service.failover.soak = Span::from_millis(soak);
                service.failover.headroom = Percent::from_basis_points(points);
                service.peak_load = (weight > 9).then_some(RequestsPerSecond(soak));
                service.endpoints.values_mut().for_each(|e| e.weight = Some(weight.max(1)));
                service.app_checks.iter_mut().for_each(|c| c.body = Some(body.clone()));
                let expiry_warning = if tls { defaults::EXPIRY_WARNING } else { Span::ZERO };
                let ca_file = tls.then(|| "ca.pem".into());
                service.check = HealthCheck::Http(HttpCheck {
                    tls,
                    path: "/h".into(),
                    expect_status: vec![200, 204],
                    expect_body: Some(body.clone()),
                    max_latency: (weight > 99).then_some(service.timeout),
                    host: None,
                    tls_options: TlsOptions { ca_file, expiry_warning, ..TlsOptions::default() },
                    secret_header: tls.then(|| ("X-Key".into(), "key".into())),
                });
            }
            config.settings.paging.on_page = Some(vec![body.clone(), city]);
            config
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_text_never_panics(text in "\\PC{0,200}") {
        try_both(text);
    }

    #[test]
    fn mutated_configurations_never_panic(edits in edits()) {
        try_both(mutate(BASE, &edits));
    }

    #[test]
    fn mutated_samples_never_panic(edits in edits(), which in 0usize..10) {
        let files: Vec<SourceFile> = sample_world().into_iter().chain(shipped_runbooks()).collect();
        try_both(mutate(&files[which].text, &edits));
    }

    #[test]
    fn what_is_written_is_read_back(config in config(), factor in 1u64..5_000) {
        let text = to_yaml(&config);
        prop_assert_eq!(load_text(&text).unwrap().config, config.clone());
        let fast = scale(&config, factor);
        let text = to_yaml(&fast);
        prop_assert_eq!(load_text(&text).unwrap().config, fast);
    }
}
