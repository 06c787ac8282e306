//! ClassAds on the wire (protocol 01 section 2).

use classad::ClassAd;

use crate::wire::{MAX_AD_LINES, MessageReader, MessageWriter, SECRET_MARKER, WireError};

/// Private attributes every HTCondor knows (`htcondor:src/condor_utils/compat_classad.cpp`).
const PRIVATE_V1: [&str; 6] = [
    "Capability",
    "ChildClaimIds",
    "ClaimId",
    "ClaimIdList",
    "ClaimIds",
    "TransferKey",
];

/// Prefix of the private attributes of newer peers.
const PRIVATE_V2_PREFIX: &str = "_condor_priv";

/// True if an attribute of that name must never leave on an unencrypted connection nor enter a log.
pub fn is_private(name: &str) -> bool {
    let prefix = name.as_bytes().get(..PRIVATE_V2_PREFIX.len());
    PRIVATE_V1
        .iter()
        .any(|known| known.eq_ignore_ascii_case(name))
        || prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case(PRIVATE_V2_PREFIX.as_bytes()))
}

pub(crate) fn write(out: &mut MessageWriter, ad: &ClassAd, private: bool) {
    let lines = || {
        ad.iter()
            .filter(|(name, _)| private || !is_private(name.as_str()))
    };
    out.int(i64::try_from(lines().count()).unwrap_or(MAX_AD_LINES));
    for (name, expr) in lines() {
        out.str(&format!("{} = {}", name.as_str(), expr.to_old()));
    }
    // MyType and TargetType travel as ordinary attributes; the two old fields stay empty.
    out.str("").str("");
}

pub(crate) fn read(input: &mut MessageReader<'_>) -> Result<ClassAd, WireError> {
    let count = input.int()?;
    // Every line needs one byte at least, so a count beyond the message is a lie.
    let left = i64::try_from(input.left()).unwrap_or(i64::MAX);
    if !(0..=MAX_AD_LINES).contains(&count) || count > left {
        return Err(WireError::BadLineCount(count));
    }
    let mut ad = ClassAd::new();
    for line in 0..count {
        let mut text = input.str_bytes()?;
        if text == SECRET_MARKER {
            text = input.str_bytes()?;
        }
        let text = String::from_utf8_lossy(text);
        let (name, expr) = classad::parse_assignment_old(&text)
            .map_err(|source| WireError::BadLine { line, source })?;
        ad.insert(name, expr);
    }
    input.str_bytes()?;
    input.str_bytes()?;
    Ok(ad)
}
