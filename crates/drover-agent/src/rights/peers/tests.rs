//! Two agents and their certificates, good and bad, over real connections.

use super::super::known::{PeerAt, Peers};
use super::*;
use crate::identity::CoordinatorUrl;
use drover_model::machine::MachineIdentity;
use drover_model::write_right::{BootTime, Incarnation, Nonce, WriteGeneration};
use drover_pki::TlsFiles;
use rcgen::date_time_ymd;
use shop::Shop;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

#[path = "../../../../drover-pki/tests/pki/shop.rs"]
mod shop;

/// Hang guard.
const GUARD: Duration = Duration::from_secs(60);

const HOLDER: &str = "drover://agent/eu-west/eu-west-1";
const MEMBER: &str = "drover://agent/us-east/us-east-1";

/// The file of an agent with this certificate.
fn identity(machine: &str, tls: Option<TlsFiles>, directory: &std::path::Path) -> Identity {
    let MachineIdentity::Agent { region, agent } = machine.parse().unwrap() else { panic!("{machine}") };
    let nobody = CoordinatorUrl::Unix("/nobody".into());
    Identity { tls, ..Identity::new(agent, region, vec![nobody], directory.to_owned()) }
}

fn peer(machine: &str, address: SocketAddr) -> (AgentId, PeerAt) {
    let MachineIdentity::Agent { region, agent } = machine.parse().unwrap() else { panic!("{machine}") };
    (agent, PeerAt { address, region: Some(region) })
}

fn question(from: &AgentId) -> Ask {
    let nonce = Nonce { session: 1, sent: BootTime::default() };
    Ask { from: from.clone(), incarnation: Incarnation(1), generation: WriteGeneration(1), nonce }
}

/// A member that vouches for whomever it hears.
struct Member {
    address: SocketAddr,
    refusals: Arc<Refusals>,
    shutdown: CancellationToken,
    _state: tempfile::TempDir,
}

