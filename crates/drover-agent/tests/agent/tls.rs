//! Whom a TLS probe trusts, whom it shows itself to, and what it learns of the certificate.

use crate::world::{Seen, answer, assert_failed, converse, endpoint, http_check, http_spec, probe, target};
use drover_agent::probe::Prober;
use drover_model::config::HttpCheck;
use drover_model::probe::FailureKind;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::crypto::ring;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::PrivateKeyDer;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // A name of its own, so that a stranger is unknown rather than a forger.
        params.distinguished_name.push(DnType::CommonName, format!("authority {:x}", fastrand::u64(..)));
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    fn file(&self, dir: &tempfile::TempDir) -> PathBuf {
        let path = dir.path().join(format!("ca-{:x}.pem", fastrand::u64(..)));
        std::fs::write(&path, self.certificate.pem()).unwrap();
        path
    }

    fn issue(&self, name: &str, last_year: i32) -> (rcgen::Certificate, KeyPair) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(last_year, 1, 1);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    async fn endpoint(&self, name: &str, last_year: i32, clients: Option<&Authority>) -> SocketAddr {
        let (certificate, key) = self.issue(name, last_year);
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.certificate.der().clone()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = builder.with_single_cert(vec![certificate.der().clone()], key).unwrap();
        serve(config).await
    }
}

async fn serve(config: ServerConfig) -> SocketAddr {
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, peer)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    converse(&mut stream, peer, answer("200 OK", "fine"), &Seen::default()).await;
                }
            });
        }
    });
    address
}

fn tls_check(ca_file: Option<PathBuf>) -> HttpCheck {
    let mut check = http_check();
    check.tls = true;
    check.tls_options.ca_file = ca_file;
    check
}

#[tokio::test]
async fn a_trusted_certificate_is_good_and_its_end_is_told() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let address = authority.endpoint("shop.example", 2040, None).await;
    let result = probe(http_spec(address, tls_check(Some(authority.file(&dir))))).await;
    assert_eq!((result.outcome, result.status), (Ok(()), Some(200)));
    assert_eq!(result.certificate_expires_at.unwrap().to_string(), "2040-01-01T00:00:00.000Z");
}

/// With session resumption the second handshake would show no certificate.
#[tokio::test]
async fn every_probe_sees_the_certificate_anew() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let address = authority.endpoint("shop.example", 2040, None).await;
    let prober = Prober::default();
    let target = target(http_spec(address, tls_check(Some(authority.file(&dir)))), None);
    for _ in 0..3 {
        assert!(prober.probe(&target).await.certificate_expires_at.is_some());
    }
}

#[tokio::test]
async fn what_cannot_be_trusted_is_a_tls_failure() {
    let (dir, authority, stranger) = (tempfile::tempdir().unwrap(), Authority::new(), Authority::new());
    let ca = authority.file(&dir);
    for (address, words) in [
        (stranger.endpoint("shop.example", 2040, None).await, "UnknownIssuer"),
        (authority.endpoint("bank.example", 2040, None).await, "not valid for name"),
        (authority.endpoint("shop.example", 2021, None).await, "expired"),
    ] {
        let result = probe(http_spec(address, tls_check(Some(ca.clone())))).await;
        assert_failed(&result, FailureKind::Tls, words);
    }
}

#[tokio::test]
async fn the_system_roots_do_not_trust_a_private_authority() {
    let address = Authority::new().endpoint("shop.example", 2040, None).await;
    let result = probe(http_spec(address, tls_check(None))).await;
    let failure = result.outcome.unwrap_err();
    // A machine without any root has nobody to trust at all, which is its own trouble.
    assert!(matches!(failure.kind, FailureKind::Tls | FailureKind::Local), "{failure:?}");
}

#[tokio::test]
async fn the_server_name_can_be_overridden() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let address = authority.endpoint("internal.example", 2040, None).await;
    let mut check = tls_check(Some(authority.file(&dir)));
    check.tls_options.sni = Some("internal.example".to_owned());
    assert_eq!(probe(http_spec(address, check)).await.outcome, Ok(()));
}

#[tokio::test]
async fn a_client_certificate_is_presented_where_it_is_demanded() {
    let (dir, authority, clients) = (tempfile::tempdir().unwrap(), Authority::new(), Authority::new());
    let address = authority.endpoint("shop.example", 2040, Some(&clients)).await;
    let mut check = tls_check(Some(authority.file(&dir)));
    let refused = probe(http_spec(address, check.clone())).await;
    assert_failed(&refused, FailureKind::Tls, "CertificateRequired");
    let (certificate, key) = clients.issue("agent.example", 2040);
    let (certificate_file, key_file) = (dir.path().join("agent.pem"), dir.path().join("agent.key"));
    std::fs::write(&certificate_file, certificate.pem()).unwrap();
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    check.tls_options.client_certificate_file = Some(certificate_file);
    check.tls_options.client_key_file = Some(key_file);
    assert_eq!(probe(http_spec(address, check)).await.outcome, Ok(()));
}

#[tokio::test]
async fn a_file_that_is_missing_or_no_certificate_is_the_agents_own_fault() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let address = authority.endpoint("shop.example", 2040, None).await;
    let garbage = dir.path().join("garbage.pem");
    std::fs::write(&garbage, "no certificate").unwrap();
    for path in [garbage, dir.path().join("missing.pem")] {
        let result = probe(http_spec(address, tls_check(Some(path)))).await;
        assert_failed(&result, FailureKind::Local, ".pem");
    }
    let mut check = tls_check(Some(authority.file(&dir)));
    check.tls_options.client_certificate_file = Some(authority.file(&dir));
    assert_failed(&probe(http_spec(address, check)).await, FailureKind::Local, "needs its key");
}

/// A renewed authority is taken over without a restart.
#[tokio::test]
async fn a_changed_bundle_is_read_again() {
    let (dir, old, new) = (tempfile::tempdir().unwrap(), Authority::new(), Authority::new());
    let ca = old.file(&dir);
    let address = new.endpoint("shop.example", 2040, None).await;
    let prober = Prober::default();
    let target = target(http_spec(address, tls_check(Some(ca.clone()))), None);
    assert_failed(&prober.probe(&target).await, FailureKind::Tls, "invalid peer certificate");
    std::fs::write(&ca, new.certificate.pem()).unwrap();
    let trusted = async {
        while prober.probe(&target).await.outcome.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(crate::world::HANG_GUARD, trusted).await.expect("the new bundle is used");
}

#[tokio::test]
async fn speaking_tls_to_a_plain_server_is_a_tls_failure() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            use tokio::io::AsyncWriteExt as _;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            std::future::pending::<()>().await;
        }
    });
    let result = probe(http_spec(address, tls_check(Some(authority.file(&dir))))).await;
    assert_failed(&result, FailureKind::Tls, "");
    let (plain, _) = endpoint(answer("200 OK", "")).await;
    assert!(probe(http_spec(plain, http_check())).await.outcome.is_ok());
}
