//! How one endpoint of a service is asked over HTTP: at its own address, under the service's name.
//!
//! Over TLS the name in the URL is what the certificate is checked against, so the name is sent to the endpoint's
//! address instead of to where DNS points, and the roots are those of the service's health check.

use crate::coordinator::Coordinator;
use crate::scraper::authority;
use drover_model::config::{Endpoint, HealthCheck, Service, TlsOptions};
use std::path::Path;
use std::time::Duration;

/// Longest time for a connection to an endpoint.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where an endpoint is and how it is talked to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) address: String,
    pub(crate) port: u16,
    /// The `Host` header.
    pub(crate) host: String,
    /// Set when the service speaks TLS.
    pub(crate) tls: Option<TlsOptions>,
}

impl Target {
    pub(crate) fn of(service: &Service, endpoint: &Endpoint) -> Self {
        let tls = tls_of(service);
        Self { address: endpoint.address.clone(), port: endpoint.port, host: service.dns_name.clone(), tls }
    }

    /// The name in the URL: over TLS the one that the certificate must carry.
    fn url(&self, path: &str) -> String {
        match &self.tls {
            None => format!("http://{}{path}", authority(&self.address, self.port)),
            Some(tls) => format!("https://{}{path}", authority(self.server_name(tls), self.port)),
        }
    }

    fn server_name<'a>(&'a self, tls: &'a TlsOptions) -> &'a str {
        tls.sni.as_deref().unwrap_or(&self.host).trim_end_matches('.')
    }
}

/// The TLS details of a service's health check, when it uses TLS.
pub(crate) fn tls_of(service: &Service) -> Option<TlsOptions> {
    match &service.check {
        HealthCheck::Http(check) if check.tls => Some(check.tls_options.clone()),
        HealthCheck::Http(_) | HealthCheck::Tcp(_) => None,
    }
}

impl Coordinator {
    /// A request to one endpoint. Its host header is set; its timeout is the caller's.
    ///
    /// # Errors
    /// In words, when the address does not resolve or a certificate file can't be used.
    pub(crate) async fn request_to(
        &self,
        target: &Target,
        method: reqwest::Method,
        path: &str,
    ) -> Result<reqwest::RequestBuilder, String> {
        let client = match &target.tls {
            None => self.http.clone(),
            Some(tls) => tls_client(target, tls).await?,
        };
        Ok(client.request(method, target.url(path)).header("host", &target.host))
    }
}

/// A client of its own for each request: the roots are read anew, so that a renewed bundle needs no restart, and a
/// connection to another endpoint of the same name can't be taken for this one's.
async fn tls_client(target: &Target, tls: &TlsOptions) -> Result<reqwest::Client, String> {
    let place = authority(&target.address, target.port);
    let found = tokio::net::lookup_host((target.address.as_str(), target.port)).await;
    let addresses: Vec<_> = found.map_err(|e| format!("can't resolve {place}: {e}"))?.collect();
    let mut builder = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .resolve_to_addrs(target.server_name(tls), &addresses);
    if let Some(file) = &tls.ca_file {
        let bundle = reqwest::Certificate::from_pem_bundle(&read(file).await?);
        let roots =
            bundle.map_err(|e| format!("can't use {}: {}", file.display(), drover_model::chain(&e)))?;
        builder = builder.tls_certs_only(roots);
    }
    if let (Some(certificate), Some(key)) = (&tls.client_certificate_file, &tls.client_key_file) {
        let pem = [read(certificate).await?, read(key).await?].join(b"\n".as_slice());
        let identity = reqwest::Identity::from_pem(&pem);
        let shown = certificate.display();
        builder = builder
            .identity(identity.map_err(|e| format!("can't use {shown}: {}", drover_model::chain(&e)))?);
    }
    builder.build().map_err(|e| drover_model::chain(&e))
}

async fn read(file: &Path) -> Result<Vec<u8>, String> {
    tokio::fs::read(file).await.map_err(|e| format!("can't read {}: {e}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use std::sync::Arc;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// A server with a certificate of its own for `pay.test`; gives its port and the certificate as PEM.
    async fn serve() -> (u16, String) {
        let _already = rustls::crypto::ring::default_provider().install_default();
        let own = rcgen::generate_simple_self_signed(vec!["pay.test".to_owned()]).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(own.signing_key.serialize_der()));
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key)
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                // A client that does not trust the certificate ends the handshake.
                let Ok(mut tls) = acceptor.accept(socket).await else { continue };
                let _request = tls.read(&mut [0; 4_096]).await;
                let _ = tls
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
                    .await;
                let _ = tls.shutdown().await;
            }
        });
        (port, own.cert.pem())
    }

    #[tokio::test]
    async fn over_tls_the_name_is_checked_and_the_address_is_asked() {
        let (port, pem) = serve().await;
        let dir = tempfile::tempdir().unwrap();
        let ca = dir.path().join("ca.pem");
        std::fs::write(&ca, pem).unwrap();
        let ask = async |host: &str, ca_file: Option<std::path::PathBuf>| {
            let tls = TlsOptions { ca_file, ..TlsOptions::default() };
            let target =
                Target { address: "127.0.0.1".into(), port, host: host.into(), tls: Some(tls.clone()) };
            let client = tls_client(&target, &tls).await?;
            client
                .get(target.url("/"))
                .send()
                .await
                .map_err(|e| drover_model::chain(&e))?
                .text()
                .await
                .map_err(|e| e.to_string())
        };
        // No DNS knows this name.
        assert_eq!(ask("pay.test", Some(ca.clone())).await.as_deref(), Ok("ok"));
        assert!(ask("other.test", Some(ca)).await.is_err(), "another's certificate");
        let why = ask("pay.test", Some(dir.path().join("none.pem"))).await.unwrap_err();
        assert!(why.starts_with("can't read"), "{why}");
    }
}
