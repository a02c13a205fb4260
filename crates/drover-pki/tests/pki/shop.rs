//! An authority in a directory, and certificates of it, good and bad.

use drover_model::Span;
use drover_model::machine::MachineIdentity;
use drover_pki::TlsFiles;
use drover_pki::authority::{Authority, Wanted};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType, date_time_ymd};
use std::path::{Path, PathBuf};

/// Life of what is issued here.
pub const LIFE: Span = Span::from_hours(1);

pub struct Shop {
    dir: tempfile::TempDir,
}

impl Shop {
    pub fn new() -> Self {
        let shop = Self { dir: tempfile::tempdir().unwrap() };
        Authority::init(&shop.pki(), "test", Span::from_hours(24)).unwrap();
        shop
    }

    pub fn pki(&self) -> PathBuf {
        self.path("pki")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn authority(&self) -> Authority {
        Authority::open(&self.pki()).unwrap()
    }

    /// The files of a new certificate.
    pub fn issue(&self, machine: &str) -> TlsFiles {
        let identity: MachineIdentity = machine.parse().unwrap();
        let coordinator = matches!(identity, MachineIdentity::Coordinator { .. });
        let hosts = if coordinator { vec!["localhost".to_owned(), "127.0.0.1".to_owned()] } else { vec![] };
        let out = self.path(&machine.replace("drover://", "").replace('/', "-"));
        self.authority().issue(&Wanted { identity, hosts, lifetime: LIFE }, &out).unwrap();
        TlsFiles::in_directory(&out)
    }

    /// What the authority would never issue, signed by its key.
    pub fn forge(&self, name: &str, uris: &[&str], change: impl FnOnce(&mut CertificateParams)) -> TlsFiles {
        let (out, text) =
            (self.path(name), |file: &str| std::fs::read_to_string(self.pki().join(file)).unwrap());
        let key = KeyPair::from_pem(&text("ca.key")).unwrap();
        let issuer = Issuer::from_ca_cert_pem(&text("ca.pem"), key).unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names =
            uris.iter().map(|uri| SanType::URI((*uri).to_owned().try_into().unwrap())).collect();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2040, 1, 1);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        std::fs::create_dir(&out).unwrap();
        let files = TlsFiles::in_directory(&out);
        std::fs::write(&files.certificate, certificate.pem()).unwrap();
        private(&files.key, &key.serialize_pem());
        std::fs::write(&files.ca, text("ca.pem")).unwrap();
        std::fs::write(files.crl.as_ref().unwrap(), text("crl.pem")).unwrap();
        files
    }
}

fn private(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}
