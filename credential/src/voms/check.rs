//! The rules over the attribute certificates of a verified path.

use crate::cert::Certificate;
use crate::der::NotDer;
use crate::error::{Role, VerifyError};
use crate::files::Folder;
use crate::path::Path;
use crate::pem::MAX_CERTIFICATES;
use crate::signature;
use crate::trust::{TrustStore, parse_file};
use crate::verify::{LimitedProxies, VerifyOptions};
use crate::{ca_files, rules};

use super::ac::{AttributeCertificate, split};
use super::lsc::Lsc;
use super::{AcProblem, Attributes, Fqan, MAX_ACS, MAX_FQANS, VomsOptions};

/// Verifies the attribute certificates of the first certificate that has any, from the leaf up
/// (rule A1). All must verify (rule A7).
///
/// # Errors
/// [`VerifyError::Attribute`] for the first that does not; or trouble with the site's files.
pub(crate) fn check(
    path: &Path,
    trust: &TrustStore,
    options: &VerifyOptions,
    voms: &VomsOptions,
) -> Result<Attributes, VerifyError> {
    let mut attributes = Attributes::default();
    let mut below_cas = path.links.iter().filter(|link| link.role != Role::Ca);
    let Some(link) = below_cas
        .clone()
        .find(|link| link.certificate.attributes.is_some())
    else {
        return Ok(attributes);
    };
    let wrong = |problem| VerifyError::Attribute {
        which: link.certificate.which(link.role),
        problem,
    };
    let value = link.certificate.attributes.as_deref().unwrap_or_default();
    let acs = split(value).map_err(|NotDer| wrong(AcProblem::Malformed))?;
    if acs.len() > MAX_ACS {
        return Err(wrong(AcProblem::TooMany(MAX_FQANS)));
    }
    let user = below_cas
        .next_back()
        .map_or(&link.certificate, |link| &link.certificate);
    let judge = Judge {
        user,
        trust,
        options,
        voms,
    };
    for der in acs {
        let (fqans, not_after) = judge.judge(der).map_err(|refusal| match refusal {
            Refusal::Problem(problem) => wrong(problem),
            Refusal::Other(error) => error,
        })?;
        attributes.fqans.extend(fqans);
        if attributes.fqans.len() > MAX_FQANS {
            return Err(wrong(AcProblem::TooMany(MAX_FQANS)));
        }
        let earliest = attributes
            .not_after
            .map_or(not_after, |end| end.min(not_after));
        attributes.not_after = Some(earliest);
    }
    Ok(attributes)
}

enum Refusal {
    Problem(AcProblem),
    Other(VerifyError),
}

impl From<AcProblem> for Refusal {
    fn from(problem: AcProblem) -> Self {
        Self::Problem(problem)
    }
}

struct Judge<'a> {
    user: &'a Certificate,
    trust: &'a TrustStore,
    options: &'a VerifyOptions,
    voms: &'a VomsOptions,
}

/// A verified server.
struct Signer {
    path: Path,
    not_after: i64,
}

