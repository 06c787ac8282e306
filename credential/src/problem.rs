//! The reasons for a refusal: one variant a reason, each with a stable code and a sentence that
//! follows the name of the certificate it is about.

use std::io;
use std::path::PathBuf;

use crate::date::Utc;
use crate::error::Role;

/// The file is not a usable bundle of certificates and one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BundleProblem {
    /// No byte, or no PEM certificate in it.
    #[error(
        "the credential holds no certificate; send a PEM file as grid-proxy-init or voms-proxy-init writes it"
    )]
    Empty,
    /// More than [`MAX_BUNDLE_BYTES`](crate::MAX_BUNDLE_BYTES).
    #[error("the credential is larger than {limit} bytes; a proxy file has a few thousand")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// More than [`MAX_CERTIFICATES`](crate::MAX_CERTIFICATES).
    #[error(
        "the credential holds more than {limit} certificates; make a new proxy from the user certificate"
    )]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// A NUL byte.
    #[error("the credential contains a NUL byte, so it is not PEM text; send the file unconverted")]
    NulByte,
    /// A block without end, bad base64, or bytes after the certificate inside its block.
    #[error(
        "the PEM block that begins on line {line} is damaged; copy or make the credential again"
    )]
    Malformed {
        /// Line number of its BEGIN line, from 1.
        line: usize,
    },
    /// The key is protected by a pass phrase.
    #[error(
        "the private key in the credential is encrypted; use a proxy, whose key has no pass phrase"
    )]
    KeyEncrypted,
    /// More than one private key.
    #[error("the credential holds more than one private key; exactly one is allowed")]
    TwoKeys,
    /// No private key, and one is required.
    #[error(
        "the credential holds no private key; send the whole proxy file, not only its certificates"
    )]
    NoKey,
    /// The key block could not be read, is of an unknown kind, or is inconsistent in itself.
    #[error("the private key in the credential is not a sound RSA or EC key; make a new proxy")]
    KeyMalformed,
    /// The key belongs to another certificate.
    #[error(
        "the private key does not belong to the first certificate of the credential; make a new proxy"
    )]
    KeyMismatch,
}

impl BundleProblem {
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Empty => "bundle.empty",
            Self::TooLarge { .. } => "bundle.too-large",
            Self::TooMany { .. } => "bundle.too-many",
            Self::NulByte => "bundle.nul",
            Self::Malformed { .. } => "bundle.malformed",
            Self::KeyEncrypted => "bundle.key-encrypted",
            Self::TwoKeys => "bundle.two-keys",
            Self::NoKey => "bundle.no-key",
            Self::KeyMalformed => "bundle.key-malformed",
            Self::KeyMismatch => "bundle.key-mismatch",
        }
    }
}

