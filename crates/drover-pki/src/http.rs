//! HTTP clients that follow the certificates they were made with: when these change, the next request goes out on a
//! connection of its own, under the new ones.

use crate::client::{TlsFiles, client_config, machine_config};
use crate::error::PkiError;
use crate::files::Watched;
use drover_model::machine::MachineIdentity;
use reqwest::{Client, ClientBuilder};
use rustls::ClientConfig;
use std::sync::Arc;

/// A client for one coordinator, or one other machine.
#[derive(Debug)]
pub struct Http(Kind);

#[derive(Debug)]
enum Kind {
    /// Without certificates: a socket, loopback, or somebody's proxy whom the system trusts.
    Fixed(Client),
    /// With those of these files.
    Renewed(Watched<Client>),
}

/// No client can be made.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Of what was asked.
    #[error("can't set up HTTP")]
    Client(#[source] reqwest::Error),
    /// Of the certificates.
    #[error(transparent)]
    Certificates(#[from] PkiError),
}

impl Http {
    /// A client without certificates.
    ///
    /// # Errors
    /// When none can be made.
    pub fn fixed(builder: ClientBuilder) -> Result<Self, HttpError> {
        builder.build().map(|client| Self(Kind::Fixed(client))).map_err(HttpError::Client)
    }

    /// A client that shows the certificate of these files, and trusts their authority alone. `check` says whether the files are
    /// the ones meant; `base` makes the rest of the client each time.
    ///
    /// # Errors
    /// When the files can't be used.
    pub fn with_certificates(
        files: TlsFiles,
        base: impl Fn() -> ClientBuilder + Send + Sync + 'static,
        check: impl Fn(&TlsFiles) -> Result<(), PkiError> + Send + Sync + 'static,
    ) -> Result<Self, HttpError> {
        Self::renewed(files, base, move |files| check(files).and_then(|()| client_config(files)))
    }

    /// The same, for one machine that is known by its name and not by a host's.
    ///
    /// # Errors
    /// When the files can't be used.
    pub fn of_machine(
        files: TlsFiles,
        machine: MachineIdentity,
        base: impl Fn() -> ClientBuilder + Send + Sync + 'static,
        check: impl Fn(&TlsFiles) -> Result<(), PkiError> + Send + Sync + 'static,
    ) -> Result<Self, HttpError> {
        Self::renewed(files, base, move |files| check(files).and_then(|()| machine_config(files, &machine)))
    }

    fn renewed(
        files: TlsFiles,
        base: impl Fn() -> ClientBuilder + Send + Sync + 'static,
        tls: impl Fn(&TlsFiles) -> Result<ClientConfig, PkiError> + Send + Sync + 'static,
    ) -> Result<Self, HttpError> {
        let make = {
            let files = files.clone();
            move || {
                let tls = tls(&files)?;
                let client = base().https_only(true).tls_backend_preconfigured(tls).build();
                client.map_err(|source| PkiError::Unusable {
                    path: files.certificate.clone(),
                    source: Box::new(source),
                })
            }
        };
        Ok(Self(Kind::Renewed(Watched::new(files.all(), make)?)))
    }

    /// The client for the next request.
    #[must_use]
    pub fn client(&self) -> Arc<Client> {
        match &self.0 {
            // A client is a handle already.
            Kind::Fixed(client) => Arc::new(client.clone()),
            Kind::Renewed(watched) => watched.get(),
        }
    }
}
