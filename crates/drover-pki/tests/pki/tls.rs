//! Who is let in, who is not, and what changes while they are connected.

use crate::shop::{LIFE, Shop};
use drover_pki::{
    NoHandshake, NotAMachine, Presented, ServerTls, TlsFiles, client_config, machine_config, pem,
};
use rcgen::{ExtendedKeyUsagePurpose, SanType, date_time_ymd};
use rustls::ClientConfig;
use rustls::crypto::ring;
use rustls::version::TLS13;
use rustls_pki_types::ServerName;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio_rustls::TlsConnector;
use tokio_rustls::server::TlsStream;

/// Hang guard.
const GUARD: Duration = Duration::from_secs(60);
/// Room for a handshake's messages.
const PIPE_BYTES: usize = 64 << 10;

/// A connection: what the server made of it, and what the client was told.
struct Met {
    server: std::io::Result<(TlsStream<DuplexStream>, Presented)>,
    client: std::io::Result<()>,
}

impl Met {
    fn presented(self) -> Presented {
        self.server.unwrap().1
    }

    /// Both sides' words where they did not come together.
    fn refusal(self) -> String {
        match (self.server, self.client) {
            (Err(server), client) => format!("{server}; {client:?}"),
            (Ok(_), Err(client)) => client.to_string(),
            (Ok(_), Ok(())) => panic!("they were let in"),
        }
    }
}

async fn meet(server: &ServerTls, client: &TlsFiles) -> Met {
    meet_with(server, client_config(client).unwrap()).await
}

async fn meet_with(server: &ServerTls, client: ClientConfig) -> Met {
    let (here, there) = duplex(PIPE_BYTES);
    let connector = TlsConnector::from(Arc::new(client));
    let connecting = async {
        let mut stream = connector.connect(ServerName::try_from("localhost").unwrap(), there).await?;
        // In TLS 1.3 a server's refusal comes after the client's handshake: only what is read then tells.
        stream.read_exact(&mut [0; 1]).await.map(drop)
    };
    let accepting = async {
        let (mut stream, presented) = server.accept(here).await?;
        stream.write_all(b"!").await?;
        stream.flush().await?;
        Ok::<_, std::io::Error>((stream, presented))
    };
    let both = async { tokio::join!(accepting, connecting) };
    let (server, client) = tokio::time::timeout(GUARD, both).await.unwrap();
    Met { server, client }
}

#[tokio::test]
async fn whoever_has_a_certificate_is_let_in_as_who_it_says() {
    let shop = Shop::new();
    let server = ServerTls::load(shop.issue("drover://coordinator/c-1")).unwrap();
    for machine in ["drover://agent/eu-west/eu-west-1", "drover://client/ann", "drover://coordinator/c-2"] {
        let presented = meet(&server, &shop.issue(machine)).await.presented();
        assert_eq!(presented.machine.as_ref().unwrap().identity.to_string(), machine);
        server.still_admits(&presented).unwrap();
    }
}

