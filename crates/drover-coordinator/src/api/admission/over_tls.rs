//! A coordinator behind TLS, asked by machines of every kind.

use crate::testbed::{Bed, GUARD, certificate_of, code_of, person, send_by};
use axum::http::Method;
use drover_model::Span;
use drover_pki::authority::{Authority, Wanted};
use drover_pki::{ServerTls, TlsFiles, client_config};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const AGENT: &str = "drover://agent/eu-west/eu-west-1";

/// A coordinator and the authority that everybody's certificate is of.
struct Site {
    bed: Bed,
    api: SocketAddr,
    server: TlsFiles,
    dir: tempfile::TempDir,
}

impl Site {
    async fn new() -> Self {
        Self::of(Bed::new().await).await
    }

    async fn with(edit: impl FnOnce(&mut drover_model::config::Config)) -> Self {
        Self::of(Bed::with(edit).await).await
    }

    async fn of(bed: Bed) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Authority::init(&dir.path().join("pki"), "test", Span::from_hours(24)).unwrap();
        let server = certificate_of(dir.path(), "drover://coordinator/c-1");
        let api = bed.serve_tls(ServerTls::load(server.clone()).unwrap()).await;
        Self { bed, api, server, dir }
    }

    fn client(&self, machine: &str) -> reqwest::Client {
        let tls = client_config(&certificate_of(self.dir.path(), machine)).unwrap();
        reqwest::Client::builder().no_proxy().tls_backend_preconfigured(tls).build().unwrap()
    }

    async fn send(
        &self,
        by: &reqwest::Client,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> (u16, String, String) {
        let body = body.map(|body| serde_json::to_vec(&body).unwrap());
        send_by(by, method, &format!("https://{}{path}", self.api), body).await
    }

    fn revoke(&self, machine: &str) {
        let pki = self.dir.path().join("pki");
        let mut authority = Authority::open(&pki).unwrap();
        authority.revoke(&machine.parse().unwrap(), None, "test").unwrap();
        std::fs::copy(authority.crl(), self.server.crl.as_ref().unwrap()).unwrap();
    }
}

fn report(agent: &str) -> Value {
    json!({
        "schema": 1, "agent": agent, "boot": "b", "boot_number": 1, "sent_at": "2026-11-27T00:00:00Z",
        "config_version": "any", "observations": [], "opinions": [], "dropped": 0,
        "self_check": {"references_reached": 2, "references": 2, "blind": false},
    })
}

#[tokio::test]
async fn an_agent_reports_as_itself_and_nothing_else() {
    let site = Site::new().await;
    let agent = site.client(AGENT);
    let own = "/v1/agents/eu-west-1/reports";
    assert_eq!(site.send(&agent, Method::POST, own, Some(report("eu-west-1"))).await.0, 200);
    assert_eq!(site.send(&agent, Method::GET, "/v1/agents/eu-west-1/probes", None).await.0, 200);
    assert_eq!(site.send(&agent, Method::GET, "/livez", None).await.0, 200);

    let other = "/v1/agents/us-east-1/reports";
    let answer = site.send(&agent, Method::POST, other, Some(report("us-east-1"))).await;
    assert_eq!(code_of(&answer, 403), "not_its_own");
    let answer = site.send(&agent, Method::POST, own, Some(report("us-east-1"))).await;
    assert_eq!(code_of(&answer, 422), "wrong_agent", "and not as another on its own path");
    let command = json!({"by": person(), "reason": "r", "until": null, "scope": null});
    for (method, path) in
        [(Method::POST, "/v1/freeze"), (Method::GET, "/v1/status"), (Method::GET, "/metrics")]
    {
        let answer = site.send(&agent, method, path, Some(command.clone())).await;
        assert_eq!(code_of(&answer, 403), "not_its_own", "{path}");
        assert!(answer.2.contains("drover pki issue client"), "the next command: {}", answer.2);
    }

    let moved = site.client("drover://agent/us-east/eu-west-1");
    let answer = site.send(&moved, Method::POST, own, Some(report("eu-west-1"))).await;
    assert_eq!(code_of(&answer, 403), "wrong_region");

    let ann = site.client("drover://client/ann");
    assert_eq!(site.send(&ann, Method::GET, "/v1/status", None).await.0, 200);
    let answer = site.send(&ann, Method::POST, own, Some(report("eu-west-1"))).await;
    assert_eq!(code_of(&answer, 403), "not_an_agent");

    // On record once each, however often it was tried.
    let audit = site.send(&ann, Method::GET, "/v1/audit", None).await;
    let audit: Value = serde_json::from_str(&audit.2).unwrap();
    let refused = audit["items"].as_array().unwrap().iter().filter(|line| line["verb"] == "refuse");
    let mut who: Vec<&str> = refused.map(|line| line["subject"].as_str().unwrap()).collect();
    who.sort_unstable();
    assert_eq!(who, [AGENT, "drover://agent/us-east/eu-west-1", "drover://client/ann"]);
}

