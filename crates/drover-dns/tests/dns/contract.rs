//! What Route 53 says and moto does not, as AWS documents it, read by the code that reads the real one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use drover_dns::provider::{HostedZone, RecordSets, WantedChecks, WantedPage, WantedRegion};
use drover_model::api::{CheckFound, CheckState};
use drover_model::config::{Route53Dns, ZoneServer};
use drover_model::{RegionId, Span};
use serde::Deserialize;
use std::collections::BTreeSet;

use crate::common::{epoch, name};

const CONTRACT: &str = include_str!("contracts/route53-health-checks.json");

#[derive(Deserialize)]
struct Contract {
    exchanges: Vec<Exchange>,
}

#[derive(Deserialize)]
struct Exchange {
    source: String,
    method: String,
    path: String,
    answers: Vec<Answer>,
}

#[derive(Clone, Deserialize)]
struct Answer {
    status: u16,
    location: Option<String>,
    body: String,
}

/// Answers in the order of the contract, the last one for ever, and keeps what it was sent.
#[derive(Default)]
struct Recorded {
    answers: BTreeMap<String, Vec<Answer>>,
    bodies: Vec<(String, String)>,
    references: Vec<String>,
    unknown: Vec<String>,
}

impl Recorded {
    fn sent(&self, to: &str) -> Vec<&str> {
        self.bodies.iter().filter(|(at, _)| at == to).map(|(_, body)| body.as_str()).collect()
    }
}

async fn answer(State(recorded): State<Arc<Mutex<Recorded>>>, request: Request) -> Response {
    let at = format!("{} {}", request.method(), request.uri().path());
    let bytes = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
    let body = String::from_utf8(bytes.to_vec()).unwrap();
    let mut recorded = recorded.lock().unwrap();
    if let Some(reference) = between(&body, "<CallerReference>", "</CallerReference>") {
        recorded.references.push(reference.to_owned());
    }
    recorded.bodies.push((at.clone(), body));
    let Some(answers) = recorded.answers.get_mut(&at) else {
        recorded.unknown.push(at);
        return StatusCode::NOT_FOUND.into_response();
    };
    let answer = if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() };
    let mut text = answer.body;
    for (number, reference) in recorded.references.iter().enumerate() {
        text = text.replace(&format!("{{{{reference-{}}}}}", number + 1), reference);
    }
    let location = answer.location.map(|location| [("location", location)]);
    (StatusCode::from_u16(answer.status).unwrap(), location.unwrap_or([("x-amzn", "1".into())]), text)
        .into_response()
}

fn between<'t>(text: &'t str, before: &str, after: &str) -> Option<&'t str> {
    Some(text.split_once(before)?.1.split_once(after)?.0)
}