impl Drop for Member {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

fn orders() -> DatasetId {
    DatasetId::new("orders").unwrap()
}

async fn member(machine: &str, tls: Option<TlsFiles>) -> Member {
    let directory = tempfile::tempdir().unwrap();
    let state = StateDir::open(directory.path()).unwrap();
    let (own, refusals) = (identity(machine, tls, directory.path()), Arc::<Refusals>::default());
    let port = PeerListener::bind(([127, 0, 0, 1], 0).into(), &own, &state, Arc::clone(&refusals));
    let port = port.await.unwrap();
    let (address, shutdown) = (port.listener.local_addr().unwrap(), CancellationToken::new());
    let (inbox, mut asked) = mpsc::channel(8);
    let known = Known::new(Peers::from([peer(HOLDER, ([127, 0, 0, 1], 1).into())]));
    tokio::spawn(port.serve(Arc::new([(orders(), Door { inbox, known })].into()), shutdown.clone()));
    let me = own.agent;
    tokio::spawn(async move {
        while let Some(Inbox::Asked(asked)) = asked.recv().await {
            let (ask, tell) = *asked;
            let answer = PeerAnswer::Yes { from: me.clone(), generation: ask.generation, nonce: ask.nonce };
            let _ = tell.send(answer);
        }
    });
    Member { address, refusals, shutdown, _state: directory }
}

/// What an agent with this certificate hears from a member, and why it hears nothing.
async fn asked(
    holder: &str,
    files: Option<TlsFiles>,
    at: SocketAddr,
) -> (Option<PeerAnswer>, BTreeMap<&'static str, u64>) {
    let refusals = Arc::<Refusals>::default();
    let own = identity(holder, files, std::path::Path::new("/"));
    let client = PeerClient::new(&own, Arc::clone(&refusals)).unwrap();
    let (agent, at) = peer(MEMBER, at);
    // Whoever it is, it asks as the holder: that is what certificates are for.
    let (ask, dataset) = (question(&peer(HOLDER, at.address).0), orders());
    let answer = tokio::time::timeout(GUARD, client.ask(&agent, &at, &dataset, &ask)).await.unwrap();
    (answer, refusals.of(Said::Here))
}

#[tokio::test]
async fn a_member_hears_another_one_and_whoever_is_none_is_refused_and_counted() {
    let (shop, stranger) = (Shop::new(), Shop::new());
    let revoked = shop.issue(HOLDER);
    shop.authority().revoke(&HOLDER.parse().unwrap(), None, "lost").unwrap();
    let member = member(MEMBER, Some(shop.issue(MEMBER))).await;
    let expired = shop.forge("expired", &[HOLDER], |p| p.not_after = date_time_ymd(2021, 1, 1));
    let early = shop.forge("early", &[HOLDER], |p| p.not_before = date_time_ymd(2039, 1, 1));
    let foreign = TlsFiles { ca: shop.pki().join("ca.pem"), crl: None, ..stranger.issue(HOLDER) };
    let elsewhere = "drover://agent/ap-south/eu-west-1";
    let another = "drover://agent/eu-west/eu-west-2";
    for (holder, files, reason) in [
        (HOLDER, Some(revoked), "certificate_revoked"),
        (HOLDER, Some(expired), "certificate_expired"),
        (HOLDER, Some(early), "certificate_not_yet_valid"),
        (HOLDER, Some(foreign), "other_authority"),
        (elsewhere, Some(shop.issue(elsewhere)), "wrong_region"),
        (another, Some(shop.issue(another)), "not_its_own"),
        (HOLDER, None, "no_tls"),
    ] {
        let (answer, heard) = asked(holder, files, member.address).await;
        // Which word it hears depends on what arrives first, the refusal or the end of the connection.
        assert_eq!((answer, heard.len()), (None, 1), "{reason}: {heard:?}");
        assert_eq!(member.refusals.of(Said::There).get(reason), Some(&1), "{:?}", member.refusals);
    }
    let renewed = shop.forge("renewed", &[HOLDER], |_| {});
    let (answer, heard) = asked(HOLDER, Some(renewed), member.address).await;
    assert!(matches!(answer, Some(PeerAnswer::Yes { .. })), "{heard:?}");
}

#[tokio::test]
async fn only_the_member_that_is_meant_may_answer() {
    let (shop, stranger) = (Shop::new(), Shop::new());
    let holder = shop.issue(HOLDER);
    let another = "drover://agent/us-east/us-east-2";
    let elsewhere = "drover://agent/ap-south/us-east-1";
    let expired = shop.forge("expired", &[MEMBER], |p| p.not_after = date_time_ymd(2021, 1, 1));
    let foreign = TlsFiles { ca: shop.pki().join("ca.pem"), crl: None, ..stranger.issue(MEMBER) };
    let revoked = shop.issue(MEMBER);
    shop.authority().revoke(&MEMBER.parse().unwrap(), None, "lost").unwrap();
    std::fs::copy(shop.pki().join("crl.pem"), holder.crl.as_ref().unwrap()).unwrap();
    for (machine, files, reason) in [
        (another, Some(shop.issue(another)), "other_machine"),
        (elsewhere, Some(shop.issue(elsewhere)), "other_machine"),
        (MEMBER, Some(expired), "certificate_expired"),
        (MEMBER, Some(foreign), "other_authority"),
        (MEMBER, Some(revoked), "certificate_revoked"),
        (MEMBER, None, "no_tls"),
    ] {
        let member = member(machine, files).await;
        let (answer, heard) = asked(HOLDER, Some(holder.clone()), member.address).await;
        assert_eq!((answer, heard.get(reason)), (None, Some(&1)), "{reason}: {heard:?}");
    }
}

#[tokio::test]
async fn a_member_that_is_revoked_is_not_heard_on_the_connection_that_it_has() {
    let shop = Shop::new();
    let (files, holder) = (shop.issue(MEMBER), shop.issue(HOLDER));
    let member = member(MEMBER, Some(files.clone())).await;
    let own = identity(HOLDER, Some(holder), std::path::Path::new("/"));
    let client = PeerClient::new(&own, Arc::default()).unwrap();
    let (agent, at) = peer(MEMBER, member.address);
    let ask = question(&own.agent);
    assert!(client.ask(&agent, &at, &orders(), &ask).await.is_some());
    shop.authority().revoke(&HOLDER.parse().unwrap(), None, "lost").unwrap();
    std::fs::copy(shop.pki().join("crl.pem"), files.crl.unwrap()).unwrap();
    let refused = async {
        while client.ask(&agent, &at, &orders(), &ask).await.is_some() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(GUARD, refused).await.unwrap();
    assert_eq!(member.refusals.of(Said::There).get("certificate_lapsed"), Some(&1));
}

#[tokio::test]
async fn nothing_is_said_in_plain_text_beyond_loopback() {
    let directory = tempfile::tempdir().unwrap();
    let state = StateDir::open(directory.path()).unwrap();
    let own = identity(MEMBER, None, directory.path());
    let refused = PeerListener::bind(([0, 0, 0, 0], 0).into(), &own, &state, Arc::default()).await;
    assert!(matches!(refused.err(), Some(AgentError::PeerNotLoopback(_))));
    let shop = Shop::new();
    let own = identity(MEMBER, Some(shop.issue(MEMBER)), directory.path());
    PeerListener::bind(([0, 0, 0, 0], 0).into(), &own, &state, Arc::default()).await.unwrap();
    // Nor is it asked so. Nobody is at this address, and nothing goes there.
    let (answer, heard) = asked(HOLDER, None, ([192, 0, 2, 1], 7_414).into()).await;
    assert_eq!((answer, heard), (None, BTreeMap::from([("plain_text", 1)])));
    // Between loopbacks it is, as it ever was.
    let member = member(MEMBER, None).await;
    assert!(asked(HOLDER, None, member.address).await.0.is_some());
}

#[tokio::test]
async fn whoever_says_nothing_or_too_much_keeps_nobody_out() {
    let shop = Shop::new();
    let member = member(MEMBER, Some(shop.issue(MEMBER))).await;
    let mut silent = Vec::new();
    for _ in 0..STRANGERS_MAX + 8 {
        silent.push(TcpStream::connect(member.address).await.unwrap());
    }
    // The first ones are closed, long before their time for a handshake is over.
    let mut first = silent.remove(0);
    assert_eq!(tokio::time::timeout(GUARD, first.read(&mut [0])).await.unwrap().unwrap(), 0);
    let holder = shop.issue(HOLDER);
    assert!(asked(HOLDER, Some(holder.clone()), member.address).await.0.is_some());
    // A question that is too long, and one whose body never comes.
    let tls = drover_pki::machine_config(&holder, &MEMBER.parse().unwrap()).unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(tls));
    for (bytes, sent, code) in [(QUESTION_BYTES_MAX + 1, QUESTION_BYTES_MAX + 1, "413"), (100, 0, "408")] {
        let stream = TcpStream::connect(member.address).await.unwrap();
        let name = rustls_pki_types::ServerName::from(member.address.ip());
        let mut stream = connector.connect(name, stream).await.unwrap();
        let head = format!(
            "POST /v1/datasets/orders/ask HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {bytes}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&vec![b' '; sent]).await.unwrap();
        let mut answer = [0; 12];
        tokio::time::timeout(GUARD, stream.read_exact(&mut answer)).await.unwrap().unwrap();
        assert_eq!(String::from_utf8_lossy(&answer), format!("HTTP/1.1 {code}"));
    }
}
