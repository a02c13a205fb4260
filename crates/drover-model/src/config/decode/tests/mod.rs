//! The sample world loads; each class of error has its place, words and suggestion; nothing panics.

mod datasets;
mod errors;
mod policies;
mod properties;
mod runbooks;
mod world;

use super::{Loaded, SourceFile, load};

/// Two serving regions, a witness, a service and settings: valid, without a warning, on numbered lines.
pub(super) const BASE: &str = "\
kind: Region
name: eu
location: {city: Dublin, latitude: 53.35, longitude: -6.26, jurisdiction: EU}
agents: [{name: eu-1, source_address: 127.0.11.1}]
---
kind: Region
name: us
location: {city: Ashburn, latitude: 39.04, longitude: -77.49, jurisdiction: US}
agents: [{name: us-1}]
---
kind: Region
name: watch
role: witness
location: {city: Zurich, latitude: 47.37, longitude: 8.54, jurisdiction: CH}
agents: [{name: watch-1}, {name: watch-2}]
---
kind: Service
name: checkout
dns: {name: checkout.drover.test}
endpoints:
  - {region: eu, address: 127.0.11.1, port: 8081, capacity: 250rps}
  - {region: us, address: 127.0.12.1, port: 8081, capacity: 250rps}
health_check: {path: /health}
failover: {automatic: true}
metrics: {}
---
kind: Settings
dns:
  zone: drover.test
  nameservers: [{name: ns1.drover.test, address: 127.0.0.1}]
  instances: [{name: dns-1, control: 127.0.0.1:7410, query: 127.0.0.1:7453}]
vantage: {references: ['127.0.14.1:8090']}
";

/// The files of the shipped sample world.
pub(crate) fn sample_world() -> Vec<SourceFile> {
    vec![
        SourceFile::new("regions/eu-west.yaml", include_str!("../../../../../../regions/eu-west.yaml")),
        SourceFile::new("regions/us-east.yaml", include_str!("../../../../../../regions/us-east.yaml")),
        SourceFile::new("regions/ap-south.yaml", include_str!("../../../../../../regions/ap-south.yaml")),
        SourceFile::new("regions/witness.yaml", include_str!("../../../../../../regions/witness.yaml")),
        SourceFile::new("regions/services.yaml", include_str!("../../../../../../regions/services.yaml")),
        SourceFile::new("regions/settings.yaml", include_str!("../../../../../../regions/settings.yaml")),
    ]
}

/// The shipped runbooks.
pub(crate) fn shipped_runbooks() -> Vec<SourceFile> {
    vec![
        SourceFile::new("runbooks/failover.yaml", include_str!("../../../../../../runbooks/failover.yaml")),
        SourceFile::new("runbooks/failback.yaml", include_str!("../../../../../../runbooks/failback.yaml")),
        SourceFile::new("runbooks/drain.yaml", include_str!("../../../../../../runbooks/drain.yaml")),
        SourceFile::new("runbooks/undrain.yaml", include_str!("../../../../../../runbooks/undrain.yaml")),
    ]
}

/// Loads one text; errors as lines.
pub(super) fn load_text(text: &str) -> Result<Loaded, Vec<String>> {
    load(&[SourceFile::new("c.yaml", text)]).map_err(|e| e.iter().map(ToString::to_string).collect())
}

/// [`BASE`] with each first piece replaced by the second.
pub(super) fn base_with(changes: &[(&str, &str)]) -> String {
    let mut text = BASE.to_owned();
    for (from, to) in changes {
        assert_eq!(text.matches(from).count(), 1, "`{from}` must stand in the base exactly once");
        text = text.replacen(from, to, 1);
    }
    text
}

/// Each case changes the base once; its only error must be the line that is given.
pub(super) fn assert_errors(cases: &[(&str, &str, &str)]) {
    let mut wrong = Vec::new();
    for (from, to, wanted) in cases {
        match load_text(&base_with(&[(from, to)])) {
            Ok(_) => wrong.push(format!("`{to}` was accepted")),
            Err(errors) if errors == [*wanted] => {}
            Err(errors) => wrong.push(format!("`{to}` gave\n  {}\nwanted\n  {wanted}", errors.join("\n  "))),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
