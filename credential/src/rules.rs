//! Our own rules over a path: RFC 5280 for CAs and the user, RFC 3820 for proxies (rules C6 to C11,
//! C15 to C17). OpenSSL checks some of them again.

use crate::cert::Certificate;
use crate::error::{Role, VerifyError};
use crate::path::{Link, Path};
use crate::problem::{CertificateProblem, ChainProblem, ProxyProblem};
use crate::proxy::{Policy, ProxyInfo};
use crate::verify::{LimitedProxies, VerifyOptions};

/// nameConstraints.
const NAME_CONSTRAINTS: &str = "2.5.29.30";

/// What the rules find out besides "no objection".
#[derive(Clone, Copy, Debug)]
pub(crate) struct Findings {
    pub(crate) limited: bool,
    pub(crate) not_after: i64,
}

/// Judges a path.
///
/// # Errors
/// The first objection, looking from the trust anchor down.
pub(crate) fn check(path: &Path, options: &VerifyOptions) -> Result<Findings, VerifyError> {
    for link in path.links.iter().rev() {
        well_formed(link, options).map_err(|problem| certificate_error(link, problem))?;
    }
    check_places(path, options)?;
    let limited = check_proxies(path, options)?;
    for (index, link) in path.links.iter().enumerate().rev() {
        in_time(link, options).map_err(|problem| certificate_error(link, problem))?;
        short_enough(path, index, options).map_err(|problem| certificate_error(link, problem))?;
        let anchor = index + 1 == path.links.len();
        strong(link, anchor, options).map_err(|problem| certificate_error(link, problem))?;
    }
    let not_after = path
        .links
        .iter()
        .map(|link| link.certificate.not_after)
        .min()
        .unwrap_or(i64::MIN);
    Ok(Findings { limited, not_after })
}

/// Rule C6.
fn well_formed(link: &Link, options: &VerifyOptions) -> Result<(), CertificateProblem> {
    let certificate = &link.certificate;
    let plain_user =
        options.accept_plain_users && link.role == Role::User && certificate.plain_version_1;
    if certificate.version != 3 && !plain_user {
        return Err(CertificateProblem::Version(certificate.version));
    }
    if certificate.algorithms_differ {
        return Err(CertificateProblem::AlgorithmsDiffer);
    }
    if let Some(oid) = &certificate.repeated {
        return Err(CertificateProblem::RepeatedExtension(oid.clone()));
    }
    if let Some(oid) = &certificate.unknown_critical {
        return Err(CertificateProblem::UnknownCritical(oid.clone()));
    }
    // Only CAs may limit names (RFC 5280 4.2.1.10); nobody would obey a proxy that does.
    if link.role == Role::Proxy && certificate.name_constraints {
        return Err(CertificateProblem::UnknownCritical(
            NAME_CONSTRAINTS.to_owned(),
        ));
    }
    if let Some(oid) = &certificate.malformed {
        return Err(CertificateProblem::MalformedExtension(oid.clone()));
    }
    Ok(())
}

/// Rule C7, and who may issue what.
fn check_places(path: &Path, options: &VerifyOptions) -> Result<(), VerifyError> {
    let mut cas_below = 0u32;
    for (index, link) in path.links.iter().enumerate() {
        let certificate = &link.certificate;
        if link.role != Role::Ca {
            continue;
        }
        if certificate.has_proxy_extension() {
            return Err(proxy_error(link, ProxyProblem::Ca));
        }
        if index == 0 {
            return Err(chain_error(link, ChainProblem::NoEndEntity));
        }
        if !certificate.basic.ca {
            return Err(chain_error(link, ChainProblem::IssuerNotCa));
        }
        if certificate.key_usage.is_some_and(|usage| !usage.cert_sign) {
            return Err(chain_error(link, ChainProblem::CaKeyUsage));
        }
        match certificate.basic.path_length {
            Some(allowed) if cas_below > allowed => {
                return Err(chain_error(link, ChainProblem::PathLength { allowed }));
            }
            _ => {}
        }
        // Self-issued certificates do not count (RFC 5280 6.1.4 l).
        cas_below += u32::from(!certificate.self_issued());
    }
    for pair in path.links.windows(2) {
        let [child, issuer] = pair else { continue };
        check_pair(child, issuer, options)?;
    }
    Ok(())
}

