//! Which files prove who this machine is: flags before the environment, and these before what a file of drover's says.

use crate::args::TlsArgs;
use crate::failure::{Failure, Result};
use drover_pki::TlsFiles;
use std::path::PathBuf;

/// What was said, file by file, in flags or else in the environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    ca: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    crl: Option<PathBuf>,
}

impl Said {
    /// As this process was told.
    pub fn of(args: &TlsArgs) -> Self {
        Self::with(args, |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from))
    }

    fn with(args: &TlsArgs, env: impl Fn(&str) -> Option<PathBuf>) -> Self {
        Self {
            ca: args.ca.clone().or_else(|| env("DROVER_CA")),
            certificate: args.certificate.clone().or_else(|| env("DROVER_CERTIFICATE")),
            key: args.key.clone().or_else(|| env("DROVER_KEY")),
            crl: args.crl.clone().or_else(|| env("DROVER_CRL")),
        }
    }

    /// The files, each from here or else from `otherwise`; none where nothing was said anywhere.
    ///
    /// # Errors
    /// When some were said, and not all that it takes.
    pub fn files(self, otherwise: Option<&TlsFiles>) -> Result<Option<TlsFiles>> {
        let ca = self.ca.or_else(|| otherwise.map(|o| o.ca.clone()));
        let certificate = self.certificate.or_else(|| otherwise.map(|o| o.certificate.clone()));
        let key = self.key.or_else(|| otherwise.map(|o| o.key.clone()));
        let crl = self.crl.or_else(|| otherwise.and_then(|o| o.crl.clone()));
        match (ca, certificate, key, crl) {
            (Some(ca), Some(certificate), Some(key), crl) => Ok(Some(TlsFiles { ca, certificate, key, crl })),
            (None, None, None, None) => Ok(None),
            (ca, certificate, key, _) => {
                let named = [
                    ("--ca", ca.is_some()),
                    ("--certificate", certificate.is_some()),
                    ("--key", key.is_some()),
                ];
                let missing: Vec<&str> = named.iter().filter(|(_, is)| !is).map(|(name, _)| *name).collect();
                Err(Failure::usage(format!("TLS needs {}, too", missing.join(" and ")))
                    .hint("drover pki issue --help: it writes ca.pem, certificate.pem and key.pem into one directory"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_wins_and_half_of_it_is_refused() {
        let args = TlsArgs { ca: Some("flag-ca".into()), ..TlsArgs::default() };
        let env = |name: &str| (name != "DROVER_CRL").then(|| PathBuf::from(format!("env-{name}")));
        let files = Said::with(&args, env).files(None).unwrap().unwrap();
        assert_eq!(files.ca, PathBuf::from("flag-ca"));
        assert_eq!(files.certificate, PathBuf::from("env-DROVER_CERTIFICATE"));
        let context = TlsFiles::in_directory(std::path::Path::new("/t"));
        let files = Said::with(&args, |_| None).files(Some(&context)).unwrap().unwrap();
        assert_eq!((files.ca, files.key), ("flag-ca".into(), "/t/key.pem".into()));
        assert_eq!(Said::default().files(None).unwrap(), None);
        let half = Said::with(&args, |_| None).files(None).unwrap_err();
        assert!(half.message.contains("--certificate and --key"), "{}", half.message);
    }
}
