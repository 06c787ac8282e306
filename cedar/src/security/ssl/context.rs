//! TLS settings and the files that go into them.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::{PoisonError, RwLock};

use openssl::error::ErrorStack;
use openssl::ssl::{
    Ssl, SslContext, SslContextBuilder, SslFiletype, SslMethod, SslOptions, SslSessionCacheMode,
    SslVerifyMode, SslVersion,
};
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::verify::X509VerifyFlags;
use openssl::x509::{X509StoreContextRef, X509VerifyResult};

use x509_parser::pem::Pem;

use super::known_hosts::KnownHosts;
use super::{Authorities, SslClientFiles, SslError, SslServerFiles};

/// Any text: it only keeps sessions of one purpose from another's.
const SESSION_PURPOSE: &[u8] = b"cedar";

/// A server's certificate and authorities, loaded.
pub struct SslServer {
    files: SslServerFiles,
    context: RwLock<SslContext>,
}

/// A client's authorities and, if it has one, its certificate, loaded.
#[derive(Clone)]
pub struct SslClient {
    files: SslClientFiles,
    context: SslContext,
    known: KnownHosts,
    ends: Option<i64>,
}

impl SslServer {
    /// Reads the files. This blocks.
    ///
    /// # Errors
    ///
    /// [`SslError`].
    pub fn load(files: SslServerFiles) -> Result<Self, SslError> {
        let context = RwLock::new(Self::read(&files)?);
        Ok(Self { files, context })
    }

    /// Reads the files again, for renewed certificates and authorities. This blocks. What was loaded
    /// before stays in use if they cannot be used.
    ///
    /// # Errors
    ///
    /// [`SslError`].
    pub fn reload(&self) -> Result<(), SslError> {
        let fresh = Self::read(&self.files)?;
        *self.context.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    fn read(files: &SslServerFiles) -> Result<SslContext, SslError> {
        let mut builder = builder(SslMethod::tls_server())?;
        identity(&mut builder, &files.certificate, &files.key)?;
        authorities(&mut builder, &files.authorities, files.allow_proxy)?;
        let mut mode = SslVerifyMode::PEER;
        if files.require_client_certificate {
            mode |= SslVerifyMode::FAIL_IF_NO_PEER_CERT;
        }
        builder.set_verify_callback(mode, without_list);
        builder.set_session_id_context(SESSION_PURPOSE)?;
        builder.set_session_cache_mode(SslSessionCacheMode::OFF);
        Ok(builder.build())
    }

    /// A server without a certificate, which can read what clients send and prove nothing.
    pub(crate) fn unable() -> Result<Self, SslError> {
        let nowhere = std::path::PathBuf::new;
        let files = SslServerFiles {
            certificate: nowhere(),
            key: nowhere(),
            authorities: Authorities::default(),
            require_client_certificate: false,
            allow_proxy: true,
        };
        let context = RwLock::new(builder(SslMethod::tls_server())?.build());
        Ok(Self { files, context })
    }

    /// The files this was loaded from.
    pub fn files(&self) -> &SslServerFiles {
        &self.files
    }

    pub(crate) fn with_context<T>(&self, work: impl FnOnce(&SslContext) -> T) -> T {
        work(&self.context.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl SslClient {
    /// Reads the files. This blocks.
    ///
    /// # Errors
    ///
    /// [`SslError`].
    pub fn load(files: SslClientFiles) -> Result<Self, SslError> {
        let mut builder = builder(SslMethod::tls_client())?;
        let mut ends = None;
        if let Some(certificate) = &files.certificate {
            let key = files.key.as_ref().unwrap_or(certificate);
            identity(&mut builder, certificate, key)?;
            ends = end_of_chain(certificate);
        }
        authorities(&mut builder, &files.authorities, false)?;
        let paths = files.known_hosts.iter().map(AsRef::as_ref);
        let known = KnownHosts::read(paths).map_err(|(path, error)| SslError::KnownHosts {
            path: path.to_owned(),
            why: error.to_string(),
        })?;
        Ok(Self {
            files,
            context: builder.build(),
            known,
            ends,
        })
    }

    /// The files this was loaded from.
    pub fn files(&self) -> &SslClientFiles {
        &self.files
    }

    /// The file of our certificate, if we have one.
    pub fn certificate(&self) -> Option<&Path> {
        self.files.certificate.as_deref()
    }

    /// Unix time at which the first certificate of our chain ends.
    pub fn ends(&self) -> Option<i64> {
        self.ends
    }

    /// The beginning of a connection to a server whose certificate must be for `host`.
    pub(crate) fn connection(&self, host: &str) -> Result<Ssl, ErrorStack> {
        let mut ssl = Ssl::new(&self.context)?;
        ssl.set_hostname(host)?;
        // The library compares the name with the certificate as part of its verification.
        ssl.param_mut().set_host(host)?;
        let (known, name) = (self.known.clone(), host.to_owned());
        ssl.set_verify_callback(SslVerifyMode::PEER, move |is_good, context| {
            without_list(is_good, context) || is_known(&known, &name, context)
        });
        Ok(ssl)
    }
}

impl fmt::Debug for SslServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SslServer").field(&self.files).finish()
    }
}

impl fmt::Debug for SslClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SslClient").field(&self.files).finish()
    }
}

