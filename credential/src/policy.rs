//! Certificate policies where a CA demands one (RFC 5280 6.1, policy constraints). Hardly any grid CA
//! does, so the policies of a path are read only when some certificate of it has such a constraint.
//!
//! The sets here hold what RFC 5280's tree of policies has on its lowest level, which is all that the
//! verdict depends on (RFC 9618 5).

use std::collections::BTreeSet;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::oid_registry::Oid;
use x509_parser::prelude::FromDer;

use crate::error::VerifyError;
use crate::path::Link;
use crate::problem::ChainProblem;

/// Judges the part of a path from the user up.
///
/// # Errors
/// [`ChainProblem::Policy`] for the first certificate, from the trust anchor down, without a policy
/// that is demanded.
pub(crate) fn check(links: &[Link]) -> Result<(), VerifyError> {
    let Some((_, below_anchor)) = links.split_last() else {
        return Ok(());
    };
    let mut state = State::new(below_anchor.len());
    for (index, link) in below_anchor.iter().enumerate().rev() {
        let certificate = &link.certificate;
        let Ok((_, parsed)) = X509Certificate::from_der(&certificate.der) else {
            continue; // it was read before
        };
        let facts = Facts::of(&parsed);
        if !state.follow(&facts, index == 0, certificate.self_issued()) {
            return Err(VerifyError::Chain {
                which: certificate.which(link.role),
                problem: ChainProblem::Policy,
            });
        }
    }
    Ok(())
}

/// anyPolicy, 2.5.29.32.0.
const ANY: &[u8] = &[0x55, 29, 32, 0];

type Set = BTreeSet<Vec<u8>>;

/// What the extensions of one certificate say.
#[derive(Debug, Default)]
struct Facts {
    policies: Set,
    mappings: Vec<(Vec<u8>, Vec<u8>)>,
    require_explicit: Option<usize>,
    inhibit_mapping: Option<usize>,
    inhibit_any: Option<usize>,
}

impl Facts {
    fn of(certificate: &X509Certificate<'_>) -> Self {
        let bytes = |oid: &Oid<'_>| oid.as_bytes().to_vec();
        let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        let mut facts = Self::default();
        for extension in certificate.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::CertificatePolicies(list) => {
                    facts.policies = list.iter().map(|one| bytes(&one.policy_id)).collect();
                }
                ParsedExtension::PolicyMappings(list) => {
                    let pairs = list.mappings.iter();
                    facts.mappings = pairs
                        .map(|pair| {
                            (
                                bytes(&pair.issuer_domain_policy),
                                bytes(&pair.subject_domain_policy),
                            )
                        })
                        .collect();
                }
                ParsedExtension::PolicyConstraints(limits) => {
                    facts.require_explicit = limits.require_explicit_policy.map(count);
                    facts.inhibit_mapping = limits.inhibit_policy_mapping.map(count);
                }
                ParsedExtension::InhibitAnyPolicy(limit) => {
                    facts.inhibit_any = Some(count(limit.skip_certs));
                }
                _ => {}
            }
        }
        facts
    }
}

/// The state variables of RFC 5280 6.1.2.
#[derive(Debug)]
struct State {
    /// Policies that hold so far; one that is [`ANY`] stands for all others.
    valid: Set,
    /// In how many certificates a policy has to hold; 0: from here on.
    explicit: usize,
    mapping: usize,
    any: usize,
}

impl State {
    fn new(length: usize) -> Self {
        Self {
            valid: Set::from([ANY.to_vec()]),
            explicit: length + 1,
            mapping: length + 1,
            any: length + 1,
        }
    }

    /// Goes on with the next certificate down; false when it has no policy that it needs.
    fn follow(&mut self, facts: &Facts, is_last: bool, is_self_issued: bool) -> bool {
        // 6.1.3 (d) and (e)
        let may_be_any = self.any > 0 || (!is_last && is_self_issued);
        let own_any = may_be_any && facts.policies.contains(ANY);
        let all = self.valid.contains(ANY);
        let named = facts.policies.iter().filter(|policy| *policy != ANY);
        let mut valid: Set = named
            .filter(|policy| all || self.valid.contains(*policy))
            .cloned()
            .collect();
        if own_any {
            valid.extend(self.valid.iter().cloned());
        }
        self.valid = valid;
        if is_last {
            // 6.1.5 (a) and (b)
            self.explicit = self.explicit.saturating_sub(1);
            if facts.require_explicit == Some(0) {
                self.explicit = 0;
            }
        }
        // 6.1.3 (f)
        if self.explicit == 0 && self.valid.is_empty() {
            return false;
        }
        if !is_last {
            self.prepare_next(facts, is_self_issued);
        }
        true
    }

