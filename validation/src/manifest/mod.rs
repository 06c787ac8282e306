//! The lists of files that factory and frontend send along.
//!
//! * [`pin`]: which manifests are believed; [`document`]: what is in one; [`error`]: what can be wrong;
//! * [`sign`]: what its authors need.

pub mod document;
pub mod error;
pub mod pin;
mod read;
pub mod sign;

use jiff::Timestamp;

pub use document::{Item, Kind, Limits, Manifest, Part, Selected, Spec, Stage};
pub use error::{FileError, ManifestError, ManifestErrorKind};
pub use pin::{BadPin, Pin, Source};

use crate::fetch::{Digest, Fetcher};
use crate::knob::{self, Knob, knob};

/// The form of manifests that this pilot reads.
pub const FORM: u64 = 1;

/// Largest file of signatures, bytes.
const SIGNATURES_MAX: u64 = 16 << 10;

/// Knobs of manifests.
pub static KNOBS: &[Knob] = &[
    knob(
        &["SAILPLANE_MANIFESTS"],
        knob::Kind::List,
        None,
        "",
        "Manifests of factory and frontend: ADDRESS#sha256=DIGEST or ADDRESS#ed25519=KEY, the address https://... or \
         file:///....",
    ),
    knob(
        &["SAILPLANE_ENTRY", "GLIDEIN_Entry_Name"],
        knob::Kind::Text,
        None,
        "",
        "The entry of the factory's manifest that this pilot is for; not needed if there is one only.",
    ),
    knob(
        &["SAILPLANE_GROUP", "GLIDECLIENT_Group"],
        knob::Kind::Text,
        None,
        "",
        "The group of the frontend's manifest that this pilot is for; not needed if there is one only.",
    ),
];

/// Gets a manifest, finds it genuine, and takes what of it concerns this pilot. Its files are not fetched.
///
/// # Errors
/// [`ManifestError`].
pub async fn get(
    fetcher: &Fetcher,
    source: &Source,
    entry: Option<&str>,
    group: Option<&str>,
    limits: Limits,
) -> Result<Selected, ManifestError> {
    let failed = |owner, kind| ManifestError {
        manifest: source.location.to_string(),
        owner,
        kind,
    };
    let text = fetcher
        .bytes(&source.location, document::MANIFEST_MAX)
        .await
        .map_err(|error| failed(None, Box::new(error.into())))?;
    // Nothing is read that is not known to be genuine.
    genuine(fetcher, source, &text)
        .await
        .map_err(|kind| failed(None, kind))?;
    let manifest = Manifest::parse(&text, &source.location, limits, Timestamp::now())
        .map_err(|(owner, kind)| failed(owner, kind))?;
    let owner = manifest.owner;
    manifest
        .select(entry, group, limits)
        .map_err(|kind| failed(Some(owner), kind))
}

async fn genuine(
    fetcher: &Fetcher,
    source: &Source,
    text: &[u8],
) -> Result<(), Box<ManifestErrorKind>> {
    let keys = match &source.pin {
        Pin::Digest(want) => {
            let got = Digest::of(text);
            return if got == *want {
                Ok(())
            } else {
                Err(Box::new(ManifestErrorKind::Digest { got, want: *want }))
            };
        }
        Pin::Keys(keys) => keys,
    };
    let address = source
        .location
        .with_suffix(".sig")
        .map_err(|error| Box::new(BadPin::from(error).into()))?;
    let file = fetcher
        .bytes(&address, SIGNATURES_MAX)
        .await
        .map_err(|error| Box::new(error.into()))?;
    let signatures = pin::signatures(&file);
    if signatures.is_empty() {
        return Err(Box::new(ManifestErrorKind::SignatureForm(
            address.to_string(),
        )));
    }
    let signed = keys
        .iter()
        .any(|key| signatures.iter().any(|one| key.signed(text, one)));
    if signed {
        Ok(())
    } else {
        Err(Box::new(ManifestErrorKind::Signature))
    }
}
