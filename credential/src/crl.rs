//! Certificate revocation lists (rule C13, RFC 5280 5), read by hand: some have a hundred thousand
//! entries, and only one of them is wanted.

use crate::cert::Certificate;
use crate::date::parse_time;
use crate::der::{NotDer, Reader, is_shortest, tag};
use crate::extension::{Extension, extensions};
use crate::name::Name;
use crate::problem::CrlProblem;
use crate::signature::made_by;
use crate::strength::Signature;

/// One CRL.
#[derive(Debug)]
pub(crate) struct Crl<'a> {
    der: &'a [u8],
    issuer: Name,
    algorithm: Signature,
    this_update: i64,
    next_update: i64,
    revoked: Reader<'a>,
    partial: bool,
    unknown_critical: Option<String>,
}

impl<'a> Crl<'a> {
    /// Reads a DER CRL.
    ///
    /// # Errors
    /// [`CrlProblem::Malformed`]
    pub(crate) fn parse(der: &'a [u8]) -> Result<Self, CrlProblem> {
        Self::read(der).map_err(|NotDer| CrlProblem::Malformed)
    }

    fn read(der: &'a [u8]) -> Result<Self, NotDer> {
        let mut outer = Reader::new(der);
        let mut list = outer.enter(tag::SEQUENCE)?;
        outer.finish()?;
        let mut signed = list.enter(tag::SEQUENCE)?;
        let outside = list.element()?;
        // Version 2 is written as 1; without it the list is of version 1 and has no extensions.
        let is_version_2 = match signed.peek_tag() {
            Some(tag::INTEGER) => {
                if signed.unsigned()? != [1] {
                    return Err(NotDer);
                }
                true
            }
            _ => false,
        };
        let inside = signed.element()?;
        if inside.whole != outside.whole {
            return Err(NotDer);
        }
        let algorithm = Signature::read(inside.content)?;
        let issuer = Name::parse(signed.element()?.whole).map_err(|_| NotDer)?;
        let this_update = parse_time(&signed.element()?)?;
        let next_update = parse_time(&signed.element()?)?;
        let revoked = Reader::new(signed.optional(tag::SEQUENCE)?.unwrap_or_default());
        let mut crl = Self {
            der,
            issuer,
            algorithm,
            this_update,
            next_update,
            revoked,
            partial: false,
            unknown_critical: None,
        };
        if let Some(tagged) = signed.optional(EXTENSIONS)? {
            if !is_version_2 {
                return Err(NotDer);
            }
            for extension in extensions(tagged)? {
                crl.take(&extension)?;
            }
        }
        signed.finish()?;
        Ok(crl)
    }

    fn take(&mut self, extension: &Extension<'_>) -> Result<(), NotDer> {
        match extension.oid.as_str() {
            DELTA_CRL_INDICATOR => self.partial = true,
            ISSUING_DISTRIBUTION_POINT => {
                // Anything but the name of the place narrows what the list says.
                let mut point = Reader::new(extension.value).enter(tag::SEQUENCE)?;
                point.optional(DISTRIBUTION_POINT)?;
                self.partial |= !point.is_empty();
            }
            AUTHORITY_KEY | CRL_NUMBER => {}
            other if extension.critical => self.unknown_critical = Some(other.to_owned()),
            _ => {}
        }
        Ok(())
    }

    /// Whether it names `ca` as its issuer.
    pub(crate) fn is_of(&self, ca: &Certificate) -> bool {
        self.issuer.same_as(&ca.subject)
    }

    /// Whether the key of `ca` signed it.
    pub(crate) fn is_signed_by(&self, ca: &Certificate) -> bool {
        made_by(&ca.key, &self.algorithm, self.der)
    }

    /// Everything but the signature.
    ///
    /// # Errors
    /// The first reason not to rely on it.
    pub(crate) fn check(
        &self,
        ca: &Certificate,
        allow_sha1: bool,
        at: i64,
    ) -> Result<(), CrlProblem> {
        if ca.key_usage.is_some_and(|usage| !usage.crl_sign) {
            return Err(CrlProblem::KeyUsage);
        }
        if self.partial {
            return Err(CrlProblem::Partial);
        }
        if let Some(oid) = &self.unknown_critical {
            return Err(CrlProblem::UnknownCritical(oid.clone()));
        }
        if self.algorithm.check(allow_sha1).is_err() {
            return Err(CrlProblem::WeakSignature);
        }
        if at < self.this_update {
            return Err(CrlProblem::NotYetValid(self.this_update));
        }
        if at >= self.next_update {
            return Err(CrlProblem::Expired(self.next_update));
        }
        Ok(())
    }

    /// When the certificate with this serial number was revoked, if it was.
    ///
    /// # Errors
    /// An unreadable entry, or one about the certificate of another CA.
    pub(crate) fn revocation(&self, serial: &[u8]) -> Result<Option<i64>, CrlProblem> {
        self.search(serial).map_err(|NotDer| CrlProblem::Malformed)
    }

    fn search(&self, serial: &[u8]) -> Result<Option<i64>, NotDer> {
        let mut entries = self.revoked;
        let mut found = None;
        while !entries.is_empty() {
            let mut entry = entries.enter(tag::SEQUENCE)?;
            let number = entry.expect(tag::INTEGER)?;
            if !is_shortest(number) {
                return Err(NotDer);
            }
            let time = entry.element()?;
            if number == serial {
                found = Some(parse_time(&time)?);
            }
            if let Some(list) = entry.optional(tag::SEQUENCE)? {
                for_critical(list, |oid| {
                    // The entry is about another CA's certificate: the list is an indirect one.
                    if oid == REASON || oid == INVALIDITY_DATE {
                        Ok(())
                    } else {
                        Err(NotDer)
                    }
                })?;
            }
            entry.finish()?;
        }
        Ok(found)
    }
}

/// Visits the OIDs of critical extensions without keeping anything: there may be a hundred thousand.
fn for_critical(list: &[u8], visit: impl Fn(&[u8]) -> Result<(), NotDer>) -> Result<(), NotDer> {
    let mut list = Reader::new(list);
    while !list.is_empty() {
        let mut extension = list.enter(tag::SEQUENCE)?;
        let oid = extension.expect(tag::OID)?;
        if extension
            .optional(tag::BOOLEAN)?
            .is_some_and(|value| value != [0])
        {
            visit(oid)?;
        }
    }
    Ok(())
}

/// `[0]` around the extensions of a CRL.
const EXTENSIONS: u8 = 0xa0;
/// `[0]` around the name of an issuing distribution point.
const DISTRIBUTION_POINT: u8 = 0xa0;
const CRL_NUMBER: &str = "2.5.29.20";
const DELTA_CRL_INDICATOR: &str = "2.5.29.27";
const ISSUING_DISTRIBUTION_POINT: &str = "2.5.29.28";
const AUTHORITY_KEY: &str = "2.5.29.35";
/// cRLReason, 2.5.29.21, as encoded.
const REASON: &[u8] = &[0x55, 29, 21];
/// invalidityDate, 2.5.29.24, as encoded.
const INVALIDITY_DATE: &[u8] = &[0x55, 29, 24];
