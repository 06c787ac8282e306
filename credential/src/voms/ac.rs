//! One attribute certificate as facts (RFC 5755 4.1, GFD.182). Nothing is judged here.

use crate::date::parse_time;
use crate::der::{NotDer, Reader, tag};
use crate::extension::{Extension, in_sequence};
use crate::name::Name;
use crate::strength::Signature;

/// What an attribute certificate says.
#[derive(Debug)]
pub(crate) struct AttributeCertificate<'a> {
    pub(crate) der: &'a [u8],
    pub(crate) is_version_2: bool,
    /// Issuer and serial number of the certificate it is about; `None` when it says it otherwise.
    pub(crate) holder: Option<(Name, &'a [u8])>,
    /// `None` unless it is exactly one directory name.
    pub(crate) issuer: Option<Name>,
    pub(crate) algorithms_differ: bool,
    pub(crate) algorithm: Signature,
    pub(crate) not_before: i64,
    pub(crate) not_after: i64,
    /// `VO://HOST:PORT`, and the attributes as they are; `None` without the VOMS attribute.
    pub(crate) attributes: Option<VoAttributes<'a>>,
    pub(crate) unknown_critical: Option<String>,
    /// Certificates from the signer up.
    pub(crate) certificates: Option<Vec<&'a [u8]>>,
    pub(crate) authority_key: Option<&'a [u8]>,
    /// The hosts it is meant for, if it says so.
    pub(crate) targets: Option<Vec<&'a [u8]>>,
}

/// The VOMS attribute.
#[derive(Debug)]
pub(crate) struct VoAttributes<'a> {
    pub(crate) authority: &'a [u8],
    pub(crate) values: Vec<&'a [u8]>,
}

/// Cuts the value of the proxy's extension into attribute certificates: a sequence that holds one
/// sequence of them (rule A1).
pub(crate) fn split(value: &[u8]) -> Result<Vec<&[u8]>, NotDer> {
    let mut outer = Reader::new(value);
    let mut body = outer.enter(tag::SEQUENCE)?;
    outer.finish()?;
    let list = body.enter(tag::SEQUENCE)?;
    body.finish()?;
    sequences(list)
}

fn sequences(list: Reader<'_>) -> Result<Vec<&[u8]>, NotDer> {
    let elements = list.elements()?;
    if elements.is_empty() || elements.iter().any(|element| element.tag != tag::SEQUENCE) {
        return Err(NotDer);
    }
    Ok(elements.iter().map(|element| element.whole).collect())
}

impl<'a> AttributeCertificate<'a> {
    /// Reads one.
    ///
    /// # Errors
    /// It is not DER of that shape.
    pub(crate) fn parse(der: &'a [u8]) -> Result<Self, NotDer> {
        let mut outer = Reader::new(der);
        let mut body = outer.enter(tag::SEQUENCE)?;
        outer.finish()?;
        let mut info = body.enter(tag::SEQUENCE)?;
        let outside = body.element()?;
        body.expect(tag::BIT_STRING)?;
        body.finish()?;

        let is_version_2 = info.unsigned()? == [1];
        let holder = read_holder(info.enter(tag::SEQUENCE)?)?;
        let issuer = read_issuer(info.element()?.whole)?;
        let inside = info.element()?;
        let algorithm = Signature::read(inside.content)?;
        if info.unsigned()?.len() > MAX_SERIAL_BYTES {
            return Err(NotDer);
        }
        let mut validity = info.enter(tag::SEQUENCE)?;
        let mut time = || {
            let element = validity.element()?;
            // Unlike certificates, these have one form of time only (RFC 5755 4.2.6).
            if element.tag == tag::GENERALIZED_TIME {
                parse_time(&element)
            } else {
                Err(NotDer)
            }
        };
        let (not_before, not_after) = (time()?, time()?);
        validity.finish()?;
        let attributes = read_attributes(info.enter(tag::SEQUENCE)?)?;
        info.optional(tag::BIT_STRING)?; // issuerUniqueID
        let mut ac = Self {
            der,
            is_version_2,
            holder,
            issuer,
            algorithms_differ: inside.whole != outside.whole,
            algorithm,
            not_before,
            not_after,
            attributes,
            unknown_critical: None,
            certificates: None,
            authority_key: None,
            targets: None,
        };
        if let Some(list) = info.optional(tag::SEQUENCE)? {
            for extension in in_sequence(Reader::new(list))? {
                ac.take(&extension)?;
            }
        }
        info.finish()?;
        Ok(ac)
    }

    fn take(&mut self, extension: &Extension<'a>) -> Result<(), NotDer> {
        match extension.oid.as_str() {
            CERTIFICATE_LIST => self.certificates = Some(split(extension.value)?),
            TARGETS => self.targets = Some(read_targets(extension.value)?),
            AUTHORITY_KEY => {
                let mut outer = Reader::new(extension.value);
                let mut body = outer.enter(tag::SEQUENCE)?;
                outer.finish()?;
                self.authority_key = body.optional(KEY_IDENTIFIER)?;
            }
            NO_REVOCATION | GENERIC_ATTRIBUTES => {}
            other if extension.critical => self.unknown_critical = Some(other.to_owned()),
            _ => {}
        }
        Ok(())
    }
}

