//! The authority's side: one machine, for some minutes.

use super::{
    Answer, Ask, Granted, JOIN_CONNECTIONS_MAX, JOIN_TIMEOUT, JOIN_WRONG_TOKENS_MAX, JoinError, JoinToken,
    Kept, Lines, SERVED_AS, io,
};
use crate::authority::{Authority, Wanted};
use crate::error::PkiError;
use crate::ledger::Issued;
use drover_model::{Span, chain};
use rcgen::{CertificateParams, CertificateSigningRequestParams, KeyPair, PublicKey};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::version::TLS13;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// Pause after a connection that could not be taken, such as when no descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// How whoever invites hears what happens meanwhile.
pub type Tell = Arc<dyn Fn(&str) + Send + Sync>;

/// An invitation that is listened for and not answered yet.
pub struct Invitation {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    token: JoinToken,
    /// Where it listens.
    pub address: SocketAddr,
}

impl std::fmt::Debug for Invitation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Invitation").field("address", &self.address).finish_non_exhaustive()
    }
}

/// What one connection came to.
enum Came {
    /// The machine has its certificate.
    Joined(Box<Issued>),
    WrongToken,
    Nothing,
}

/// What all connections know.
struct Host {
    token: JoinToken,
    pki: PathBuf,
    wanted: Wanted,
    tell: Tell,
    /// Whose key was signed, and how: the same machine may ask again when the answer was lost.
    given: Mutex<Option<(PublicKey, Issued, Granted)>>,
}

impl Invitation {
    /// Listens, with a certificate that is made for this and trusted by nobody but whoever has the token. The authority signs
    /// nothing for it: what it signs is in its ledger.
    ///
    /// # Errors
    /// When the address can't be had.
    pub async fn open(listen: SocketAddr) -> Result<Self, JoinError> {
        let sign = |source| PkiError::Sign { what: "the invitation's certificate".to_owned(), source };
        let key = KeyPair::generate().map_err(sign)?;
        let params = CertificateParams::new(vec![SERVED_AS.to_owned()]).map_err(sign)?;
        let certificate = params.self_signed(&key).map_err(sign)?;
        let token = JoinToken::new(certificate.der())?;
        let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let tls = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13])
            .and_then(|tls| {
                tls.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], private)
            })
            .map_err(|e| io("serve the invitation")(std::io::Error::other(e)))?;
        let cannot = format!("listen at {listen}");
        let listener = TcpListener::bind(listen).await.map_err(io(&cannot))?;
        let address = listener.local_addr().map_err(io(&cannot))?;
        Ok(Self { listener, acceptor: TlsAcceptor::from(Arc::new(tls)), token, address })
    }

    /// What the machine must show.
    #[must_use]
    pub fn token(&self) -> &JoinToken {
        &self.token
    }

    /// Waits until the machine has joined. The authority in `pki` is held no longer than it takes to sign.
    ///
    /// # Errors
    /// When nobody joined within `lasts`, or too many wrong tokens were shown.
    pub async fn serve(
        self,
        pki: PathBuf,
        wanted: Wanted,
        lasts: Span,
        tell: Tell,
    ) -> Result<Issued, JoinError> {
        let host = Arc::new(Host { token: self.token, pki, wanted, tell, given: Mutex::default() });
        let (mut guests, mut wrong) = (JoinSet::new(), 0);
        let end = tokio::time::sleep(lasts.to_duration());
        tokio::pin!(end);
        loop {
            let came = tokio::select! {
                () = &mut end => return Err(host.over(JoinError::Nobody(lasts)).await),
                Some(came) = guests.join_next() => came.unwrap_or(Came::Nothing),
                accepted = self.listener.accept(), if guests.len() < JOIN_CONNECTIONS_MAX => {
                    match accepted {
                        Ok((stream, from)) => {
                            guests.spawn(host.clone().receive(self.acceptor.clone(), stream, from));
                        }
                        Err(e) => {
                            (host.tell)(&format!("can't take a connection: {e}"));
                            tokio::time::sleep(ACCEPT_PAUSE).await;
                        }
                    }
                    continue;
                }
            };
            match came {
                Came::Joined(issued) => return Ok(*issued),
                Came::WrongToken => wrong += 1,
                Came::Nothing => {}
            }
            if wrong >= JOIN_WRONG_TOKENS_MAX {
                return Err(host.over(JoinError::TooManyWrong).await);
            }
        }
    }
}

impl Host {
    /// Why it ended; but a certificate that was given comes first: whoever has it must be found.
    async fn over(&self, why: JoinError) -> JoinError {
        match &*self.given.lock().await {
            Some((_, issued, _)) => {
                JoinError::Unconfirmed { identity: issued.identity.clone(), serial: issued.serial.clone() }
            }
            None => why,
        }
    }