#[tokio::test]
async fn whoever_has_none_that_counts_is_not() {
    let (shop, stranger) = (Shop::new(), Shop::new());
    let server = ServerTls::load(shop.issue("drover://coordinator/c-1")).unwrap();
    let name = "drover://agent/eu-west/eu-west-1";
    let expired = shop.forge("expired", &[name], |p| p.not_after = date_time_ymd(2021, 1, 1));
    let early = shop.forge("early", &[name], |p| p.not_before = date_time_ymd(2039, 1, 1));
    let serves_only =
        shop.forge("server", &[name], |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    // Their own certificate, but trust in our authority, so that the server is who refuses.
    let foreign = TlsFiles { ca: shop.pki().join("ca.pem"), crl: None, ..stranger.issue(name) };
    for (files, words) in [
        (expired, "Expired"),
        (early, "not valid yet"),
        (serves_only, "extended key usage"),
        (foreign, "UnknownIssuer"),
    ] {
        let refusal = meet(&server, &files).await.refusal();
        assert!(refusal.to_lowercase().contains(&words.to_lowercase()), "{words}: {refusal}");
    }
    let nobody = {
        let ca = std::fs::read(shop.pki().join("ca.pem")).unwrap();
        let roots = pem::roots(pem::certificates(&ca).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_protocol_versions(&[&TLS13]).unwrap();
        builder.with_root_certificates(roots).with_no_client_auth()
    };
    let refusal = meet_with(&server, nobody).await.refusal();
    assert!(refusal.contains("sent no certificates"), "{refusal}");
}

#[tokio::test]
async fn a_certificate_that_names_no_machine_or_two_is_nobodys() {
    let shop = Shop::new();
    let server = ServerTls::load(shop.issue("drover://coordinator/c-1")).unwrap();
    let none = shop.forge("none", &[], |p| {
        p.subject_alt_names.push(SanType::DnsName("drover.example".try_into().unwrap()));
    });
    let two = shop.forge("two", &["drover://client/ann", "drover://client/ben"], |_| {});
    let odd = shop.forge("odd", &["drover://client/ann/.."], |_| {});
    assert_eq!(meet(&server, &none).await.presented().machine.unwrap_err(), NotAMachine::Nameless);
    assert_eq!(meet(&server, &two).await.presented().machine.unwrap_err(), NotAMachine::Several);
    let odd = meet(&server, &odd).await.presented().machine.unwrap_err();
    assert!(matches!(odd, NotAMachine::Name(_)), "{odd}");
}

#[tokio::test]
async fn who_serves_must_be_a_coordinator_under_the_name_that_was_called() {
    let shop = Shop::new();
    let agent = shop.issue("drover://agent/eu-west/eu-west-1");
    let why = ServerTls::load(agent.clone()).unwrap_err();
    assert!(why.to_string().contains("a coordinator's is needed"), "{why}");
    // It would start, and clients refuse it.
    let impostor = shop.forge("impostor", &["drover://coordinator/c-9"], |p| {
        p.subject_alt_names.push(SanType::DnsName("localhost".try_into().unwrap()));
    });
    let server = ServerTls::load(impostor).unwrap();
    let refusal = meet(&server, &agent).await.refusal();
    assert!(refusal.to_lowercase().contains("certificate"), "a client's key does not serve: {refusal}");
    let elsewhere = shop.forge("elsewhere", &["drover://coordinator/c-8"], |p| {
        p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        p.subject_alt_names.push(SanType::DnsName("other.example".try_into().unwrap()));
    });
    let refusal = meet(&ServerTls::load(elsewhere).unwrap(), &agent).await.refusal();
    assert!(refusal.to_lowercase().contains("certificate"), "another's name: {refusal}");
}

/// Waits until files that changed were looked at: a second at most.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(GUARD, waiting).await.is_ok(), "never came: {what}");
}

#[tokio::test]
async fn what_is_revoked_ends_also_on_a_connection_that_is_open() {
    let shop = Shop::new();
    let files = shop.issue("drover://coordinator/c-1");
    let server = ServerTls::load(files.clone()).unwrap();
    let (ann, ben) = (shop.issue("drover://client/ann"), shop.issue("drover://client/ben"));
    let (anns, bens) = (meet(&server, &ann).await.presented(), meet(&server, &ben).await.presented());
    server.still_admits(&anns).unwrap();
    shop.authority().revoke(&"drover://client/ann".parse().unwrap(), None, "lost").unwrap();
    std::fs::copy(shop.pki().join("crl.pem"), files.crl.as_ref().unwrap()).unwrap();
    until("ann is refused", async || server.still_admits(&anns).is_err()).await;
    assert!(server.still_admits(&anns).is_err(), "and stays so");
    server.still_admits(&bens).unwrap();
    let refusal = meet(&server, &ann).await.refusal();
    assert!(refusal.contains("Revoked"), "{refusal}");
    meet(&server, &ben).await.presented();

    // A list that lost its content is no list that revokes nobody.
    std::fs::write(files.crl.as_ref().unwrap(), "").unwrap();
    let why = ServerTls::load(files).unwrap_err();
    assert!(why.to_string().contains("no revocation list"), "{why}");
}

#[tokio::test]
async fn a_server_is_renewed_without_a_restart_and_an_authority_replaced() {
    let (shop, next) = (Shop::new(), Shop::new());
    let files = shop.issue("drover://coordinator/c-1");
    let server = ServerTls::load(files.clone()).unwrap();
    let ann = shop.issue("drover://client/ann");
    let before = meet(&server, &ann).await.presented();
    shop.authority().rotate(files.key.parent().unwrap(), LIFE).unwrap();
    let serial = drover_pki::machine_in(&files.certificate).unwrap().serial;
    until("the new certificate is shown", async || serial_of(&server, &ann).await == serial).await;
    server.still_admits(&before).unwrap();

    // First both are trusted, everywhere; then machines get theirs of the next one; then the old one goes.
    let text = |file: &std::path::Path| std::fs::read_to_string(file).unwrap();
    let both = |name: &str| text(&shop.pki().join(name)) + &text(&next.pki().join(name));
    std::fs::write(&files.ca, both("ca.pem")).unwrap();
    std::fs::write(files.crl.as_ref().unwrap(), both("crl.pem")).unwrap();
    let ben = TlsFiles { ca: files.ca.clone(), crl: files.crl.clone(), ..next.issue("drover://client/ben") };
    until("the next authority's machine is let in", async || meet(&server, &ben).await.server.is_ok()).await;
    meet(&server, &ann).await.presented();
    server.still_admits(&before).unwrap();
    std::fs::copy(next.pki().join("ca.pem"), &files.ca).unwrap();
    until("the old authority's is not any more", async || server.still_admits(&before).is_err()).await;
}

/// The serial number of the certificate that the server shows.
async fn serial_of(server: &ServerTls, client: &TlsFiles) -> String {
    let (here, there) = duplex(PIPE_BYTES);
    let connector = TlsConnector::from(Arc::new(client_config(client).unwrap()));
    let connecting = connector.connect(ServerName::try_from("localhost").unwrap(), there);
    let (_, stream) = tokio::join!(server.accept(here), connecting);
    let stream = stream.unwrap();
    let leaf = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
    drover_pki::identity_of(&leaf).unwrap().serial
}

#[tokio::test]
async fn plain_text_is_no_handshake() {
    let shop = Shop::new();
    let server = ServerTls::load(shop.issue("drover://coordinator/c-1")).unwrap();
    let (here, mut there) = duplex(PIPE_BYTES);
    there.write_all(b"GET /v1/status HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let refused = tokio::time::timeout(GUARD, server.accept(here)).await.unwrap().unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::InvalidData, "{refused}");
}

/// An agent serves to whoever goes by its name: the name of a host is asked for nowhere.
#[tokio::test]
async fn one_machine_is_known_by_its_own_name_wherever_it_is() {
    let shop = Shop::new();
    let name = "drover://agent/eu-west/eu-west-1";
    let files = shop.issue(name);
    let wrong = ServerTls::load_of(files.clone(), "drover://agent/us-east/eu-west-1".parse().unwrap());
    assert!(wrong.unwrap_err().to_string().contains("us-east/eu-west-1 is needed here"));
    let server = ServerTls::load_of(files, name.parse().unwrap()).unwrap();
    let ann = shop.issue("drover://client/ann");
    let meant = |machine: &str| machine_config(&ann, &machine.parse().unwrap()).unwrap();
    meet_with(&server, meant(name)).await.client.unwrap();
    for other in ["drover://agent/us-east/eu-west-1", "drover://agent/eu-west/eu-west-2"] {
        let refused = meet_with(&server, meant(other)).await.client.unwrap_err();
        assert_eq!(NoHandshake::in_chain(&refused), Some(NoHandshake::OtherMachine), "{refused}");
    }
    // Nor does it pass for a coordinator.
    let refused = meet(&server, &ann).await.client.unwrap_err();
    assert_eq!(NoHandshake::in_chain(&refused), Some(NoHandshake::Other), "{refused}");
}
