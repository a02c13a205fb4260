//! A machine joins an authority that is elsewhere.

use drover_model::Span;
use drover_pki::authority::{Authority, Wanted};
use drover_pki::joining::{Invitation, JOIN_WRONG_TOKENS_MAX, JoinError, JoinToken, join};
use drover_pki::ledger::Issued;
use drover_pki::{client_config, machine_in};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinHandle;

const GUARD: Duration = Duration::from_secs(60);
const MACHINE: &str = "drover://agent/eu-west/eu-west-1";

struct Host {
    address: String,
    token: JoinToken,
    told: Arc<Mutex<Vec<String>>>,
    ends: JoinHandle<Result<Issued, JoinError>>,
}

async fn invite(pki: &Path, lasts: Span) -> Host {
    let invitation = Invitation::open(([127, 0, 0, 1], 0).into()).await.unwrap();
    let (address, token) = (invitation.address.to_string(), invitation.token().clone());
    let wanted =
        Wanted { identity: MACHINE.parse().unwrap(), hosts: Vec::new(), lifetime: Span::from_hours(1) };
    let told = Arc::new(Mutex::new(Vec::new()));
    let hears = told.clone();
    let tell = Arc::new(move |what: &str| hears.lock().unwrap().push(what.to_owned()));
    let ends = tokio::spawn(invitation.serve(pki.to_owned(), wanted, lasts, tell));
    Host { address, token, told, ends }
}

async fn end(host: Host) -> Result<Issued, JoinError> {
    tokio::time::timeout(GUARD, host.ends).await.unwrap().unwrap()
}

fn authority() -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let pki = dir.path().join("pki");
    drop(Authority::init(&pki, "test", Span::from_hours(24)).unwrap());
    (dir, pki)
}

#[tokio::test]
async fn a_machine_joins_with_a_key_of_its_own_and_the_invitation_is_over() {
    let (dir, pki) = authority();
    let host = invite(&pki, Span::from_mins(5)).await;
    let (address, token) = (host.address.clone(), host.token.clone());
    let out = dir.path().join("machine");
    let joined = join(&address, &token, &out).await.unwrap();
    let told = host.told.clone();
    let issued = end(host).await.unwrap();
    let given = format!("certificate {} was given to ", issued.serial);
    assert!(told.lock().unwrap().iter().any(|said| said.starts_with(&given)), "{told:?}");
    assert_eq!((joined.peer.identity.to_string().as_str(), &joined.peer.serial), (MACHINE, &issued.serial));
    assert_eq!(machine_in(&joined.files.certificate).unwrap(), joined.peer);
    client_config(&joined.files).unwrap();
    assert_eq!(Authority::open(&pki).unwrap().issued_in(&joined.files.certificate).unwrap(), &issued);

    let again = join(&address, &token, &dir.path().join("another")).await.unwrap_err();
    assert!(matches!(again, JoinError::Io { .. }), "nobody listens any more: {again:?}");
    let twice = join(&address, &token, &out).await.unwrap_err();
    assert!(twice.to_string().contains("is there already"), "{twice}");
}

#[tokio::test]
async fn a_token_opens_its_own_invitation_alone_and_wrong_ones_end_it() {
    let (dir, pki) = authority();
    let (host, other) = (invite(&pki, Span::from_mins(5)).await, invite(&pki, Span::from_mins(5)).await);
    let out = dir.path().join("machine");
    // Whoever is at that address is not whom the token is from, and does not learn it.
    let elsewhere = join(&host.address, &other.token, &out).await.unwrap_err();
    assert!(matches!(elsewhere, JoinError::OtherInvitation { .. }), "{elsewhere:?}");
    let text = host.token.reveal();
    let guess: JoinToken = format!("join_{}{}", "0".repeat(32), &text[text.len() - 32..]).parse().unwrap();
    for _ in 0..JOIN_WRONG_TOKENS_MAX {
        let refused = join(&host.address, &guess, &out).await.unwrap_err();
        let JoinError::Refused { code, .. } = refused else { panic!("{refused:?}") };
        assert_eq!(code, "wrong_token");
    }
    let told = host.told.clone();
    assert!(matches!(end(host).await.unwrap_err(), JoinError::TooManyWrong));
    let wrong = told.lock().unwrap().iter().filter(|said| said.contains("wrong token")).count();
    assert_eq!(wrong, JOIN_WRONG_TOKENS_MAX as usize);
    assert_eq!(Authority::open(&pki).unwrap().ledger().certificates, []);
    // The key that was made meanwhile is used by the attempt that succeeds.
    let key = std::fs::read(out.join("key.pem")).unwrap();
    join(&other.address, &other.token, &out).await.unwrap();
    end(other).await.unwrap();
    assert_eq!(std::fs::read(out.join("key.pem")).unwrap(), key);
}

#[tokio::test]
async fn an_invitation_that_nobody_follows_ends_by_itself() {
    let (_dir, pki) = authority();
    let host = invite(&pki, Span::from_millis(1)).await;
    assert!(matches!(end(host).await.unwrap_err(), JoinError::Nobody(_)));
}
