//! A hosted zone of Route 53 (moto, with the real one's rules for changes) and PowerDNS as its name server.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use aws_sdk_route53::Client;
use aws_sdk_route53::types::{Change, ChangeAction, ChangeBatch, ResourceRecord, ResourceRecordSet, RrType};
use drover_dns::provider::{HostedZone, WantedChecks};
use drover_model::Span;
use drover_model::config::{Route53Dns, ZoneServer};
use serde::Deserialize;
use tempfile::TempDir;

use crate::common::{http, name};
use crate::servers::{free_port, powerdns, until_it_answers};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/servers/route53.py");
/// Where `tests/setup` puts it.
const PYTHON: &str = ".cache/drover-tests/moto-5.2.5/bin/python";

/// A request that the API was sent.
#[derive(Debug, Deserialize)]
pub struct Asked {
    /// Seconds of a clock that never jumps.
    pub at: f64,
    pub method: String,
    pub path: String,
    pub changes: usize,
}

impl Asked {
    pub fn is_reading(&self) -> bool {
        self.method == "GET" && self.path.ends_with("/rrset")
    }
}

/// A health check, and what the checkers found.
#[derive(Debug, Clone, Deserialize)]
pub struct Checked {
    pub id: String,
    pub reference: String,
    pub config: serde_json::Value,
    pub healthy: bool,
    pub tags: BTreeMap<String, String>,
}

/// A running zone; its processes end with this value.
pub struct Hosted {
    api: Child,
    name_server: Child,
    pub endpoint: SocketAddr,
    pub dns: SocketAddr,
    hosted_zone: String,
    directory: TempDir,
}

impl Hosted {
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// With more of the script's options.
    pub async fn start_with(options: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let python = Path::new(&std::env::var_os("HOME").unwrap_or_else(|| "/root".into())).join(PYTHON);
        let mut api = Command::new(&python)
            .args([SCRIPT, "--zone", "example.test", "--while-stdin", "--powerdns"])
            .arg(directory.path().join("pdns.db"))
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("{}: {e}; install it: bash tests/setup", python.display()));
        let mut ready = String::new();
        BufReader::new(api.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        let words: Vec<&str> = ready.split_whitespace().collect();
        let ["ready", port, hosted_zone] = words.as_slice() else { panic!("moto did not start: {ready:?}") };
        let dns = free_port();
        let name_server = name_server(directory.path(), dns);
        let endpoint = SocketAddr::from(([127, 0, 0, 1], port.parse().unwrap()));
        let hosted_zone = (*hosted_zone).to_owned();
        std::fs::write(
            directory.path().join("aws"),
            "[default]\naws_access_key_id = a\naws_secret_access_key = b\n",
        )
        .unwrap();
        let hosted = Self { api, name_server, endpoint, dns, hosted_zone, directory };
        until_it_answers(dns).await;
        hosted
    }

    pub fn settings(&self) -> Route53Dns {
        Route53Dns {
            hosted_zone: self.hosted_zone.clone(),
            servers: vec![ZoneServer { name: "ns-1".into(), query: self.dns }],
            credentials_file: Some(self.directory.path().join("aws")),
            endpoint: Some(format!("http://{}", self.endpoint)),
            // The pace has tests of its own.
            requests_per_second: 100,
            timeout: Span::from_secs(5),
            in_sync_within: Span::from_secs(10),
            health_checks: None,
        }
    }

    pub fn provider(&self) -> HostedZone {
        self.provider_with(|_| {})
    }

    pub fn provider_with(&self, change: impl FnOnce(&mut Route53Dns)) -> HostedZone {
        let mut settings = self.settings();
        change(&mut settings);
        HostedZone::new(name("example.test"), settings)
    }

    /// How often it shall do what moto never does; see the script.
    pub async fn knobs(&self, knobs: &str) {
        assert_eq!(http(self.endpoint, "POST", "/drover/knobs", knobs).await.0, 200);
    }

    /// What the API was asked so far.
    pub async fn log(&self) -> Vec<Asked> {
        serde_json::from_str(&http(self.endpoint, "GET", "/drover/log", "").await.1).unwrap()
    }

    /// A provider whose records follow checks of these pages.
    pub fn checked(&self, checks: WantedChecks) -> HostedZone {
        HostedZone::with_checks(name("example.test"), self.settings(), Some(checks))
    }

    /// The health checks as Route 53 has them.
    pub async fn checks(&self) -> Vec<Checked> {
        serde_json::from_str(&http(self.endpoint, "GET", "/drover/checks", "").await.1).unwrap()
    }

    pub fn end_name_server(&mut self) {
        self.name_server.kill().unwrap();
        self.name_server.wait().unwrap();
    }

    pub fn end_api(&mut self) {
        self.api.kill().unwrap();
        self.api.wait().unwrap();
    }

    pub fn client(&self) -> Client {
        let config = aws_sdk_route53::Config::builder()
            .behavior_version(aws_config::BehaviorVersion::latest())
            .region(aws_config::Region::new("us-east-1"))
            .credentials_provider(aws_credential_types::Credentials::new("a", "b", None, None, "test"))
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .endpoint_url(format!("http://{}", self.endpoint));
        Client::from_conf(config.build())
    }

    /// What stands at a name, as the API lists it.
    pub async fn sets(&self, at: &str, rtype: RrType) -> Vec<ResourceRecordSet> {
        let listed =
            self.client().list_resource_record_sets().hosted_zone_id(&self.hosted_zone).send().await.unwrap();
        let is_there =
            |set: &ResourceRecordSet| set.name().trim_end_matches('.') == at && *set.r#type() == rtype;
        listed.resource_record_sets.into_iter().filter(is_there).collect()
    }

    /// Somebody with a console.
    pub async fn by_hand(&self, action: ChangeAction, set: ResourceRecordSet) {
        let change = Change::builder().action(action).resource_record_set(set).build().unwrap();
        let batch = ChangeBatch::builder().changes(change).build().unwrap();
        let changing = self.client().change_resource_record_sets().hosted_zone_id(&self.hosted_zone);
        changing.change_batch(batch).send().await.unwrap();
    }
}

/// A record set of one value, as a console makes it.
pub fn plain(at: &str, rtype: RrType, value: &str) -> ResourceRecordSet {
    let record = ResourceRecord::builder().value(value).build().unwrap();
    ResourceRecordSet::builder().name(at).r#type(rtype).ttl(60).resource_records(record).build().unwrap()
}

fn name_server(directory: &Path, address: SocketAddr) -> Child {
    let config = powerdns(directory, address.port(), "enable-lua-records=yes\n");
    std::fs::write(directory.join("pdns.conf"), config).unwrap();
    let mut command = Command::new("/usr/sbin/pdns_server");
    command.arg(format!("--config-dir={}", directory.display())).args(["--daemon=no", "--guardian=no"]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap_or_else(|e| panic!("pdns_server: {e}; install it: bash tests/setup"))
}

impl Drop for Hosted {
    fn drop(&mut self) {
        for child in [&mut self.api, &mut self.name_server] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
