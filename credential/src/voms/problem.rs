//! Why attribute certificates are refused.

use crate::date::Utc;
use crate::error::VerifyError;

/// An attribute certificate of a credential is not accepted. The whole credential is refused with
/// it: rights that were meant and cannot be proved are no reason to run with others.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcProblem {
    /// Not DER of the expected shape.
    #[error("cannot be read; make a new proxy with voms-proxy-init")]
    Malformed,
    /// More than one credential may have.
    #[error(
        "is one of too many, or has more than {0} attributes; ask for fewer with voms-proxy-init"
    )]
    TooMany(usize),
    /// Not version 2 (RFC 5755 4.1).
    #[error("is not of version 2")]
    Version,
    /// The algorithm inside differs from the one outside.
    #[error("names two different signature algorithms")]
    AlgorithmsDiffer,
    /// The algorithm is too weak or unknown.
    #[error("is signed with an algorithm that is not accepted; RSA or ECDSA with SHA-2 are")]
    WeakSignature,
    /// It speaks about somebody else's certificate.
    #[error(
        "was issued to another certificate than the user's in this proxy; make a new proxy with voms-proxy-init"
    )]
    Holder,
    /// Its issuer is not one directory name, or not that of its signer.
    #[error("does not name its signer as its issuer")]
    Issuer,
    /// The VO or host in it cannot be used.
    #[error("names a VO or a server with characters that are not allowed, or none")]
    Vo,
    /// No such VO in the VOMS directory.
    #[error(
        "is of the VO '{vo}', whose servers are not known here; if it is supported, the administrator has to add {vo}/{host}.lsc to the VOMS directory"
    )]
    UnknownVo {
        /// The VO.
        vo: String,
        /// Its server.
        host: String,
    },
    /// No certificate of the signer.
    #[error(
        "comes from the server {host} of the VO '{vo}', for which there is neither {vo}/{host}.lsc with a certificate beside the attributes, nor a certificate in the VOMS directory; the administrator has to add one"
    )]
    NoSigner {
        /// The VO.
        vo: String,
        /// Its server.
        host: String,
    },
    /// The signer is not who the VOMS directory says.
    #[error(
        "was signed by '{signer}', and {vo}/{host}.lsc of the VOMS directory names other certificates; either it is forged, or the administrator has to update that file"
    )]
    Lsc {
        /// Subject of the signer, escaped.
        signer: String,
        /// The VO.
        vo: String,
        /// Its server.
        host: String,
    },
    /// A `.lsc` file that cannot be understood.
    #[error(
        "cannot be judged: {vo}/{host}.lsc of the VOMS directory is not a list of names, a signer and its issuers; the administrator has to correct it"
    )]
    LscMalformed {
        /// The VO.
        vo: String,
        /// Its server.
        host: String,
    },
    /// The path of the signer does not verify.
    #[error("was signed by a server whose certificate is not accepted: {0}")]
    Signer(Box<VerifyError>),
    /// The signer is a proxy, a CA, or may not sign.
    #[error("was signed by '{0}', which is no server certificate that may sign")]
    SignerKind(String),
    /// The signature is wrong.
    #[error("carries a signature that its signer did not make; it is damaged or forged")]
    Signature,
    /// After its end.
    #[error("expired on {}; make a new proxy with voms-proxy-init", Utc(*.0))]
    Expired(i64),
    /// Before its start.
    #[error("is not valid before {}; check the clocks of this node and of the VOMS server", Utc(*.0))]
    NotYetValid(i64),
    /// Valid for longer than is accepted.
    #[error(
        "is valid for {seconds} seconds, and at most {maximum} are accepted; ask for less with voms-proxy-init -valid"
    )]
    TooLong {
        /// Its validity, seconds.
        seconds: i64,
        /// What is accepted, seconds.
        maximum: i64,
    },
    /// A critical extension nobody here understands.
    #[error("has the critical extension {0}, which is not understood here")]
    UnknownCritical(String),
    /// It is meant for other hosts.
    #[error("is meant for other hosts than this one")]
    Target,
    /// It has no attributes.
    #[error("holds no attributes of a VO")]
    NoAttributes,
    /// An attribute is not one of that VO, or has characters that are not allowed.
    #[error("holds an attribute that is malformed or of another VO than '{vo}'")]
    Fqan {
        /// The VO.
        vo: String,
    },
}

impl AcProblem {
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Malformed => "ac.malformed",
            Self::TooMany(_) => "ac.too-many",
            Self::Version => "ac.version",
            Self::AlgorithmsDiffer => "ac.algorithms",
            Self::WeakSignature => "ac.weak-signature",
            Self::Holder => "ac.holder",
            Self::Issuer => "ac.issuer",
            Self::Vo => "ac.vo",
            Self::UnknownVo { .. } => "ac.unknown-vo",
            Self::NoSigner { .. } => "ac.no-signer",
            Self::Lsc { .. } => "ac.lsc",
            Self::LscMalformed { .. } => "ac.lsc-malformed",
            Self::Signer(_) | Self::SignerKind(_) => "ac.signer",
            Self::Signature => "ac.signature",
            Self::Expired(_) => "ac.expired",
            Self::NotYetValid(_) => "ac.not-yet-valid",
            Self::TooLong { .. } => "ac.lifetime",
            Self::UnknownCritical(_) => "ac.critical",
            Self::Target => "ac.target",
            Self::NoAttributes => "ac.no-attributes",
            Self::Fqan { .. } => "ac.fqan",
        }
    }

    /// Whether only the administrator can do something about it.
    pub(crate) fn is_the_sites(&self) -> bool {
        match self {
            Self::LscMalformed { .. } => true,
            Self::Signer(inner) => matches!(**inner, VerifyError::Trust(_)),
            _ => false,
        }
    }
}