/// Only a baseCertificateID without anything else counts: `[0] { GeneralNames, serial }`.
fn read_holder(mut holder: Reader<'_>) -> Result<Option<(Name, &[u8])>, NotDer> {
    let Some(id) = holder.optional(BASE_CERTIFICATE_ID)? else {
        return Ok(None);
    };
    let mut id = Reader::new(id);
    let names = id.enter(tag::SEQUENCE)?;
    let serial = id.expect(tag::INTEGER)?;
    let is_alone = id.is_empty() && holder.is_empty();
    let name = one_directory_name(names)?;
    Ok(name.filter(|_| is_alone).map(|name| (name, serial)))
}

/// `[0] { GeneralNames }` with one directory name.
fn read_issuer(issuer: &[u8]) -> Result<Option<Name>, NotDer> {
    let mut issuer = Reader::new(issuer);
    let Some(form) = issuer.optional(V2_FORM)? else {
        return Ok(None);
    };
    let mut form = Reader::new(form);
    match form.optional(tag::SEQUENCE)? {
        Some(names) if form.is_empty() => one_directory_name(Reader::new(names)),
        _ => Ok(None),
    }
}

fn one_directory_name(names: Reader<'_>) -> Result<Option<Name>, NotDer> {
    match names.elements()?.as_slice() {
        [only] if only.tag == DIRECTORY_NAME => {
            Name::parse(only.content).map(Some).map_err(|_| NotDer)
        }
        _ => Ok(None),
    }
}

fn read_attributes<'a>(mut list: Reader<'a>) -> Result<Option<VoAttributes<'a>>, NotDer> {
    let mut found = None;
    while !list.is_empty() {
        let mut attribute = list.enter(tag::SEQUENCE)?;
        let is_voms = attribute.expect(tag::OID)? == VOMS_ATTRIBUTE;
        let mut values = attribute.enter(tag::SET)?;
        attribute.finish()?;
        if !is_voms {
            continue;
        }
        if found.is_some() {
            return Err(NotDer);
        }
        let mut syntax = values.enter(tag::SEQUENCE)?;
        values.finish()?;
        let mut authority = Reader::new(syntax.optional(POLICY_AUTHORITY)?.ok_or(NotDer)?);
        let uri = authority.expect(URI)?;
        authority.finish()?;
        let fqans = syntax.enter(tag::SEQUENCE)?.elements()?;
        syntax.finish()?;
        if fqans.iter().any(|value| value.tag != tag::OCTET_STRING) {
            return Err(NotDer);
        }
        found = Some(VoAttributes {
            authority: uri,
            values: fqans.iter().map(|value| value.content).collect(),
        });
    }
    Ok(found)
}

/// `SEQUENCE OF SEQUENCE OF Target`, where a target that is a name of a host counts (RFC 5755 4.3.2).
fn read_targets(value: &[u8]) -> Result<Vec<&[u8]>, NotDer> {
    let mut outer = Reader::new(value);
    let list = outer.enter(tag::SEQUENCE)?;
    outer.finish()?;
    let mut hosts = Vec::new();
    for group in list.elements()? {
        if group.tag != tag::SEQUENCE {
            return Err(NotDer);
        }
        for target in Reader::new(group.content).elements()? {
            // VOMS writes a sequence of what the RFC has as a choice.
            let choices = match target.tag {
                tag::SEQUENCE => Reader::new(target.content).elements()?,
                _ => vec![target],
            };
            for choice in choices.iter().filter(|choice| choice.tag == TARGET_NAME) {
                let mut name = Reader::new(choice.content);
                let host = name.element()?;
                name.finish()?;
                if matches!(host.tag, URI | DNS_NAME) {
                    hosts.push(host.content);
                }
            }
        }
    }
    Ok(hosts)
}

/// RFC 5755 4.2.5.
const MAX_SERIAL_BYTES: usize = 20;

// Context tags.
const BASE_CERTIFICATE_ID: u8 = 0xa0;
const V2_FORM: u8 = 0xa0;
const POLICY_AUTHORITY: u8 = 0xa0;
const TARGET_NAME: u8 = 0xa0;
const KEY_IDENTIFIER: u8 = 0x80;
// GeneralName.
const DNS_NAME: u8 = 0x82;
const DIRECTORY_NAME: u8 = 0xa4;
const URI: u8 = 0x86;

/// 1.3.6.1.4.1.8005.100.100.4, as encoded.
const VOMS_ATTRIBUTE: &[u8] = &[0x2b, 6, 1, 4, 1, 0xbe, 0x45, 100, 100, 4];
const CERTIFICATE_LIST: &str = "1.3.6.1.4.1.8005.100.100.10";
const GENERIC_ATTRIBUTES: &str = "1.3.6.1.4.1.8005.100.100.11";
const TARGETS: &str = "2.5.29.55";
const NO_REVOCATION: &str = "2.5.29.56";
const AUTHORITY_KEY: &str = "2.5.29.35";