#[tokio::test]
async fn a_revoked_agent_is_refused_on_the_connection_that_it_has() {
    let site = Site::new().await;
    let (agent, other) = (site.client(AGENT), site.client("drover://agent/us-east/us-east-1"));
    let path = "/v1/agents/eu-west-1/probes";
    assert_eq!(site.send(&agent, Method::GET, path, None).await.0, 200);
    site.revoke(AGENT);
    let refused = async {
        loop {
            let answer = site.send(&agent, Method::GET, path, None).await;
            if answer.0 != 200 {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let answer = tokio::time::timeout(GUARD, refused).await.unwrap();
    assert_eq!(code_of(&answer, 403), "certificate_lapsed");
    // That answer closed the connection, and there is no other.
    let again = agent.get(format!("https://{}{path}", site.api)).send().await;
    assert!(again.is_err(), "{again:?}");
    assert_eq!(site.send(&other, Method::GET, "/v1/agents/us-east-1/probes", None).await.0, 200);
}

#[tokio::test]
async fn who_shows_no_certificate_or_speaks_plainly_is_not_heard() {
    let site = Site::new().await;
    let plain = reqwest::Client::builder().no_proxy().build().unwrap();
    assert!(plain.get(format!("http://{}/livez", site.api)).send().await.is_err());
    let ca = std::fs::read(&site.server.ca).unwrap();
    let nobody = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only(reqwest::Certificate::from_pem_bundle(&ca).unwrap())
        .build()
        .unwrap();
    assert!(nobody.get(format!("https://{}/livez", site.api)).send().await.is_err());
    let ann = site.client("drover://client/ann");
    assert_eq!(site.send(&ann, Method::GET, "/livez", None).await.0, 200, "and others are");
    // The socket is as before: who may use it is what its file says.
    let socket = site.bed.dir.path().join("drover.sock");
    let local = reqwest::Client::builder().no_proxy().unix_socket(socket.as_path()).build().unwrap();
    let answer = local.get("http://localhost/v1/status").send().await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn beyond_loopback_nothing_is_said_in_plain_text() {
    let site = Site::new().await;
    let socket = site.dir.path().join("other.sock");
    let anywhere = ([0, 0, 0, 0], 0).into();
    let refused = crate::listen::bind(anywhere, &socket, None).await.unwrap_err();
    assert!(refused.to_string().contains("plain text"), "{refused}");
    let tls = ServerTls::load(site.server.clone()).unwrap();
    crate::listen::bind(anywhere, &socket, Some(tls)).await.unwrap();
}

/// A request whose body never ends: it is at work for as long as it is let.
async fn slow(site: &Site, files: &TlsFiles) -> tokio_rustls::client::TlsStream<tokio::net::TcpStream> {
    let tls = client_config(files).unwrap();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(tls));
    let stream = tokio::net::TcpStream::connect(site.api).await.unwrap();
    let name = rustls::pki_types::ServerName::from(site.api.ip());
    let mut stream = connector.connect(name, stream).await.unwrap();
    let head = "POST /v1/agents/eu-west-1/reports HTTP/1.1\r\nhost: c-1\r\ncontent-type: application/json\r\n\
                content-length: 1000\r\nexpect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    // Once it is told to go on, the handler reads.
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 100");
    stream
}

#[tokio::test]
async fn one_agent_with_slow_bodies_takes_no_place_from_another() {
    let site = Site::with(|c| c.settings.access.connections_per_machine = 4).await;
    let files = certificate_of(site.dir.path(), AGENT);
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(slow(&site, &files).await);
    }
    let path = "/v1/agents/eu-west-1/probes";
    // Each on a connection of its own.
    let agent = || {
        let tls = client_config(&files).unwrap();
        reqwest::Client::builder().no_proxy().tls_backend_preconfigured(tls).build().unwrap()
    };
    let refused = site.send(&agent(), Method::GET, path, None).await;
    assert_eq!(code_of(&refused, 429), "too_many_connections");
    for word in [AGENT, "has 4 connections", "connections_per_machine"] {
        assert!(refused.2.contains(word), "{word}: {}", refused.2);
    }
    let other = site.client("drover://agent/us-east/us-east-1");
    let own = "/v1/agents/us-east-1/reports";
    assert_eq!(site.send(&other, Method::POST, own, Some(report("us-east-1"))).await.0, 200);
    let ann = site.client("drover://client/ann");
    let metrics = site.send(&ann, Method::GET, "/metrics", None).await.2;
    assert!(metrics.contains("drover_connections_refused{} 1"), "{metrics}");
    // One that ends makes room, without anything else.
    drop(held.pop());
    let again = async {
        while site.send(&agent(), Method::GET, path, None).await.0 != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(GUARD, again).await.unwrap();
}

#[tokio::test]
async fn a_certificate_that_ends_soon_is_told_before_its_agent_falls_silent() {
    let site = Site::new().await;
    // Of seven minutes, five of them before it was made, two are left.
    let wanted = Wanted { identity: AGENT.parse().unwrap(), hosts: Vec::new(), lifetime: Span::from_mins(2) };
    let out = site.dir.path().join("short");
    Authority::open(&site.dir.path().join("pki")).unwrap().issue(&wanted, &out).unwrap();
    let tls = client_config(&TlsFiles::in_directory(&out)).unwrap();
    let agent = reqwest::Client::builder().no_proxy().tls_backend_preconfigured(tls).build().unwrap();
    let others = site.client("drover://client/ann");
    assert_eq!(site.send(&others, Method::GET, "/livez", None).await.0, 200);
    assert_eq!(site.send(&agent, Method::GET, "/v1/agents/eu-west-1/probes", None).await.0, 200);
    let view = site.bed.c.status_view();
    let told: Vec<_> = view.attention.iter().filter(|a| a.code == "machine_certificate_ending").collect();
    assert_eq!(told.len(), 1, "{told:?}");
    let next = told[0].next.as_ref().unwrap();
    assert!(told[0].sentence.contains(AGENT), "{told:?}");
    assert!(next.contains("drover pki rotate") && next.contains("drover pki join"), "{next}");
}
