//! The configuration of a generated world: three regions that serve two services, and a witness, probed every ten
//! seconds. Policies differ from world to world, within what a user may write.

use fastrand::Rng;

/// The regions that serve.
pub(super) const REGIONS: [&str; 3] = ["ap-south", "eu-west", "us-east"];
/// The services.
pub(super) const SERVICES: [&str; 2] = ["checkout", "catalog"];
/// The vantages.
pub(super) const AGENTS: [&str; 4] = ["ap-south-1", "eu-west-1", "us-east-1", "witness-1"];

const FIXED: &str = "\
kind: Region
name: ap-south
location: {city: Nowhere, latitude: 0, longitude: 0, jurisdiction: IN}
agents: [{name: ap-south-1}]
---
kind: Region
name: eu-west
location: {city: Nowhere, latitude: 0, longitude: 0, jurisdiction: EU}
agents: [{name: eu-west-1}]
---
kind: Region
name: us-east
location: {city: Nowhere, latitude: 0, longitude: 0, jurisdiction: US}
agents: [{name: us-east-1}]
---
kind: Region
name: witness
role: witness
location: {city: Nowhere, latitude: 0, longitude: 0, jurisdiction: CH}
agents: [{name: witness-1}]
---
kind: Settings
listen: 127.0.0.1:7400
dns:
  zone: drover.test
  nameservers: [{name: ns1.drover.test, address: 127.0.0.1}, {name: ns2.drover.test, address: 127.0.0.1}]
  instances: [{name: dns-1, control: 127.0.0.1:7410, query: 127.0.0.1:7453}]
vantage: {references: ['127.0.0.1:8090', '127.0.0.1:8091']}
";

/// One of `all`, each as often as its number says.
pub(super) fn one_of<'a, T: ?Sized>(chance: &mut Rng, all: &[(u32, &'a T)]) -> &'a T {
    let sum: u32 = all.iter().map(|(weight, _)| weight).sum();
    let mut left = chance.u32(..sum);
    for (weight, item) in all {
        match left.checked_sub(*weight) {
            Some(rest) => left = rest,
            None => return item,
        }
    }
    unreachable!("what is left is less than all weights together")
}

/// The configuration as its files have it.
pub(super) fn text(chance: &mut Rng) -> String {
    let mut text = FIXED.to_owned();
    for (priority, name) in (1..).zip(SERVICES) {
        text.push_str(&service(chance, name, priority));
    }
    text
}

fn service(chance: &mut Rng, name: &str, priority: u32) -> String {
    // 300 requests a second on two regions are 150 each, of which a tenth stays free: 160 is too little, 200 is enough for
    // two regions, and 400 for one.
    let capacity = one_of(chance, &[(2, "160rps"), (6, "200rps"), (4, "400rps")]);
    let peak_load = one_of(chance, &[(14, "peak_load: 300rps\n"), (1, "")]);
    let metrics = one_of(chance, &[(14, "metrics: {}\n"), (1, "")]);
    let automatic = one_of(chance, &[(8, "true"), (1, "false")]);
    let returns = one_of(chance, &[(1, "true"), (1, "false")]);
    let block_period = one_of(chance, &[(2, "1h"), (1, "5m")]);
    let unavailable = one_of(chance, &[(3, "1"), (1, "2")]);
    let stable_hold = one_of(chance, &[(1, "1m"), (1, "2m")]);
    let recovery = one_of(chance, &[(1, "3"), (1, "6")]);
    let expires = one_of(chance, &[(1, "2m"), (1, "15m")]);
    let jurisdictions = one_of(chance, &[(14, "[]"), (1, "[EU, US]")]);
    let mut text = format!(
        "---\nkind: Service\nname: {name}\npriority: {priority}\ndns: {{name: {name}.drover.test, ttl: 10s}}\nendpoints:\n"
    );
    for (host, region) in (1..).zip(REGIONS) {
        text.push_str(&format!(
            "  - {{region: {region}, address: 127.0.1.{host}, port: 8081, capacity: {capacity}}}\n"
        ));
    }
    text.push_str(&format!(
        "{peak_load}{metrics}health_check: {{path: /health, interval: 10s, timeout: 3s}}\n\
         app_checks: [{{name: order, path: /order}}]\nvalidation: {{window: 30s, min_samples: 50}}\n\
         failover:\n  automatic: {automatic}\n  failure_window: 2m\n  recovery_threshold: {recovery}\n  \
         max_unavailable_regions: {unavailable}\n  block_period: {block_period}\n  ramp: [50%, 100%]\n  soak: 30s\n  \
         jurisdictions: {jurisdictions}\n  approval_expires: {expires}\n  \
         failback: {{automatic: {returns}, stable_hold: {stable_hold}}}\n"
    ));
    text
}