    async fn receive(self: Arc<Self>, acceptor: TlsAcceptor, stream: TcpStream, from: SocketAddr) -> Came {
        match tokio::time::timeout(JOIN_TIMEOUT, self.talk(&acceptor, stream, from)).await {
            Ok(Ok(came)) => came,
            Ok(Err(e)) => {
                (self.tell)(&format!("{from} broke off: {}", chain(&e)));
                Came::Nothing
            }
            Err(_) => {
                (self.tell)(&format!("{from} took longer than {} s", JOIN_TIMEOUT.as_secs()));
                Came::Nothing
            }
        }
    }

    async fn talk(
        &self,
        acceptor: &TlsAcceptor,
        stream: TcpStream,
        from: SocketAddr,
    ) -> std::io::Result<Came> {
        let mut lines = Lines::new(acceptor.accept(stream).await?);
        let ask: Ask = lines.hear().await?;
        if !self.token.has_secret(&ask.secret) {
            (self.tell)(&format!("{from} showed a wrong token"));
            let why = "this is not the token of the invitation".to_owned();
            lines.say(&Answer::Refused { code: "wrong_token".to_owned(), why }).await?;
            return Ok(Came::WrongToken);
        }
        let (issued, granted) = match self.grant(&ask.request).await {
            Ok(given) => given,
            Err((code, why)) => {
                (self.tell)(&format!("{from} was refused: {why}"));
                lines.say(&Answer::Refused { code: code.to_owned(), why }).await?;
                return Ok(Came::Nothing);
            }
        };
        (self.tell)(&format!("certificate {} was given to {from}", issued.serial));
        lines.say(&Answer::Granted(granted)).await?;
        let kept: Kept = lines.hear().await?;
        Ok(if kept.kept { Came::Joined(Box::new(issued)) } else { Came::Nothing })
    }

    /// Signs the first key that comes with the token, and no other one.
    async fn grant(&self, request: &str) -> Result<(Issued, Granted), (&'static str, String)> {
        let not_issued = |e: &(dyn std::error::Error + 'static)| ("not_issued", chain(e));
        // Its signature is verified by being read: whoever asks has the key.
        let asked = CertificateSigningRequestParams::from_pem(request).map_err(|e| not_issued(&e))?;
        let mut given = self.given.lock().await;
        match &*given {
            Some((key, issued, granted)) if *key == asked.public_key => {
                return Ok((issued.clone(), granted.clone()));
            }
            Some(_) => {
                let why =
                    "the token was used, with another key: find out by whom, and revoke that certificate";
                return Err(("used", why.to_owned()));
            }
            None => {}
        }
        let signed = Authority::open(&self.pki)
            .and_then(|mut authority| authority.sign(&self.wanted, &asked.public_key))
            .map_err(|e| not_issued(&e))?;
        let identity = signed.issued.identity.clone();
        let granted = Granted { identity, certificate: signed.certificate, ca: signed.ca, crl: signed.crl };
        *given = Some((asked.public_key, signed.issued.clone(), granted.clone()));
        Ok((signed.issued, granted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(key: &KeyPair) -> String {
        CertificateParams::default().serialize_request(key).unwrap().pem().unwrap()
    }

    #[tokio::test]
    async fn one_key_is_signed_however_often_it_asks_and_no_other_one() {
        let dir = tempfile::tempdir().unwrap();
        let pki = dir.path().join("pki");
        drop(Authority::init(&pki, "test", Span::from_hours(24)).unwrap());
        let identity = "drover://agent/eu-west/eu-west-1".parse().unwrap();
        let wanted = Wanted { identity, hosts: Vec::new(), lifetime: Span::from_hours(1) };
        let token = JoinToken::new(b"any").unwrap();
        let host = Host { token, pki: pki.clone(), wanted, tell: Arc::new(|_| ()), given: Mutex::default() };
        let (own, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        assert!(matches!(host.over(JoinError::TooManyWrong).await, JoinError::TooManyWrong));
        let (issued, granted) = host.grant(&request(&own)).await.unwrap();
        assert_eq!(host.grant(&request(&own)).await.unwrap(), (issued.clone(), granted));
        assert_eq!(host.grant(&request(&other)).await.unwrap_err().0, "used");
        assert_eq!(host.grant("no request").await.unwrap_err().0, "not_issued");
        assert_eq!(Authority::open(&pki).unwrap().ledger().certificates, [issued]);
        for why in [JoinError::Nobody(Span::from_mins(1)), JoinError::TooManyWrong] {
            assert!(matches!(host.over(why).await, JoinError::Unconfirmed { .. }));
        }
    }
}