fn builder(method: SslMethod) -> Result<SslContextBuilder, ErrorStack> {
    let mut builder = SslContext::builder(method)?;
    builder.set_min_proto_version(Some(SslVersion::TLS1_2))?;
    builder.set_options(SslOptions::NO_RENEGOTIATION | SslOptions::NO_COMPRESSION);
    Ok(builder)
}

fn identity(
    builder: &mut SslContextBuilder,
    certificate: &Path,
    key: &Path,
) -> Result<(), SslError> {
    let cannot = |what, path: &Path| {
        let path = path.to_owned();
        move |source| SslError::File { what, path, source }
    };
    builder
        .set_certificate_chain_file(certificate)
        .map_err(cannot("certificate", certificate))?;
    builder
        .set_private_key_file(key, SslFiletype::PEM)
        .map_err(cannot("private key", key))?;
    builder.check_private_key().map_err(|_| SslError::OtherKey {
        key: key.to_owned(),
        certificate: certificate.to_owned(),
    })
}

/// When the first certificate in a file of PEM ends; what is not a certificate is passed over.
fn end_of_chain(path: &Path) -> Option<i64> {
    let text = zeroize::Zeroizing::new(std::fs::read(path).ok()?);
    Pem::iter_from_buffer(&text)
        .filter_map(Result::ok)
        .filter(|block| block.label == "CERTIFICATE")
        .filter_map(|block| Some(block.parse_x509().ok()?.validity().not_after.timestamp()))
        .min()
}

fn authorities(
    builder: &mut SslContextBuilder,
    places: &Authorities,
    allow_proxy: bool,
) -> Result<(), SslError> {
    let mut store = X509StoreBuilder::new()?;
    if places.system {
        store.set_default_paths()?;
    }
    builder.set_cert_store(store.build());
    if places.file.is_some() || places.directory.is_some() {
        let file = places.file.as_deref();
        let directory = places.directory.as_deref();
        builder
            .load_verify_locations(file, directory)
            .map_err(|source| SslError::File {
                what: "list of authorities",
                path: file
                    .or(directory)
                    .unwrap_or_else(|| Path::new(""))
                    .to_owned(),
                source,
            })?;
    }
    // Revocation lists are those in the same file or directory (`HASH.r0`, as fetch-crl leaves them).
    let mut flags = X509VerifyFlags::CRL_CHECK | X509VerifyFlags::CRL_CHECK_ALL;
    if allow_proxy {
        flags |= X509VerifyFlags::ALLOW_PROXY_CERTS;
    }
    builder.verify_param_mut().set_flags(flags)?;
    Ok(())
}

/// Whether all that is wrong is that no authority vouches for a certificate, and it is known to be the server's.
fn is_known(known: &KnownHosts, host: &str, context: &mut X509StoreContextRef) -> bool {
    // X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT, _SELF_SIGNED_CERT_IN_CHAIN, _UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
    // _UNABLE_TO_VERIFY_LEAF_SIGNATURE
    const NOBODY_VOUCHES: RangeInclusive<i32> = 18..=21;
    let is_stranger = NOBODY_VOUCHES.contains(&context.error().as_raw());
    let certificate = context.current_cert().and_then(|found| found.to_der().ok());
    let is_known = is_stranger && certificate.is_some_and(|der| known.trusts(host, &der));
    if is_known {
        context.set_error(X509VerifyResult::OK);
    }
    is_known
}

/// An authority that has no revocation list revokes nothing. One that is there is obeyed, and has to be in order.
fn without_list(is_good: bool, context: &mut X509StoreContextRef) -> bool {
    const NO_LIST: i32 = 3; // X509_V_ERR_UNABLE_TO_GET_CRL
    if !is_good && context.error().as_raw() == NO_LIST {
        context.set_error(X509VerifyResult::OK);
        return true;
    }
    is_good
}