/// One certificate is wrong whatever its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateProblem {
    /// Not a DER certificate.
    #[error("cannot be read as an X.509 certificate; copy or make the credential again")]
    Malformed,
    /// Version 1 or 2 (RFC 5280 4.1.2.1).
    #[error("is of version {0}, not 3; it has to be issued again with extensions")]
    Version(u32),
    /// The signature algorithm inside differs from the one outside (RFC 5280 4.1.1.2).
    #[error("names two different signature algorithms; it has to be issued again")]
    AlgorithmsDiffer,
    /// A critical extension nobody here understands (RFC 5280 4.2).
    #[error(
        "has the critical extension {0}, which is not understood here; it has to be issued without it"
    )]
    UnknownCritical(String),
    /// The same extension twice (RFC 5280 4.2).
    #[error("has the extension {0} twice; it has to be issued again")]
    RepeatedExtension(String),
    /// A known extension with unreadable content.
    #[error("has an unreadable extension {0}; it has to be issued again")]
    MalformedExtension(String),
    /// After its end.
    #[error("expired on {}; {}", Utc(*.not_after), .role.remedy())]
    Expired {
        /// End of validity, Unix seconds.
        not_after: i64,
        /// Whose certificate, for the code and the advice.
        role: Role,
    },
    /// Before its start.
    #[error("is not valid before {}; check the clocks of this node and of the machine that made it", Utc(*.not_before))]
    NotYetValid {
        /// Start of validity, Unix seconds.
        not_before: i64,
        /// Whose certificate, for the code.
        role: Role,
    },
    /// Less validity left than asked for.
    #[error("ends on {}, sooner than the {minimum} seconds from now that are required; renew it", Utc(*.not_after))]
    EndsSoon {
        /// End of validity, Unix seconds.
        not_after: i64,
        /// The minimum that must be left, seconds.
        minimum: i64,
    },
    /// On the revocation list of its CA.
    #[error("was revoked by its CA on {}; {}", Utc(*.since), .role.remedy())]
    Revoked {
        /// When, Unix seconds.
        since: i64,
        /// Whose certificate, for the code and the advice.
        role: Role,
    },
    /// Valid for longer than is accepted.
    #[error("is valid for {seconds} seconds, and at most {maximum} are accepted; {}", .role.remedy())]
    TooLong {
        /// Its validity, seconds.
        seconds: i64,
        /// What is accepted, seconds.
        maximum: i64,
        /// Whose certificate, for the advice.
        role: Role,
    },
    /// An RSA key outside the accepted sizes.
    #[error("has an RSA key of {bits} bits; {minimum} to {maximum} are accepted")]
    KeySize {
        /// Its size.
        bits: usize,
        /// Smallest accepted size.
        minimum: usize,
        /// Largest accepted size.
        maximum: usize,
    },
    /// Neither RSA nor a named curve P-256, P-384, P-521.
    #[error(
        "has a public key of a kind that is not accepted; RSA and the curves P-256, P-384 and P-521 are"
    )]
    KeyKind,
    /// MD5 and the like, or SHA-1 where it is not allowed.
    #[error(
        "is signed with {0}, which is not accepted; it has to be issued with SHA-256 or better"
    )]
    WeakSignature(&'static str),
    /// A signature algorithm outside the list.
    #[error("is signed with the algorithm {0}, which is not accepted; RSA or ECDSA with SHA-2 are")]
    SignatureKind(String),
}

impl Role {
    pub(crate) fn remedy(self) -> &'static str {
        match self {
            Self::Proxy => "make a new proxy and submit the job again",
            Self::User => "the user needs a new certificate from the CA",
            Self::Ca => "the administrator has to update the directory of trusted CAs",
            Self::Unknown => "a new one is needed",
        }
    }

    pub(crate) fn expired_code(self) -> &'static str {
        match self {
            Self::Proxy => "proxy.expired",
            Self::User | Self::Unknown => "cert.expired",
            Self::Ca => "ca.expired",
        }
    }

    pub(crate) fn not_yet_code(self) -> &'static str {
        match self {
            Self::Proxy => "proxy.not-yet-valid",
            Self::User | Self::Unknown => "cert.not-yet-valid",
            Self::Ca => "ca.not-yet-valid",
        }
    }
}

impl CertificateProblem {
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Malformed => "cert.malformed",
            Self::Version(_) => "cert.version",
            Self::AlgorithmsDiffer => "cert.algorithms",
            Self::UnknownCritical(_) => "cert.critical",
            Self::RepeatedExtension(_) => "cert.repeated",
            Self::MalformedExtension(_) => "cert.extension",
            Self::Expired { role, .. } => role.expired_code(),
            Self::NotYetValid { role, .. } => role.not_yet_code(),
            Self::EndsSoon { .. } => "proxy.ends-soon",
            Self::Revoked { role: Role::Ca, .. } => "ca.revoked",
            Self::Revoked { .. } => "cert.revoked",
            Self::TooLong { .. } => "proxy.lifetime",
            Self::KeySize { .. } => "cert.key-size",
            Self::KeyKind => "cert.key-kind",
            Self::WeakSignature(_) => "cert.weak-signature",
            Self::SignatureKind(_) => "cert.signature-kind",
        }
    }
}

/// A name cannot be used for mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameProblem {
    /// Not a DER name.
    #[error("has a name that cannot be read; it has to be issued again")]
    Malformed,
    /// No RDN at all.
    #[error("has an empty subject, so nobody could be mapped; it has to be issued with a subject")]
    Empty,
    /// Control characters, line breaks and NUL included.
    #[error(
        "has control characters in its name, which are never mapped; it has to be issued again"
    )]
    Control,
    /// A value that is not text.
    #[error("has a name with a value that is not text; it has to be issued again")]
    NotText,
}

impl NameProblem {
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Malformed => "name.malformed",
            Self::Empty => "name.empty",
            Self::Control => "name.control",
            Self::NotText => "name.not-text",
        }
    }
}