impl Judge<'_> {
    /// The attributes and the end of one attribute certificate.
    fn judge(&self, der: &[u8]) -> Result<(Vec<Fqan>, i64), Refusal> {
        let ac = AttributeCertificate::parse(der).map_err(|NotDer| AcProblem::Malformed)?;
        self.check_form(&ac)?;
        self.check_holder(&ac)?;
        let attributes = ac.attributes.as_ref().ok_or(AcProblem::NoAttributes)?;
        let (vo, host) = authority(attributes.authority).ok_or(AcProblem::Vo)?;
        let fqans = attributes
            .values
            .iter()
            .map(|value| Fqan::parse(value, vo))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| AcProblem::Fqan { vo: vo.to_owned() })?;
        if fqans.is_empty() {
            return Err(AcProblem::NoAttributes.into());
        }
        self.check_time(&ac)?;
        let end_of_signer = self.find_signer(&ac, vo, host)?;
        Ok((fqans, ac.not_after.min(end_of_signer)))
    }

    /// Rule A5, but for signature and time.
    fn check_form(&self, ac: &AttributeCertificate<'_>) -> Result<(), AcProblem> {
        if !ac.is_version_2 {
            return Err(AcProblem::Version);
        }
        if ac.algorithms_differ {
            return Err(AcProblem::AlgorithmsDiffer);
        }
        if ac.algorithm.check(self.options.allow_sha1).is_err() {
            return Err(AcProblem::WeakSignature);
        }
        if let Some(oid) = &ac.unknown_critical {
            return Err(AcProblem::UnknownCritical(oid.clone()));
        }
        match (&ac.targets, &self.voms.host) {
            (None, _) => Ok(()),
            (Some(targets), Some(host))
                if targets
                    .iter()
                    .any(|target| target.eq_ignore_ascii_case(host.as_bytes())) =>
            {
                Ok(())
            }
            (Some(_), _) => Err(AcProblem::Target),
        }
    }

    /// Rule A2. VOMS servers write the subject of the user's certificate where RFC 5755 4.2.2 wants
    /// its issuer, and their verifiers accept both; with the serial number either means this one.
    fn check_holder(&self, ac: &AttributeCertificate<'_>) -> Result<(), AcProblem> {
        let (name, serial) = ac.holder.as_ref().ok_or(AcProblem::Holder)?;
        let is_name = name.same_as(&self.user.issuer) || name.same_as(&self.user.subject);
        if is_name && *serial == self.user.serial {
            Ok(())
        } else {
            Err(AcProblem::Holder)
        }
    }

    fn check_time(&self, ac: &AttributeCertificate<'_>) -> Result<(), AcProblem> {
        let at = self.options.at;
        if at >= ac.not_after {
            return Err(AcProblem::Expired(ac.not_after));
        }
        if at < ac.not_before {
            return Err(AcProblem::NotYetValid(ac.not_before));
        }
        let seconds = ac.not_after.saturating_sub(ac.not_before);
        match self.voms.maximum_lifetime {
            Some(maximum) if seconds > maximum => Err(AcProblem::TooLong { seconds, maximum }),
            _ => Ok(()),
        }
    }

    /// Rules A3 and A4: the signer by the certificates beside the attributes if a `.lsc` file names
    /// them, otherwise by a certificate of the VOMS directory; and its signature. Gives the end of
    /// the signer's path.
    fn find_signer(
        &self,
        ac: &AttributeCertificate<'_>,
        vo: &str,
        host: &str,
    ) -> Result<i64, Refusal> {
        let named = || (vo.to_owned(), host.to_owned());
        let folder = self.voms.folder().enter(vo).map_err(from_site)?;
        let Some(folder) = folder else {
            let (vo, host) = named();
            return Err(AcProblem::UnknownVo { vo, host }.into());
        };
        let issuer = ac.issuer.as_ref().ok_or(AcProblem::Issuer)?;
        let list = folder.read(&format!("{host}.lsc")).map_err(from_site)?;
        if let (Some(certificates), Some(list)) = (&ac.certificates, list) {
            let Some(lsc) = Lsc::parse(&list) else {
                let (vo, host) = named();
                return Err(AcProblem::LscMalformed { vo, host }.into());
            };
            if certificates.len() > MAX_CERTIFICATES {
                return Err(AcProblem::Malformed.into());
            }
            let sent_der = certificates.clone();
            let certificates = certificates
                .iter()
                .enumerate()
                .map(|(index, der)| Certificate::parse(der.to_vec(), Some(index + 1)))
                .collect::<Result<Vec<_>, _>>()
                .map_err(|_| AcProblem::Malformed)?;
            let leaf = certificates.first().cloned().ok_or(AcProblem::Malformed)?;
            let signer = self.verify_signer(certificates)?;
            // All that were sent are part of the path, and a copy counts once.
            let sent = signer.path.links.iter();
            let sent = sent.filter(|link| sent_der.contains(&link.certificate.der.as_slice()));
            if !lsc.describes(&signer.path, sent.count()) {
                let (vo, host) = named();
                let signer = leaf.subject.display();
                return Err(AcProblem::Lsc { signer, vo, host }.into());
            }
            if !leaf.subject.same_as(issuer) {
                return Err(AcProblem::Issuer.into());
            }
            check_signature(ac, &leaf)?;
            return Ok(signer.not_after);
        }
        let candidates: Vec<Certificate> = certificates_in(&folder)?
            .into_iter()
            .filter(|candidate| candidate.subject.same_as(issuer))
            .collect();
        if candidates.is_empty() {
            let (vo, host) = named();
            return Err(AcProblem::NoSigner { vo, host }.into());
        }
        let mut certificate = candidates
            .into_iter()
            .find(|candidate| check_signature(ac, candidate).is_ok())
            .ok_or(AcProblem::Signature)?;
        // Not a CA, which the files of the CA directory are.
        certificate.position = Some(1);
        Ok(self.verify_signer(vec![certificate])?.not_after)
    }

    /// Verifies the path of a signer under the rules for certificates.
    fn verify_signer(&self, certificates: Vec<Certificate>) -> Result<Signer, Refusal> {
        let refused = |error: VerifyError| AcProblem::Signer(Box::new(error));
        let mut options = self.options.clone();
        options.limited = LimitedProxies::Allow;
        options.minimum_left = 0;
        options.maximum_leaf_lifetime = None;
        let path = Path::build(certificates, self.trust, options.at).map_err(refused)?;
        let not_after = rules::check(&path, &options).map_err(refused)?.not_after;
        let leaf = path.leaf().ok_or(AcProblem::Malformed)?;
        let usage = leaf.certificate.key_usage;
        if leaf.role != Role::User || usage.is_some_and(|usage| !usage.digital_signature) {
            return Err(AcProblem::SignerKind(leaf.certificate.subject.display()).into());
        }
        signature::check(&path).map_err(refused)?;
        ca_files::check(&path, self.trust, &options).map_err(refused)?;
        crate::verify::check_constraints(&path, &options).map_err(refused)?;
        Ok(Signer { path, not_after })
    }
}

