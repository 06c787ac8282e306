//! Which credential decides whose a payload is: what the frontend wishes, what the site's way of starting payloads can
//! use, and what the job brings, reconciled. Pure: [`reconcile`] when the pilot starts, [`IdentityPolicy::decide`] for
//! each job, [`IdentityPolicy::condition`] for the slot's `START`, so that a job that would only be held is not matched
//! in the first place.

use std::fmt;

/// What a job has to bring, as the frontend wishes (`SAILPLANE_JOB_CREDENTIAL`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CredentialWish {
    /// What the site's way of starting payloads needs; proxies where it has a choice.
    #[default]
    Site,
    /// An X.509 proxy.
    Proxy,
    /// That, or a token of the service that `SAILPLANE_JOB_TOKEN` names. A job that has both is its proxy's.
    ProxyOrToken,
}

impl CredentialWish {
    /// As it is configured.
    #[must_use]
    pub fn of(word: Option<&str>) -> Self {
        match word {
            Some("PROXY") => Self::Proxy,
            Some("PROXY_OR_TOKEN") => Self::ProxyOrToken,
            _ => Self::Site,
        }
    }
}

/// What the way in which payloads are started needs to know whose they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SiteNeeds {
    /// Nothing: all payloads have one account. Whose they are the pool asserts, and nobody checks it here.
    Nothing,
    /// A proxy: the site's program takes no other credential.
    Proxy,
    /// A proxy or a token, which the helper verifies.
    ProxyOrToken,
}

/// What is wished cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "SAILPLANE_JOB_TOKEN is '{service}', which is no name of a service: letters, digits, '-', '_', '.' and '*' make one"
)]
pub struct Irreconcilable {
    service: String,
}

/// What decides, for as long as the pilot lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityPolicy {
    /// The service whose token decides.
    token: Option<String>,
    is_required: bool,
}

/// What a job brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Brought<'a> {
    /// It has a proxy.
    pub proxy: bool,
    /// The services whose credentials it needs (`OAuthServicesNeeded`).
    pub services: &'a [&'a str],
}

/// What proves whose a payload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// Its proxy.
    Proxy,
    /// Its token.
    Token,
    /// The pool's word.
    Pool,
}

/// The job brought nothing that counts here. `Display` says what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    policy: IdentityPolicy,
}

/// Frontend and site.
///
/// # Errors
/// [`Irreconcilable`].
pub fn reconcile(
    wish: CredentialWish,
    site: SiteNeeds,
    service: &str,
) -> Result<IdentityPolicy, Irreconcilable> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.*".contains(&byte);
    if service.is_empty() || !service.bytes().all(is_name) {
        let service = service.escape_default().to_string();
        return Err(Irreconcilable { service });
    }
    let takes_token = wish == CredentialWish::ProxyOrToken && site != SiteNeeds::Proxy;
    Ok(IdentityPolicy {
        token: takes_token.then(|| service.to_owned()),
        is_required: wish != CredentialWish::Site || site != SiteNeeds::Nothing,
    })
}

impl IdentityPolicy {
    /// Nothing is required, and a proxy counts if there is one.
    #[must_use]
    pub const fn lenient() -> Self {
        Self {
            token: None,
            is_required: false,
        }
    }

    /// A proxy is required.
    #[must_use]
    pub const fn proxy() -> Self {
        Self {
            token: None,
            is_required: true,
        }
    }

    /// Whether a job without a credential cannot run.
    #[must_use]
    pub const fn is_required(&self) -> bool {
        self.is_required
    }

    /// The service whose token may decide.
    #[must_use]
    pub fn token_service(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// What decides for a job.
    ///
    /// # Errors
    /// [`Missing`]: it is to be held.
    pub fn decide(&self, job: Brought<'_>) -> Result<Proof, Missing> {
        let has_token = || {
            let service = self.token.as_deref();
            service.is_some_and(|service| job.services.contains(&service))
        };
        if job.proxy {
            Ok(Proof::Proxy)
        } else if has_token() {
            Ok(Proof::Token)
        } else if self.is_required {
            Err(Missing {
                policy: self.clone(),
            })
        } else {
            Ok(Proof::Pool)
        }
    }

    /// What the slot's `START` asks of a job beside what is configured, as a ClassAd expression; `None`: nothing.
    #[must_use]
    pub fn condition(&self) -> Option<String> {
        if !self.is_required {
            return None;
        }
        const PROXY: &str = "TARGET.x509userproxy =!= undefined";
        Some(match &self.token {
            None => format!("({PROXY})"),
            Some(service) => format!(
                "({PROXY} || (stringListMember(\"{service}\", TARGET.OAuthServicesNeeded, \", \") =?= true))"
            ),
        })
    }

    /// A few words for the log and the slot ad.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match (self.is_required, &self.token) {
            (false, _) => "none",
            (true, None) => "proxy",
            (true, Some(_)) => "proxy or token",
        }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const PROXY: &str = "make a proxy, add 'use_x509userproxy = true' (or 'x509userproxy = FILE') to the submit file";
        f.write_str("The job brought no credential")?;
        match &self.policy.token {
            None => write!(
                f,
                ", and without one there is no account for it here: {PROXY} and submit the job again"
            ),
            Some(service) => write!(
                f,
                " that counts here: {PROXY}, or name the service {service} in 'use_oauth_services', and submit the job again"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use classad::{ClassAd, EvalContext, Expr, Value};

    use super::*;

    const WISHES: [CredentialWish; 3] = [
        CredentialWish::Site,
        CredentialWish::Proxy,
        CredentialWish::ProxyOrToken,
    ];
    const SITES: [SiteNeeds; 3] = [
        SiteNeeds::Nothing,
        SiteNeeds::Proxy,
        SiteNeeds::ProxyOrToken,
    ];
    /// What jobs bring: a proxy or not, a token or not, and that of another service.
    const JOBS: [Brought<'static>; 5] = [
        job(false, &[]),
        job(true, &[]),
        job(false, &["scitokens"]),
        job(true, &["box", "scitokens"]),
        job(false, &["box"]),
    ];

    const fn job(proxy: bool, services: &'static [&'static str]) -> Brought<'static> {
        Brought { proxy, services }
    }