/// The certificates do not form a path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainProblem {
    /// The issuer is neither in the bundle nor in the CA directory.
    #[error(
        "was issued by '{issuer}', which is neither in the credential nor among the CAs trusted here; if that CA should be trusted, the administrator has to add it"
    )]
    Untrusted {
        /// The missing issuer, escaped.
        issuer: String,
    },
    /// The bundle ends before the user certificate.
    #[error(
        "is a proxy issued by '{issuer}', whose certificate is missing; send the whole proxy file with all its certificates"
    )]
    Incomplete {
        /// The missing issuer, escaped.
        issuer: String,
    },
    /// A CA of that name is trusted, but with another key.
    #[error(
        "names a CA that is trusted here with another key; either the credential is forged or the directory of trusted CAs is out of date"
    )]
    OtherKey,
    /// The certificate of the issuer's name has another key than the child says.
    #[error(
        "was issued by '{issuer}', but not with the key of the certificate of that name in the credential (authority key identifier); make a new proxy"
    )]
    OtherIssuer {
        /// The issuer, escaped.
        issuer: String,
    },
    /// A self-signed certificate that is not in the CA directory.
    #[error("is self-signed and not among the CAs trusted here")]
    SelfSigned,
    /// A certificate that is no part of the path.
    #[error(
        "does not belong to the chain of the first certificate; remove it, or make a new proxy"
    )]
    Stray,
    /// The path is longer than the limit, or goes round in circles.
    #[error("needs a path of more than {0} certificates")]
    TooLong(usize),
    /// The signature is wrong.
    #[error(
        "carries a signature that its issuer did not make; the credential is damaged or forged"
    )]
    Signature,
    /// The first certificate is a CA.
    #[error("is a CA certificate; a credential begins with a proxy or a user certificate")]
    NoEndEntity,
    /// Something that is not a CA issued another certificate that is not a proxy.
    #[error("has issued another certificate without being a CA (basic constraints)")]
    IssuerNotCa,
    /// A CA without the right to sign certificates (RFC 5280 6.1.4 n).
    #[error("is a CA without the right to sign certificates (key usage)")]
    CaKeyUsage,
    /// More CAs below it than it allows (RFC 5280 6.1.4 l, m).
    #[error("allows {allowed} CAs below it, and there are more")]
    PathLength {
        /// Its limit.
        allowed: u32,
    },
    /// Outside the name constraints of a CA.
    #[error("has a name that one of its CAs may not issue (name constraints)")]
    NameConstraints,
    /// Against the policy constraints of a CA.
    #[error("has no certificate policy that one of its CAs demands (policy constraints)")]
    Policy,
    /// Outside what its CA may certify, by its signing policy and namespaces.
    #[error(
        "has a name that its CA '{ca}' may not certify (signing policy); either the certificate is forged, or the administrator has to update the CA's files"
    )]
    Namespace {
        /// The CA, escaped.
        ca: String,
    },
    /// OpenSSL refuses for a reason without a code of its own.
    #[error("is refused by OpenSSL with error {number}: {text}")]
    Refused {
        /// `X509_V_ERR_*`.
        number: i32,
        /// OpenSSL's words for it.
        text: &'static str,
    },
}

impl ChainProblem {
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Untrusted { .. } | Self::SelfSigned => "chain.untrusted",
            Self::Incomplete { .. } => "chain.incomplete",
            Self::OtherKey | Self::OtherIssuer { .. } => "chain.other-key",
            Self::Stray => "bundle.stray",
            Self::TooLong(_) => "chain.too-long",
            Self::Signature => "chain.signature",
            Self::NoEndEntity => "chain.no-end-entity",
            Self::IssuerNotCa => "chain.issuer",
            Self::CaKeyUsage => "chain.key-usage",
            Self::PathLength { .. } => "chain.pathlen",
            Self::NameConstraints => "chain.name-constraints",
            Self::Policy => "chain.policy",
            Self::Namespace { .. } => "chain.namespace",
            Self::Refused { .. } => "chain.refused",
        }
    }
}

