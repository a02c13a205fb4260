//! An authority of one installation, and what its machines show.

use crate::error::{Attempt, Result};
use drover_model::Span;
use drover_model::machine::MachineIdentity;
use drover_pki::authority::{Authority, CERTIFICATE_LIFETIME, Wanted};
use drover_pki::{TlsFiles, client_config};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Longer than any figure takes.
const LIFE: Span = CERTIFICATE_LIFETIME;

/// The authority's directory, and those of its machines beside it.
#[derive(Debug)]
pub struct Certificates {
    directory: PathBuf,
}

impl Certificates {
    /// A new authority in a directory of this one.
    pub fn new(directory: &Path) -> Result<Self> {
        let this = Self { directory: directory.join("machines") };
        Authority::init(&this.pki(), "bench", LIFE.times(2)).attempt("make an authority")?;
        Ok(this)
    }

    fn pki(&self) -> PathBuf {
        self.directory.join("pki")
    }

    fn issue(&self, machine: &str) -> Result<TlsFiles> {
        let identity: MachineIdentity = machine.parse().attempt("name a machine")?;
        let wanted = Wanted { identity, hosts: vec!["127.0.0.1".into()], lifetime: LIFE };
        let out = self.directory.join(machine.replace([':', '/'], "-"));
        let mut authority = Authority::open(&self.pki()).attempt("open the authority")?;
        authority.issue(&wanted, &out).attempt(format!("issue to {machine}"))?;
        Ok(TlsFiles::in_directory(&out))
    }

    /// The words by which a coordinator serves TLS.
    pub fn flags(&self) -> Result<Vec<OsString>> {
        let files = self.issue("drover://coordinator/bench")?;
        let named = [
            ("--ca", Some(files.ca)),
            ("--certificate", Some(files.certificate)),
            ("--key", Some(files.key)),
            ("--crl", files.crl),
        ];
        let flags = named.into_iter().filter_map(|(flag, file)| Some([OsString::from(flag), file?.into()]));
        Ok(flags.flatten().collect())
    }

    /// A client that shows a certificate of its own.
    pub fn client(&self, machine: &str) -> Result<reqwest::Client> {
        let tls = client_config(&self.issue(machine)?).attempt("set up TLS")?;
        let builder = reqwest::Client::builder().no_proxy().tls_backend_preconfigured(tls);
        builder.build().attempt("make an HTTP client")
    }
}