fn check_pair(child: &Link, issuer: &Link, options: &VerifyOptions) -> Result<(), VerifyError> {
    let certificate = &child.certificate;
    match (child.role, issuer.role) {
        (Role::Proxy, _) => {
            let name = &issuer.certificate.subject;
            let is_legacy = certificate.subject.legacy_proxy_of(name).is_some();
            match (&certificate.proxy, &certificate.draft_proxy) {
                (Some(_), Some(_)) => Err(proxy_error(child, ProxyProblem::TwoKinds)),
                (None, Some(_)) if !options.accept_gt3 => {
                    Err(proxy_error(child, ProxyProblem::Draft))
                }
                (None, None) if is_legacy && !options.accept_legacy => {
                    Err(proxy_error(child, ProxyProblem::Legacy))
                }
                (None, None) if !is_legacy => Err(chain_error(issuer, ChainProblem::IssuerNotCa)),
                _ => Ok(()),
            }
        }
        // The user is issued by a CA here, and must not be a proxy.
        (Role::User, _) if certificate.has_proxy_extension() => {
            Err(proxy_error(child, ProxyProblem::IssuerIsCa))
        }
        _ => Ok(()),
    }
}

/// Rules C8 to C11 and C17; tells whether the credential is limited.
fn check_proxies(path: &Path, options: &VerifyOptions) -> Result<bool, VerifyError> {
    let mut limited = false;
    let mut family = None;
    let proxies = path
        .links
        .iter()
        .take_while(|link| link.role == Role::Proxy)
        .count();
    // From the proxy that the user signed down to the first certificate of the bundle; `below` is
    // how many proxies follow.
    for below in (0..proxies).rev() {
        let (Some(link), Some(issuer)) = (path.links.get(below), path.links.get(below + 1)) else {
            continue;
        };
        let problem = |problem| proxy_error(link, problem);
        let info = check_proxy(&link.certificate, &issuer.certificate).map_err(problem)?;
        let own = Family::of(&link.certificate);
        if *family.get_or_insert(own) != own {
            return Err(problem(ProxyProblem::Mixed));
        }
        match info.path_length {
            Some(allowed) if below > usize::try_from(allowed).unwrap_or(usize::MAX) => {
                return Err(problem(ProxyProblem::PathLength { allowed }));
            }
            _ => {}
        }
        match &info.policy {
            Policy::Limited => limited = true,
            Policy::InheritAll if limited => return Err(problem(ProxyProblem::FullBelowLimited)),
            Policy::InheritAll => {}
            Policy::Other(oid) => return Err(problem(ProxyProblem::Policy(oid.clone()))),
        }
    }
    match (options.limited, path.leaf()) {
        (LimitedProxies::Deny, Some(leaf)) if limited => {
            Err(proxy_error(leaf, ProxyProblem::LimitedRefused))
        }
        (LimitedProxies::Require, Some(leaf)) if !limited => {
            Err(proxy_error(leaf, ProxyProblem::LimitedRequired))
        }
        _ => Ok(limited),
    }
}

/// The three kinds of proxies, which never follow each other (rule C11).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Rfc,
    Draft,
    Legacy,
}

impl Family {
    fn of(proxy: &Certificate) -> Self {
        match (&proxy.proxy, &proxy.draft_proxy) {
            (Some(_), _) => Self::Rfc,
            (None, Some(_)) => Self::Draft,
            (None, None) => Self::Legacy,
        }
    }
}