/// A proxy certificate breaks RFC 3820, or is of a kind that is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyProblem {
    /// Pre-RFC Globus proxy (`CN=proxy`).
    #[error(
        "is a proxy of the old Globus kind, which is not accepted; make it with `grid-proxy-init -rfc` or `voms-proxy-init -rfc`"
    )]
    Legacy,
    /// Draft (GT3) proxy extension.
    #[error(
        "is a proxy of the draft (GT3) kind, which is not accepted; make it with `grid-proxy-init -rfc`"
    )]
    Draft,
    /// RFC and draft extension in one certificate.
    #[error("carries the proxy extensions of two kinds; make a new proxy")]
    TwoKinds,
    /// A proxy signed by a CA.
    #[error(
        "is a proxy issued by a CA; only user certificates and proxies may issue one (RFC 3820 3.1); make a new proxy of the user's certificate"
    )]
    IssuerIsCa,
    /// Its issuer may not sign (RFC 3820 3.1, RFC 5280 4.2.1.3).
    #[error(
        "was issued by a certificate whose key usage lacks digitalSignature, so that it may not make proxies; the user needs another certificate from the CA"
    )]
    IssuerKeyUsage,
    /// Subject or issuer alternative name (RFC 3820 3.2, 3.5).
    #[error(
        "has an alternative name, which a proxy must not have (RFC 3820 3.2, 3.5); make a new proxy"
    )]
    AlternativeName,
    /// Subject is not issuer plus one CN (RFC 3820 3.4).
    #[error(
        "has a subject that is not its issuer's name plus one CN (RFC 3820 3.4); make a new proxy"
    )]
    Subject,
    /// keyCertSign or cRLSign (RFC 3820 3.6).
    #[error(
        "claims the right to sign certificates or CRLs, which a proxy must not have (RFC 3820 3.6); make a new proxy"
    )]
    KeyUsage,
    /// basicConstraints cA (RFC 3820 3.7).
    #[error("claims to be a CA, which a proxy must not be (RFC 3820 3.7); make a new proxy")]
    Ca,
    /// The proxy extension is not critical (RFC 3820 3.8).
    #[error("has a proxy extension that is not marked critical (RFC 3820 3.8); make a new proxy")]
    NotCritical,
    /// The proxy extension is not readable.
    #[error("has a proxy extension that cannot be read (RFC 3820 3.8); make a new proxy")]
    Extension,
    /// More proxies below it than it allows (RFC 3820 3.8.1).
    #[error(
        "allows {allowed} proxies below it, and there are more (RFC 3820 3.8.1); make it with a larger -path-length, or delegate it fewer times"
    )]
    PathLength {
        /// Its limit.
        allowed: u32,
    },
    /// A policy language that is not accepted (RFC 3820 3.8.2).
    #[error(
        "has the policy language {0}; only full (inherit-all) and limited proxies are accepted; make a new proxy without -policy and -independent"
    )]
    Policy(String),
    /// Policy octets with a language that has none.
    #[error(
        "carries a policy text although its policy language has none (RFC 3820 3.8.2); make a new proxy without -policy"
    )]
    PolicyText,
    /// Proxies of two kinds in one path.
    #[error("is a proxy of another kind than the one it was made from; make a new proxy")]
    Mixed,
    /// A full proxy below a limited one.
    #[error(
        "is a full proxy made from a limited one; only limited proxies may follow, so make a new one from the user's certificate"
    )]
    FullBelowLimited,
    /// Limited proxies are not accepted by configuration.
    #[error(
        "makes this a limited proxy, and those are not accepted here; make a full one, or where the job's submit side limits it, set DELEGATE_FULL_JOB_GSI_CREDENTIALS = True there"
    )]
    LimitedRefused,
    /// Only limited proxies are accepted by configuration.
    #[error("is not a limited proxy, and only those are accepted here; make one with -limited")]
    LimitedRequired,
}

impl ProxyProblem {
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Legacy => "proxy.legacy",
            Self::Draft => "proxy.draft",
            Self::TwoKinds => "proxy.two-kinds",
            Self::IssuerIsCa | Self::IssuerKeyUsage => "proxy.issuer",
            Self::AlternativeName => "proxy.alternative-name",
            Self::Subject => "proxy.subject",
            Self::KeyUsage => "proxy.key-usage",
            Self::Ca => "proxy.ca",
            Self::NotCritical | Self::Extension => "proxy.extension",
            Self::PathLength { .. } => "proxy.pathlen",
            Self::Policy(_) | Self::PolicyText => "proxy.policy",
            Self::Mixed => "proxy.mixed",
            Self::FullBelowLimited => "proxy.full-below-limited",
            Self::LimitedRefused | Self::LimitedRequired => "proxy.limited",
        }
    }
}

