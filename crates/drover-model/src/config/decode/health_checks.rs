//! Checks of `health_checks`: whose word counts for which region, and whether there are enough of them.

use super::Directory;
use super::sink::Sink;
use crate::config::diagnostic::suggest;
use crate::config::{DECLARING_MIN, HealthChecks, RegionRole};
use crate::ids::{AgentId, RegionId};
use crate::time::Span;

/// The intervals that Route 53's checkers have.
const INTERVALS: [Span; 2] = [Span::from_secs(10), Span::from_secs(30)];

pub(super) fn run(sink: &Sink<'_>, directory: &Directory) {
    let Some(draft) = directory.settings.first() else { return };
    let dns = draft.settings.as_ref().and_then(|s| s.dns.as_ref());
    let Some(checks) = dns.and_then(|dns| dns.route53()?.health_checks.as_ref()) else { return };
    let path = format!("{}/dns/health_checks", draft.path);
    if !INTERVALS.contains(&checks.interval) {
        let message = format!("Route 53's checkers ask every 10s or 30s, not every {}", checks.interval);
        sink.error(sink.place(&format!("{path}/interval")), message, Some("interval: 10s".to_owned()));
    }
    for (number, server) in checks.status_servers.iter().enumerate() {
        let path = format!("{path}/status_servers/{number}");
        if directory.complete && region_of(directory, &server.agent).is_none() {
            let agents = directory.regions.iter().flat_map(|r| &r.agents);
            let names = agents.filter_map(|a| a.name.as_ref()).map(AgentId::as_str);
            let message = format!("agent `{}` is not configured", server.agent);
            let hint = suggest(server.agent.as_str(), names);
            sink.error(sink.place(&format!("{path}/agent")), message, hint);
        }
        if host_of(&server.url).is_none() {
            let message = format!("`{}` has more than scheme, host and port, or less", server.url);
            let hint = Some("such as http://192.0.2.7:7412".to_owned());
            sink.error(sink.place(&format!("{path}/url")), message, hint);
        }
    }
    if directory.complete {
        enough(sink, directory, checks, &path);
    }
}

/// A region with fewer servers outside of it can't be left by its health check.
fn enough(sink: &Sink<'_>, directory: &Directory, checks: &HealthChecks, path: &str) {
    let serving = directory.regions.iter().filter(|r| r.role == Some(RegionRole::Serving));
    for region in serving.filter_map(|r| r.name.as_ref()) {
        let elsewhere = |agent: &AgentId| region_of(directory, agent).is_some_and(|at| at != region);
        let outside = checks.status_servers.iter().filter(|s| elsewhere(&s.agent)).count();
        if outside < DECLARING_MIN {
            let message = format!(
                "{outside} status server(s) stand outside of `{region}`, and {DECLARING_MIN} must agree: to leave it needs \
                 Route 53's API in us-east-1"
            );
            let hint = "let an agent of another region, or of a witness, serve status pages".to_owned();
            sink.warn(sink.place(&format!("{path}/status_servers")), message, Some(hint));
        }
    }
}

fn region_of<'d>(directory: &'d Directory, agent: &AgentId) -> Option<&'d RegionId> {
    let has_it = |r: &&super::region::Draft| r.agents.iter().any(|a| a.name.as_ref() == Some(agent));
    directory.regions.iter().find(has_it)?.name.as_ref()
}

/// Host and port, where there is nothing else.
fn host_of(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))?;
    (!rest.is_empty() && !rest.contains(['/', '?', '#', '@'])).then_some(rest)
}

#[cfg(test)]
mod tests {
    use crate::config::decode::{self, SourceFile};

    /// The sample world in a hosted zone, with these status servers and this more.
    fn found(servers: &[(&str, &str)], more: &str) -> Vec<String> {
        let servers: Vec<String> =
            servers.iter().map(|(agent, url)| format!("{{agent: {agent}, url: '{url}'}}")).collect();
        let text = format!(
            "kind: Settings\ndns:\n  kind: route53\n  zone: drover.test\n  hosted_zone: Z1\n  servers: [{{name: ns1, query: \
             192.0.2.1:53}}]\n  health_checks:\n    status_servers: [{}]\n{more}",
            servers.join(", ")
        );
        let files: Vec<SourceFile> = [
            include_str!("../../../../../regions/eu-west.yaml"),
            include_str!("../../../../../regions/us-east.yaml"),
            include_str!("../../../../../regions/ap-south.yaml"),
            include_str!("../../../../../regions/witness.yaml"),
            include_str!("../../../../../regions/services.yaml"),
            &text,
        ]
        .iter()
        .enumerate()
        .map(|(n, text)| SourceFile::new(format!("{n}.yaml"), *text))
        .collect();
        let told = match decode::load(&files) {
            Ok(loaded) => loaded.warnings,
            Err(diagnostics) => diagnostics,
        };
        told.into_iter().map(|d| d.message).filter(|m| !m.contains("references")).collect()
    }

    const EU: (&str, &str) = ("eu-west-1", "http://192.0.2.1:7412");
    const US: (&str, &str) = ("us-east-1", "http://192.0.2.2:7412");
    const AP: (&str, &str) = ("ap-south-1", "http://192.0.2.3:7412");

    #[test]
    fn two_servers_must_stand_outside_of_each_region() {
        assert_eq!(found(&[EU, US, AP], ""), Vec::<String>::new());
        let few = found(&[EU, US], "");
        assert_eq!(few.len(), 2, "{few:?}");
        assert!(few[0].contains("1 status server(s) stand outside of `eu-west`"), "{few:?}");
    }

    #[test]
    fn what_could_not_work_is_refused() {
        let is_refused = |told: Vec<String>, words: &str| {
            assert!(told.iter().any(|m| m.contains(words)), "{told:?} does not say {words:?}");
        };
        is_refused(
            found(&[EU, US, ("nobody", "http://192.0.2.9:1")], ""),
            "agent `nobody` is not configured",
        );
        is_refused(found(&[EU, US, ("ap-south-1", "http://192.0.2.9:1/status")], ""), "more than scheme");
        is_refused(found(&[EU, US, AP], "    interval: 15s\n"), "every 10s or 30s");
        is_refused(found(&[EU, EU, AP], ""), "eu-west-1");
        is_refused(found(&[EU, US, AP], "    failure_threshold: 11\n"), "11");
    }
}
