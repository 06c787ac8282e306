//! VOMS attributes (rules A1 to A7): a VOMS server certifies, in an attribute certificate inside the
//! proxy, which groups and roles the holder of the user certificate has.
//!
//! `ac` reads one, `fqan` its attributes, `lsc` what the site says about servers, `check` decides.

mod ac;
mod check;
mod fqan;
mod lsc;
mod problem;

use std::path::{Path, PathBuf};

pub(crate) use check::check;
pub use fqan::Fqan;
pub use problem::AcProblem;

use crate::files::Folder;
use crate::inspect::{InspectedAttributes, printable};

/// Which VOMS servers are believed, and what is asked of what they say.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VomsOptions {
    pub(crate) directory: PathBuf,
    pub(crate) root_only: bool,
    /// The name of this host, for attribute certificates that name their targets; default: none, so
    /// that those are refused.
    pub host: Option<String>,
    /// The longest validity of an attribute certificate, seconds; default: none.
    pub maximum_lifetime: Option<i64>,
}

impl VomsOptions {
    /// Believes the servers of a `vomsdir`: `VO/HOST.lsc` with the names of a server's certificate
    /// chain, or certificates of servers in `VO/`.
    #[must_use]
    pub fn load(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            root_only: false,
            host: None,
            maximum_lifetime: None,
        }
    }

    /// The same, but a file counts only if root owns it and nobody else may write to it, like
    /// [`TrustStore::load_root_only`](crate::TrustStore::load_root_only).
    #[must_use]
    pub fn load_root_only(directory: &Path) -> Self {
        Self {
            root_only: true,
            ..Self::load(directory)
        }
    }

    pub(crate) fn folder(&self) -> Folder {
        Folder {
            path: self.directory.clone(),
            root_only: self.root_only,
        }
    }
}

/// Most attribute certificates in one credential.
pub(crate) const MAX_ACS: usize = 16;

/// Most attributes of one credential.
pub(crate) const MAX_FQANS: usize = 64;

/// What the attribute certificates of a credential give, all of them verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) fqans: Vec<Fqan>,
    /// Earliest end of what they depend on; `None` when there are none.
    pub(crate) not_after: Option<i64>,
}

/// What attribute certificates say of themselves, for people who look; one that cannot be read says
/// nothing.
pub(crate) fn inspect(value: &[u8]) -> Vec<InspectedAttributes> {
    let text = |bytes: &[u8]| printable(&String::from_utf8_lossy(bytes));
    let acs = ac::split(value).unwrap_or_default();
    acs.iter()
        .take(MAX_ACS)
        .map(|der| match ac::AttributeCertificate::parse(der) {
            Ok(ac) => InspectedAttributes {
                authority: ac
                    .attributes
                    .as_ref()
                    .map(|found| text(found.authority))
                    .unwrap_or_default(),
                fqans: ac
                    .attributes
                    .iter()
                    .flat_map(|found| &found.values)
                    .take(MAX_FQANS)
                    .map(|value| text(value))
                    .collect(),
                not_before: ac.not_before,
                not_after: ac.not_after,
            },
            Err(_) => InspectedAttributes {
                authority: String::new(),
                fqans: Vec::new(),
                not_before: 0,
                not_after: 0,
            },
        })
        .collect()
}

/// Reading of attribute certificates; whatever can be read has fit attributes or none.
pub(crate) fn fuzz(data: &[u8]) {
    let _ = inspect(data);
    let Ok(acs) = ac::split(data) else { return };
    for der in acs {
        let Ok(ac) = ac::AttributeCertificate::parse(der) else {
            continue;
        };
        let values = ac.attributes.map(|found| found.values).unwrap_or_default();
        for fqan in values
            .iter()
            .filter_map(|value| Fqan::parse(value, "vo.lab"))
        {
            assert!(fqan.as_str().starts_with("/vo.lab"));
            assert_eq!(Fqan::parse(fqan.as_str().as_bytes(), "vo.lab"), Some(fqan));
        }
    }
}

/// Reading of the names of a server.
pub(crate) fn fuzz_lsc(data: &[u8]) {
    let _ = lsc::Lsc::parse(data);
}
