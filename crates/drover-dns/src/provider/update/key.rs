//! The key that signs updates, read from its file for every change: a new secret counts without a restart, and a file
//! that is missing keeps nobody from starting.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use domain::base::name::Name;
use domain::tsig::{Algorithm, Key};
use domain::utils::base64;
use drover_model::config::{TsigAlgorithm, TsigKey};
use tokio::io::AsyncReadExt;

/// What RFC 8945 calls the least: half the shortest digest that is left.
const SECRET_BYTES_MIN: usize = 16;
/// No digest's block is longer, and a longer secret is hashed first; what is longer is another file.
const FILE_BYTES_MAX: u64 = 4096;

/// Why a key can't be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum UnusableKey {
    #[error("cannot read the TSIG secret {}", file.display())]
    Unreadable {
        file: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the TSIG secret {} has more than {FILE_BYTES_MAX} bytes, as no secret has", file.display())]
    TooLong { file: PathBuf },
    #[error("the TSIG secret {} is not base64: {reason}", file.display())]
    NotBase64 { file: PathBuf, reason: String },
    #[error("the TSIG secret {} has {bytes} bytes, at least {SECRET_BYTES_MIN} are needed", file.display())]
    TooShort { file: PathBuf, bytes: usize },
    #[error("cannot use the TSIG key \"{name}\": {reason}")]
    BadName { name: String, reason: String },
}

/// The key with its secret.
pub(super) async fn load(key: &TsigKey) -> Result<Arc<Key>, UnusableKey> {
    let file = || key.secret_file.clone();
    let unreadable = |source| UnusableKey::Unreadable { file: file(), source };
    let mut text = String::new();
    let opened = tokio::fs::File::open(&key.secret_file).await.map_err(unreadable)?;
    opened.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).await.map_err(unreadable)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(UnusableKey::TooLong { file: file() });
    }
    let secret: Vec<u8> = base64::decode(text.trim())
        .map_err(|e| UnusableKey::NotBase64 { file: file(), reason: e.to_string() })?;
    if secret.len() < SECRET_BYTES_MIN {
        return Err(UnusableKey::TooShort { file: file(), bytes: secret.len() });
    }
    let algorithm = match key.algorithm {
        TsigAlgorithm::HmacSha256 => Algorithm::Sha256,
        TsigAlgorithm::HmacSha384 => Algorithm::Sha384,
        TsigAlgorithm::HmacSha512 => Algorithm::Sha512,
    };
    let refuse = |reason: String| UnusableKey::BadName { name: key.name.clone(), reason };
    let name: Name<_> =
        key.name.parse().map_err(|e: domain::base::name::FromStrError| refuse(e.to_string()))?;
    Key::new(algorithm, &secret, name, None, None).map(Arc::new).map_err(|e| refuse(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(directory: &tempfile::TempDir, secret: &str) -> TsigKey {
        let secret_file = directory.path().join("secret");
        std::fs::write(&secret_file, secret).unwrap();
        TsigKey { name: "drover".into(), algorithm: TsigAlgorithm::HmacSha256, secret_file }
    }

    #[tokio::test]
    async fn a_secret_is_base64_and_long_enough_and_otherwise_the_file_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let good = key(&directory, "MDEyMzQ1Njc4OWFiY2RlZg==\n");
        assert_eq!(load(&good).await.unwrap().name().to_string(), "drover");
        for (secret, why) in [
            ("MDEyMzQ1Njc4OWFi", "has 12 bytes, at least 16"),
            ("secret \"MDEyMzQ1Njc4OWFiY2RlZg==\"", "is not base64"),
            ("", "has 0 bytes"),
            (&"A".repeat(4097), "has more than 4096 bytes"),
        ] {
            let refused = load(&key(&directory, secret)).await.unwrap_err().to_string();
            let file = directory.path().join("secret").display().to_string();
            assert!(refused.contains(why) && refused.contains(&file), "{refused}");
        }
        let absent = TsigKey { secret_file: directory.path().join("absent"), ..good };
        assert!(matches!(load(&absent).await, Err(UnusableKey::Unreadable { .. })));
    }
}