    /// The job ad that says the same.
    fn ad(job: Brought<'_>) -> ClassAd {
        let mut ad = ClassAd::new();
        if job.proxy {
            ad.insert("x509userproxy", "/tmp/x509up_u500");
        }
        if !job.services.is_empty() {
            ad.insert("OAuthServicesNeeded", job.services.join(","));
        }
        ad
    }

    #[test]
    fn the_whole_table() {
        use CredentialWish as W;
        use SiteNeeds as S;
        // For each wish and site: what is said of it, and what decides for each of the jobs above.
        let table = [
            (
                W::Site,
                S::Nothing,
                "none",
                ["pool", "proxy", "pool", "proxy", "pool"],
            ),
            (
                W::Site,
                S::Proxy,
                "proxy",
                ["hold", "proxy", "hold", "proxy", "hold"],
            ),
            (
                W::Site,
                S::ProxyOrToken,
                "proxy",
                ["hold", "proxy", "hold", "proxy", "hold"],
            ),
            (
                W::Proxy,
                S::Nothing,
                "proxy",
                ["hold", "proxy", "hold", "proxy", "hold"],
            ),
            (
                W::Proxy,
                S::Proxy,
                "proxy",
                ["hold", "proxy", "hold", "proxy", "hold"],
            ),
            (
                W::Proxy,
                S::ProxyOrToken,
                "proxy",
                ["hold", "proxy", "hold", "proxy", "hold"],
            ),
            (
                W::ProxyOrToken,
                S::Nothing,
                "proxy or token",
                ["hold", "proxy", "token", "proxy", "hold"],
            ),
            (
                W::ProxyOrToken,
                S::Proxy,
                "proxy",
                ["hold", "proxy", "hold", "proxy", "hold"],
            ),
            (
                W::ProxyOrToken,
                S::ProxyOrToken,
                "proxy or token",
                ["hold", "proxy", "token", "proxy", "hold"],
            ),
        ];
        for (wish, site, word, wanted) in table {
            let policy = reconcile(wish, site, "scitokens").unwrap();
            assert_eq!(policy.word(), word, "{wish:?} {site:?}");
            let got = JOBS.map(|job| match policy.decide(job) {
                Ok(Proof::Proxy) => "proxy",
                Ok(Proof::Token) => "token",
                Ok(Proof::Pool) => "pool",
                Err(_) => "hold",
            });
            assert_eq!(got, wanted, "{wish:?} {site:?}");
        }
        assert_eq!(table.len(), WISHES.len() * SITES.len());
        for service in ["", "a b", "x\"y", "a\nb"] {
            let error = reconcile(W::ProxyOrToken, S::ProxyOrToken, service).unwrap_err();
            assert!(
                error.to_string().starts_with("SAILPLANE_JOB_TOKEN"),
                "{error}"
            );
        }
    }

    /// What is held would not have been matched, and what is not held would.
    #[test]
    fn start_says_what_the_decision_will_be() {
        for wish in WISHES {
            for site in SITES {
                let policy = reconcile(wish, site, "scitokens").unwrap();
                for job in JOBS {
                    let matches = policy.condition().is_none_or(|condition| {
                        let expr = Expr::parse_old(&condition).unwrap();
                        let job = ad(job);
                        let value = EvalContext::new().target(&job).now(0).eval(&expr);
                        value == Value::Boolean(true)
                    });
                    let runs = policy.decide(job).is_ok();
                    assert_eq!(matches, runs, "{wish:?} {site:?} {job:?}");
                }
            }
        }
    }

    #[test]
    fn a_hold_says_what_to_do() {
        let text = |wish| {
            let policy = reconcile(wish, SiteNeeds::ProxyOrToken, "scitokens").unwrap();
            policy.decide(JOBS[0]).unwrap_err().to_string()
        };
        assert!(text(CredentialWish::Site).contains("use_x509userproxy = true"));
        let both = text(CredentialWish::ProxyOrToken);
        assert!(
            both.contains("use_x509userproxy") && both.contains("scitokens"),
            "{both}"
        );
        assert!(!both.contains('\n'));
    }
}
