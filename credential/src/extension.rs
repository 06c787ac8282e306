//! Extensions as certificates, attribute certificates and CRLs have them (RFC 5280 4.2).

use crate::der::{NotDer, Reader, dotted_oid, tag};

/// One extension.
#[derive(Debug)]
pub(crate) struct Extension<'a> {
    pub(crate) oid: String,
    pub(crate) critical: bool,
    pub(crate) value: &'a [u8],
}

/// Reads `SEQUENCE OF Extension`; the same one twice is an error.
pub(crate) fn extensions(der: &[u8]) -> Result<Vec<Extension<'_>>, NotDer> {
    let mut outer = Reader::new(der);
    let list = outer.enter(tag::SEQUENCE)?;
    outer.finish()?;
    in_sequence(list)
}

/// The same without the outer SEQUENCE header.
pub(crate) fn in_sequence(mut list: Reader<'_>) -> Result<Vec<Extension<'_>>, NotDer> {
    let mut found: Vec<Extension<'_>> = Vec::new();
    while !list.is_empty() {
        let mut fields = list.enter(tag::SEQUENCE)?;
        let oid = dotted_oid(fields.expect(tag::OID)?).ok_or(NotDer)?;
        let critical = match fields.optional(tag::BOOLEAN)? {
            None | Some([0]) => false,
            Some([0xff]) => true,
            Some(_) => return Err(NotDer),
        };
        let value = fields.expect(tag::OCTET_STRING)?;
        fields.finish()?;
        if found.iter().any(|other| other.oid == oid) {
            return Err(NotDer);
        }
        found.push(Extension {
            oid,
            critical,
            value,
        });
    }
    Ok(found)
}