/// A certificate revocation list cannot be used (rule C13).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CrlProblem {
    /// Not a CRL.
    #[error("it is not a certificate revocation list, or lacks its next update")]
    Malformed,
    /// Of another CA.
    #[error("it was issued by another CA")]
    Issuer,
    /// The CA did not sign it.
    #[error("the CA did not sign it")]
    Signature,
    /// The CA may not sign CRLs.
    #[error("the CA may not sign revocation lists (key usage)")]
    KeyUsage,
    /// MD5 and the like.
    #[error("its signature algorithm is not accepted")]
    WeakSignature,
    /// Its next update is over.
    #[error("it should have been replaced by {}", Utc(*.0))]
    Expired(i64),
    /// Before its start.
    #[error("it is not valid before {}", Utc(*.0))]
    NotYetValid(i64),
    /// A delta or indirect CRL, or one that covers only some certificates.
    #[error("it is a delta, indirect or partial list, which says too little")]
    Partial,
    /// A critical extension nobody here understands.
    #[error("it has the critical extension {0}, which is not understood here")]
    UnknownCritical(String),
}

impl CrlProblem {
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Malformed => "crl.malformed",
            Self::Issuer => "crl.issuer",
            Self::Signature => "crl.signature",
            Self::KeyUsage => "crl.key-usage",
            Self::WeakSignature => "crl.weak-signature",
            Self::Expired(_) => "crl.expired",
            Self::NotYetValid(_) => "crl.not-yet-valid",
            Self::Partial => "crl.partial",
            Self::UnknownCritical(_) => "crl.critical",
        }
    }
}

/// What decides about trust on this node could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// A file or the directory could not be read.
    #[error("what is trusted here cannot be read: {}; the administrator has to check that it exists and its permissions", path.display())]
    Unreadable {
        /// File or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file is not of its kind, or is too large.
    #[error("the file {} of what is trusted here cannot be understood; the administrator has to replace it", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// Somebody other than root can change a file.
    #[error("the file {} decides about trust and can be changed by others than root; the administrator has to give it to root and take write permission from group and others", path.display())]
    Writable {
        /// The file.
        path: PathBuf,
    },
    /// A CA has neither a signing policy nor namespaces, and that is not accepted (rule C14).
    #[error(
        "the CA '{ca}' has neither a signing_policy nor a namespaces file in the directory of trusted CAs, so it may certify nobody; the administrator has to install one"
    )]
    NamespaceMissing {
        /// The CA, escaped.
        ca: String,
    },
    /// A signing policy or namespaces file that cannot be understood permits nothing.
    #[error("the file {}, which says whom a CA may certify, cannot be understood near line {line}; the administrator has to replace it", path.display())]
    NamespaceMalformed {
        /// The file.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
    },
    /// There is no CRL of a CA, and one is required.
    #[error(
        "the CA '{ca}' has no certificate revocation list here, and one is required; the administrator has to fetch it"
    )]
    CrlMissing {
        /// The CA, escaped.
        ca: String,
    },
    /// A CRL that cannot be read, or is not that of the CA under whose name it is stored.
    #[error("the certificate revocation list {} cannot be used: {problem}; the administrator has to fetch it again, for example with fetch-crl", path.display())]
    Crl {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: CrlProblem,
    },
    /// Too many files carry one hash, or the directory is too large to search.
    #[error("the directory of trusted CAs holds too many files: {}", path.display())]
    TooMany {
        /// The directory.
        path: PathBuf,
    },
}

impl TrustError {
    /// Whether reading again later may work with nobody doing anything.
    pub(crate) fn retryable(&self) -> bool {
        match self {
            Self::Unreadable { source, .. } => !matches!(
                source.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
            ),
            _ => false,
        }
    }

    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "trust.unreadable",
            Self::Malformed { .. } => "trust.malformed",
            Self::Writable { .. } => "trust.writable",
            Self::TooMany { .. } => "trust.too-many",
            Self::NamespaceMissing { .. } => "namespace.missing",
            Self::NamespaceMalformed { .. } => "namespace.malformed",
            Self::CrlMissing { .. } => "crl.missing",
            Self::Crl { problem, .. } => problem.code(),
        }
    }
}