async fn provider(recorded: &Arc<Mutex<Recorded>>, directory: &std::path::Path) -> HostedZone {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Some(format!("http://{}", listener.local_addr().unwrap()));
    let router = Router::new().fallback(answer).with_state(recorded.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let credentials = directory.join("aws");
    std::fs::write(&credentials, "[default]\naws_access_key_id = a\naws_secret_access_key = b\n").unwrap();
    let settings = Route53Dns {
        hosted_zone: "Z1".into(),
        servers: vec![ZoneServer { name: "ns-1".into(), query: ([127, 0, 0, 1], 9).into() }],
        credentials_file: Some(credentials),
        endpoint,
        requests_per_second: 100,
        timeout: Span::from_secs(5),
        in_sync_within: Span::from_secs(5),
        health_checks: None,
    };
    let page = |agent: &str, url: &str| WantedPage { agent: agent.into(), url: url.into() };
    let checks = WantedChecks {
        regions: vec![WantedRegion {
            region: RegionId::new("eu-west").unwrap(),
            text: "drover declares eu-west out of service".into(),
            pages: vec![
                page("us-east-1", "http://192.0.2.7:7412/v1/out-of-service/eu-west"),
                page("witness-1", "https://status.example.org/v1/out-of-service/eu-west"),
            ],
        }],
        interval: Span::from_secs(10),
        failure_threshold: 1,
    };
    HostedZone::with_checks(name("example.test"), settings, Some(checks))
}

#[tokio::test]
async fn health_checks_are_made_and_read_as_aws_documents_them() {
    let contract: Contract = serde_json::from_str(CONTRACT).unwrap();
    assert!(contract.exchanges.iter().all(|e| e.source.starts_with("https://docs.aws.amazon.com/")));
    let keyed = contract.exchanges.into_iter().map(|e| (format!("{} {}", e.method, e.path), e.answers));
    let recorded = Arc::new(Mutex::new(Recorded { answers: keyed.collect(), ..Recorded::default() }));
    let directory = tempfile::tempdir().unwrap();
    let provider = provider(&recorded, directory.path()).await;
    let pass = async || provider.provision(epoch(1), &[], &BTreeSet::new()).await;
    let states = |found: &[CheckFound]| found.iter().map(|c| c.state).collect::<Vec<_>>();
    let waits_for = |found: &[CheckFound]| found[0].sentence.clone().unwrap();

    // Two pages of other people's checks, a reference that was used before, and two checks.
    let first = pass().await.unwrap();
    assert_eq!(states(&first), [CheckState::Waiting; 3], "{first:?}");
    assert!(waits_for(&first).contains("checkers to report"), "{first:?}");
    let second = pass().await.unwrap();
    assert_eq!(states(&second), [CheckState::Waiting, CheckState::InLine, CheckState::InLine], "{second:?}");
    assert!(waits_for(&second).contains("and drover does not"), "a page that says so already: {second:?}");
    // All have reported that nothing is declared, or that nobody answers; and the account is full.
    let full = pass().await.unwrap_err();
    assert!(drover_model::chain(&full).contains("TooManyHealthChecks"), "{full:?}");

    let recorded = recorded.lock().unwrap();
    assert_eq!(recorded.unknown, Vec::<String>::new());
    let (ends, sent) = (
        |n: usize| recorded.references[n].rsplit('-').next().unwrap(),
        recorded.sent("POST /2013-04-01/healthcheck"),
    );
    assert_eq!((ends(0), ends(1), ends(2), ends(3)), ("1", "2", "1", "1"));
    // In the order of the documentation's syntax.
    let expected = "<HealthCheckConfig><IPAddress>192.0.2.7</IPAddress><Port>7412</Port><Type>HTTP_STR_MATCH</Type>\
         <ResourcePath>/v1/out-of-service/eu-west</ResourcePath>\
         <SearchString>drover declares eu-west out of service</SearchString><RequestInterval>10</RequestInterval>\
         <FailureThreshold>1</FailureThreshold><Inverted>true</Inverted></HealthCheckConfig>";
    assert!(sent[1].contains(expected), "{}", sent[1]);
    assert!(
        sent[2].contains("<FullyQualifiedDomainName>status.example.org</FullyQualifiedDomainName>"),
        "{}",
        sent[2]
    );
    assert!(
        sent[2].contains("<Type>HTTPS_STR_MATCH</Type>") && sent[2].contains("<EnableSNI>true</EnableSNI>")
    );
    let parent = "<Type>CALCULATED</Type><HealthThreshold>1</HealthThreshold><ChildHealthChecks>\
         <ChildHealthCheck>02ec8401-9879-4259-91fa-00000000000a</ChildHealthCheck>\
         <ChildHealthCheck>02ec8401-9879-4259-91fa-00000000000b</ChildHealthCheck></ChildHealthChecks>";
    assert!(sent[3].contains(parent), "{}", sent[3]);
    let tags = recorded.sent("POST /2013-04-01/tags/healthcheck/02ec8401-9879-4259-91fa-00000000000a");
    assert!(tags[0].contains("<Key>Name</Key><Value>drover: eu-west by us-east-1</Value>"), "{}", tags[0]);
}
