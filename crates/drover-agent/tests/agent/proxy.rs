//! The proxy environment is ignored. An environment belongs to a process, so this test runs itself as a child.

use crate::world::{Script, answer, endpoint, http_check, http_spec, probe};
use drover_agent::Identity;
use drover_agent::client::CoordinatorClient;
use std::process::Stdio;
use std::sync::atomic::Ordering;

const CHILD: &str = "DROVER_TEST_PROXY_CHILD";

#[tokio::test]
async fn neither_probes_nor_reports_go_through_a_proxy() {
    if let Ok(address) = std::env::var(CHILD) {
        let address = address.parse().unwrap();
        assert_eq!(probe(http_spec(address, http_check())).await.outcome, Ok(()));
        let url = format!("http://{address}").parse().unwrap();
        let (agent, region) = ("eu-west-1".parse().unwrap(), "eu-west".parse().unwrap());
        let identity = Identity::new(agent, region, vec![], "nowhere".into());
        let client = CoordinatorClient::new(&url, &identity).unwrap();
        // It is no coordinator and its answer no list; what counts is that the request came there.
        client.probes("").await.unwrap_err();
        return;
    }
    let (proxy, at_proxy) = endpoint(Script::Silence).await;
    let (server, at_server) = endpoint(answer("200 OK", "")).await;
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "proxy::neither_probes_nor_reports_go_through_a_proxy"]);
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
        child.env(name, format!("http://{proxy}"));
    }
    child.env_remove("no_proxy").env_remove("NO_PROXY").env(CHILD, server.to_string());
    let status = child.stdout(Stdio::null()).kill_on_drop(true).status().await.unwrap();
    assert!(status.success());
    assert_eq!(at_proxy.accepted.load(Ordering::SeqCst), 0, "something went through the proxy");
    assert_eq!(at_server.accepted.load(Ordering::SeqCst), 2);
}