/// RFC 3820 3.1 to 3.8 for one proxy. The older kinds obey the same rules, as far as they have what
/// the rules are about.
fn check_proxy(proxy: &Certificate, issuer: &Certificate) -> Result<ProxyInfo, ProxyProblem> {
    if issuer
        .key_usage
        .is_some_and(|usage| !usage.digital_signature)
    {
        return Err(ProxyProblem::IssuerKeyUsage);
    }
    if proxy.basic.ca {
        return Err(ProxyProblem::Ca);
    }
    if proxy.alternative_name {
        return Err(ProxyProblem::AlternativeName);
    }
    if !proxy.subject.extends_by_cn(&issuer.subject) {
        return Err(ProxyProblem::Subject);
    }
    if proxy
        .key_usage
        .is_some_and(|usage| usage.cert_sign || usage.crl_sign)
    {
        return Err(ProxyProblem::KeyUsage);
    }
    let Some(extension) = proxy.proxy.as_ref().or(proxy.draft_proxy.as_ref()) else {
        let legacy = proxy.subject.legacy_proxy_of(&issuer.subject);
        return legacy.map(ProxyInfo::legacy).ok_or(ProxyProblem::Extension);
    };
    let info = extension.info.clone()?;
    if !extension.critical {
        return Err(ProxyProblem::NotCritical);
    }
    if info.has_policy_text && !matches!(info.policy, Policy::Other(_)) {
        return Err(ProxyProblem::PolicyText);
    }
    Ok(info)
}

/// Validity, and the minimum that must be left. RFC 5280 4.1.2.5 counts the last second in; OpenSSL
/// does not, and with it every other tool, so neither do we.
fn in_time(link: &Link, options: &VerifyOptions) -> Result<(), CertificateProblem> {
    let Certificate {
        not_before,
        not_after,
        ..
    } = link.certificate;
    let role = link.role;
    if options.at >= not_after {
        Err(CertificateProblem::Expired { not_after, role })
    } else if options.at < not_before {
        Err(CertificateProblem::NotYetValid { not_before, role })
    } else if not_after.saturating_sub(options.at) < options.minimum_left {
        Err(CertificateProblem::EndsSoon {
            not_after,
            minimum: options.minimum_left,
        })
    } else {
        Ok(())
    }
}

/// Rule C16: optional maxima for proxies by their level, and for the first certificate.
fn short_enough(
    path: &Path,
    index: usize,
    options: &VerifyOptions,
) -> Result<(), CertificateProblem> {
    let Some(link) = path.links.get(index) else {
        return Ok(());
    };
    let proxies = path
        .links
        .iter()
        .take_while(|link| link.role == Role::Proxy)
        .count();
    // The proxy that the user signed is at level 0; the last given maximum holds for all below.
    let by_level = proxies.checked_sub(index + 1).and_then(|level| {
        let maxima = &options.maximum_proxy_lifetimes;
        maxima.get(level).or_else(|| maxima.last()).copied()
    });
    let for_leaf = options.maximum_leaf_lifetime.filter(|_| index == 0);
    let Certificate {
        not_before,
        not_after,
        ..
    } = link.certificate;
    let seconds = not_after.saturating_sub(not_before);
    match by_level.into_iter().chain(for_leaf).min() {
        Some(maximum) if seconds > maximum => Err(CertificateProblem::TooLong {
            seconds,
            maximum,
            role: link.role,
        }),
        _ => Ok(()),
    }
}

/// Rule C15. The signature a trust anchor put on itself proves nothing, so it is not looked at.
fn strong(link: &Link, anchor: bool, options: &VerifyOptions) -> Result<(), CertificateProblem> {
    let minimum = match link.role {
        Role::Proxy => options.minimum_proxy_rsa_bits,
        _ => options.minimum_rsa_bits,
    };
    link.certificate.key.check(minimum)?;
    if anchor {
        Ok(())
    } else {
        link.certificate.signature.check(options.allow_sha1)
    }
}

fn certificate_error(link: &Link, problem: CertificateProblem) -> VerifyError {
    VerifyError::Certificate {
        which: link.certificate.which(link.role),
        problem,
    }
}

fn chain_error(link: &Link, problem: ChainProblem) -> VerifyError {
    VerifyError::Chain {
        which: link.certificate.which(link.role),
        problem,
    }
}

fn proxy_error(link: &Link, problem: ProxyProblem) -> VerifyError {
    VerifyError::Proxy {
        which: link.certificate.which(link.role),
        problem,
    }
}