/// The signature, and the key identifier where both sides have one. Some servers make it from the
/// key itself, whatever the certificate says.
fn check_signature(ac: &AttributeCertificate<'_>, signer: &Certificate) -> Result<(), AcProblem> {
    if !signature::made_by(&signer.key, &ac.algorithm, ac.der) {
        return Err(AcProblem::Signature);
    }
    let (Some(wanted), Some(own)) = (ac.authority_key, &signer.subject_key) else {
        return Ok(());
    };
    let is_ours = wanted == own || signer.key_hash().is_some_and(|hash| wanted == hash);
    is_ours.then_some(()).ok_or(AcProblem::Issuer)
}

/// Every certificate in the files of a VO's folder that end in `.pem` or `.crt`.
fn certificates_in(folder: &Folder) -> Result<Vec<Certificate>, Refusal> {
    let mut found = Vec::new();
    for name in folder.names().map_err(from_site)? {
        let is_certificate = name
            .extension()
            .is_some_and(|extension| extension == "pem" || extension == "crt");
        let Some(name) = name.to_str().filter(|_| is_certificate) else {
            continue;
        };
        if let Some(text) = folder.read(name).map_err(from_site)? {
            found.extend(parse_file(&text));
        }
    }
    Ok(found)
}

fn from_site(error: crate::problem::TrustError) -> Refusal {
    Refusal::Other(error.into())
}

/// `VO://HOST:PORT` as VO and host, both fit to be names of files (rule A4).
fn authority(uri: &[u8]) -> Option<(&str, &str)> {
    let uri = std::str::from_utf8(uri).ok()?;
    let (vo, rest) = uri.split_once("://")?;
    let (host, port) = rest.split_once(':')?;
    let is_port = !port.is_empty() && port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit());
    (is_port && is_file_name(vo) && is_file_name(host)).then_some((vo, host))
}

fn is_file_name(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    !text.is_empty() && text.len() <= 128 && !text.starts_with('.') && text.bytes().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::authority;

    #[test]
    fn a4_vo_and_host_become_file_names_only_when_they_are_fit_to() {
        assert_eq!(
            authority(b"vo.lab://voms.example.org:15000"),
            Some(("vo.lab", "voms.example.org"))
        );
        for bad in [
            "vo",
            "vo://host",
            "vo://host:",
            "vo://host:x",
            "://host:1",
            "vo://:1",
            "../vo://host:1",
            "a/b://host:1",
            ".vo://host:1",
            "vo://../host:1",
            "vo://.h:1",
            "vo://ho st:1",
            "v\0o://host:1",
            "vo://host:1/x",
            "vo\n://host:1",
            "v\u{f6}://host:1",
        ] {
            assert_eq!(authority(bad.as_bytes()), None, "{bad:?}");
        }
    }
}
