//! The relay's certificate: self-made, pinned by clients, kept in files if the operator says where.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use sha2::{Digest, Sha256};

use crate::config::{CertificateFiles, Fingerprint};

/// A certificate chain and its key.
#[derive(Debug)]
pub struct Certificate {
    /// The relay's own first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file that cannot be read or written.
    #[error("cannot {verb} {path}", path = path.display())]
    File {
        /// What was to be done.
        verb: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file with something else in it.
    #[error("{path} holds no {what} in PEM form", path = path.display())]
    Content {
        /// What was looked for.
        what: &'static str,
        /// Where.
        path: PathBuf,
    },
    /// One of the two files is there, the other is not.
    #[error("{there} exists and {missing} does not", there = there.display(), missing = missing.display())]
    Half {
        /// The file that exists.
        there: PathBuf,
        /// The one that does not.
        missing: PathBuf,
    },
    /// The certificate could not be made.
    #[error("cannot make a certificate")]
    Make(#[from] rcgen::Error),
}

impl CertificateError {
    /// Whether who started the relay is at fault.
    pub(crate) fn is_configuration(&self) -> bool {
        match self {
            Self::File { .. } | Self::Content { .. } | Self::Half { .. } => true,
            Self::Make(_) => false,
        }
    }
}

impl Certificate {
    /// Reads the certificate from `files`, makes it there if both are missing, or makes one for this start only.
    ///
    /// # Errors
    /// [`CertificateError`]; nothing was overwritten.
    pub fn obtain(files: Option<&CertificateFiles>) -> Result<Self, CertificateError> {
        let Some(CertificateFiles { cert, key }) = files else {
            return Ok(Self::make()?.0);
        };
        match (cert.exists(), key.exists()) {
            (true, true) => Self::read(cert, key),
            (false, false) => {
                let (made, pems) = Self::make()?;
                // The key first: a certificate without its key would be half a pair.
                write_new(key, 0o600, &pems.key)?;
                write_new(cert, 0o644, &pems.cert)?;
                Ok(made)
            }
            (true, false) => Err(half(cert, key)),
            (false, true) => Err(half(key, cert)),
        }
    }

    /// SHA-256 of the relay's own certificate.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.chain.first().map_or(&[], |cert| cert.as_ref()))
    }

    fn read(cert: &Path, key: &Path) -> Result<Self, CertificateError> {
        let content = |what, path: &Path| CertificateError::Content {
            what,
            path: path.to_owned(),
        };
        let pem = read(cert)?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        let chain = chain.ok().filter(|chain| !chain.is_empty());
        let chain = chain.ok_or_else(|| content("certificate", cert))?;
        let key_der = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|_| content("private key", key))?;
        Ok(Self { chain, key: key_der })
    }

    fn make() -> Result<(Self, Pems), CertificateError> {
        let key = KeyPair::generate()?;
        let cert = CertificateParams::new(vec!["wzp-relay".to_owned()])?.self_signed(&key)?;
        let pems = Pems {
            cert: cert.pem(),
            key: key.serialize_pem(),
        };
        let made = Self {
            chain: vec![cert.der().clone()],
            key: PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        };
        Ok((made, pems))
    }
}

/// A key that exists in memory only, and the request for a certificate that it signs.
pub(crate) struct Request {
    /// Its key.
    pub(crate) key: PrivateKeyDer<'static>,
    /// PKCS #10, DER.
    pub(crate) csr: Vec<u8>,
}

impl Request {
    pub(crate) fn make() -> Result<Self, CertificateError> {
        let key = KeyPair::generate()?;
        let csr = CertificateParams::new(Vec::new())?.serialize_request(&key)?;
        Ok(Self {
            key: PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            csr: csr.der().to_vec(),
        })
    }
}

impl Fingerprint {
    /// That of a certificate in DER form.
    pub fn of(certificate: &[u8]) -> Self {
        Self(Sha256::digest(certificate).into())
    }
}

struct Pems {
    cert: String,
    key: String,
}

fn half(there: &Path, missing: &Path) -> CertificateError {
    CertificateError::Half {
        there: there.to_owned(),
        missing: missing.to_owned(),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    fs::read(path).map_err(|source| CertificateError::File {
        verb: "read",
        path: path.to_owned(),
        source,
    })
}

fn write_new(path: &Path, mode: u32, content: &str) -> Result<(), CertificateError> {
    let open = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path);
    open.and_then(|mut file| file.write_all(content.as_bytes()))
        .map_err(|source| CertificateError::File {
            verb: "create",
            path: path.to_owned(),
            source,
        })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn files(name: &str) -> CertificateFiles {
        let dir = std::env::temp_dir().join(format!("wzp-cert-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).unwrap();
        CertificateFiles {
            cert: dir.join("cert.pem"),
            key: dir.join("key.pem"),
        }
    }

    #[test]
    fn is_made_once_kept_private_and_read_back() {
        let files = files("made");
        let made = Certificate::obtain(Some(&files)).unwrap();
        let read = Certificate::obtain(Some(&files)).unwrap();
        assert_eq!(made.fingerprint(), read.fingerprint());
        assert_eq!(made.key, read.key);
        assert_eq!(
            fs::metadata(&files.key).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_ne!(
            Certificate::obtain(None).unwrap().fingerprint(),
            made.fingerprint()
        );
    }

    #[test]
    fn half_a_pair_and_something_else_are_named() {
        let files = files("half");
        fs::write(&files.cert, "not a certificate").unwrap();
        let half = Certificate::obtain(Some(&files)).unwrap_err().to_string();
        assert!(half.contains("key.pem does not"), "{half}");
        fs::write(&files.key, "not a key").unwrap();
        let content = Certificate::obtain(Some(&files)).unwrap_err().to_string();
        assert!(content.contains("no certificate"), "{content}");
    }
}
