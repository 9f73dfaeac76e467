//! Trust for upstreams whose certificates the system does not know.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tower::BoxError;

/// The system's certificates, and those of a PEM file.
pub(super) fn with_ca_file(path: &Path) -> Result<ClientConfig, BoxError> {
    let mut roots = RootCertStore::empty();
    for certificate in rustls_native_certs::load_native_certs().certs {
        // One odd certificate of the system must not keep the others from being used.
        let _ = roots.add(certificate);
    }
    let mut found = 0;
    for certificate in CertificateDer::pem_file_iter(path)? {
        roots.add(certificate?)?;
        found += 1;
    }
    if found == 0 {
        return Err("it holds no certificate".into());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}