    /// 6.1.4 (a), (b), (h) to (j)
    fn prepare_next(&mut self, facts: &Facts, is_self_issued: bool) {
        let all = self.valid.contains(ANY);
        let mapped: Set = facts
            .mappings
            .iter()
            .filter(|(from, _)| all || self.valid.contains(from))
            .map(|(_, to)| to.clone())
            .collect();
        for (from, _) in &facts.mappings {
            self.valid.remove(from);
        }
        if self.mapping > 0 {
            self.valid.extend(mapped);
        }
        if !is_self_issued {
            self.explicit = self.explicit.saturating_sub(1);
            self.mapping = self.mapping.saturating_sub(1);
            self.any = self.any.saturating_sub(1);
        }
        let lower =
            |own: &mut usize, said: Option<usize>| *own = said.map_or(*own, |said| said.min(*own));
        lower(&mut self.explicit, facts.require_explicit);
        lower(&mut self.mapping, facts.inhibit_mapping);
        lower(&mut self.any, facts.inhibit_any);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A certificate with these policies; 0 is anyPolicy.
    fn with(policies: &[u8]) -> Facts {
        let id = |policy: &u8| match policy {
            0 => ANY.to_vec(),
            other => vec![*other],
        };
        Facts {
            policies: policies.iter().map(id).collect(),
            ..Facts::default()
        }
    }

    /// Whether a path from the first CA below the anchor to the user is accepted.
    fn accepts(path: &[Facts]) -> bool {
        let mut state = State::new(path.len());
        path.iter()
            .enumerate()
            .all(|(index, facts)| state.follow(facts, index + 1 == path.len(), false))
    }

    fn demanding(policies: &[u8], skip: usize) -> Facts {
        Facts {
            require_explicit: Some(skip),
            ..with(policies)
        }
    }

    #[test]
    fn nothing_is_asked_where_nobody_demands() {
        assert!(accepts(&[with(&[]), with(&[])]));
        assert!(accepts(&[with(&[1]), with(&[2])]));
    }

    #[test]
    fn a_demanded_policy_holds_all_the_way_down() {
        assert!(accepts(&[demanding(&[1], 0), with(&[1])]));
        assert!(accepts(&[demanding(&[1, 2], 0), with(&[2, 3])]));
        assert!(accepts(&[demanding(&[0], 0), with(&[5])]));
        assert!(accepts(&[demanding(&[1], 0), with(&[0])]));
        for user in [&[][..], &[2]] {
            assert!(!accepts(&[demanding(&[1], 0), with(user)]));
        }
        assert!(!accepts(&[demanding(&[1], 0), with(&[2]), with(&[1])]));
        assert!(!accepts(&[demanding(&[], 0), with(&[1])]));
        assert!(
            !accepts(&[with(&[1]), demanding(&[2], 0)]),
            "by the user's own word"
        );
    }

    #[test]
    fn a_demand_may_begin_further_down() {
        assert!(accepts(&[demanding(&[], 2), with(&[])]));
        assert!(!accepts(&[demanding(&[], 1), with(&[]), with(&[])]));
    }

    #[test]
    fn any_policy_may_be_forbidden() {
        let forbids = || Facts {
            inhibit_any: Some(0),
            ..demanding(&[1], 0)
        };
        assert!(!accepts(&[forbids(), with(&[0])]));
        assert!(accepts(&[forbids(), with(&[1])]));
    }

    #[test]
    fn policies_are_mapped_unless_that_is_forbidden() {
        let maps = |inhibit| Facts {
            mappings: vec![(vec![1], vec![7])],
            inhibit_mapping: inhibit,
            ..demanding(&[1], 0)
        };
        assert!(accepts(&[maps(None), with(&[7])]));
        assert!(!accepts(&[maps(None), with(&[1])]));
        let above = Facts {
            inhibit_mapping: Some(0),
            ..with(&[0])
        };
        assert!(!accepts(&[above, maps(None), with(&[7])]));
    }
}
