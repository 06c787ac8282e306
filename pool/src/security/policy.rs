//! `SEC_<LEVEL>_<FEATURE>`: what a handshake must bring, for each level (protocol page 01, section 3.4).

use std::collections::{BTreeMap, BTreeSet};

use cedar::security::policy::{Feature, PolicyError};
use cedar::security::{AuthMethod, Level, SecurityPolicy, Wish};

use super::error::Problem;
use super::knobs::{Found, Knobs};
use super::levels::{LEVELS, chain};

/// Seconds a session lasts by default, for daemons and for tools (`htcondor:src/condor_io/condor_secman.cpp`,
/// `FillInSecurityPolicyAd`).
const DAEMON_DURATION: i64 = 86_400;
const TOOL_DURATION: i64 = 60;

/// Seconds a session may lie idle by default.
const LEASE: i64 = 3_600;

/// What can be used besides FS, IDTOKENS, CLAIMTOBE and ANONYMOUS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Available {
    /// There is a certificate.
    pub(super) ssl: bool,
    /// There is a pool password.
    pub(super) password: bool,
}

/// The policy of each level; that of [`Level::Client`] is for connections that we make.
pub(super) fn load(knobs: &mut Knobs<'_>, available: Available) -> BTreeMap<Level, SecurityPolicy> {
    let legacy = knobs.boolean("LEGACY_ALLOW_SEMANTICS", false);
    let mut reader = Reader {
        knobs,
        legacy,
        available,
        told: BTreeSet::new(),
    };
    LEVELS
        .into_iter()
        .map(|level| (level, reader.policy(level)))
        .collect()
}

/// The policy of connections that we make.
pub(super) fn load_client(knobs: &mut Knobs<'_>, available: Available) -> SecurityPolicy {
    let mut reader = Reader {
        knobs,
        legacy: false,
        available,
        told: BTreeSet::new(),
    };
    reader.policy(Level::Client)
}

struct Reader<'k, 'a> {
    knobs: &'k mut Knobs<'a>,
    legacy: bool,
    available: Available,
    /// Knobs whose mistakes are told: one of them may count for many levels.
    told: BTreeSet<String>,
}

impl Reader<'_, '_> {
    fn policy(&mut self, level: Level) -> SecurityPolicy {
        let negotiation = self.wish(level, "NEGOTIATION");
        let authentication = self.wish(level, "AUTHENTICATION");
        let encryption = self.wish(level, "ENCRYPTION");
        let integrity = self.wish(level, "INTEGRITY");
        let policy = SecurityPolicy {
            negotiation: negotiation.0,
            authentication: authentication.0,
            encryption: encryption.0,
            integrity: integrity.0,
            methods: self.methods(level),
            session_duration: self.duration(level),
            session_lease: self
                .number(level, "SESSION_LEASE", 0..=i64::from(i32::MAX))
                .unwrap_or(LEASE),
        };
        self.ciphers(level);
        let place = |feature| match feature {
            Feature::Negotiation => &negotiation,
            Feature::Authentication => &authentication,
            Feature::Encryption => &encryption,
            Feature::Integrity => &integrity,
        };
        match policy.tightened() {
            Err(PolicyError::Contradiction { strong, weak }) => {
                let (strong_place, weak_place) = (place(strong), place(weak));
                // The knob that somebody wrote is the one to change.
                let at = weak_place.1.as_ref().or(strong_place.1.as_ref());
                if let Some(found) = at
                    && self.first_time(&format!("{}/{strong}", found.knob))
                {
                    let problem = Problem::Contradiction {
                        strong,
                        weak,
                        required_by: strong_place
                            .1
                            .as_ref()
                            .map_or_else(|| "the default".to_owned(), Found::label),
                    };
                    let found = found.clone();
                    self.knobs.fail(&found, problem);
                }
            }
            Err(_) => {}
            Ok(tightened) => {
                let raised = [
                    (
                        Feature::Authentication,
                        policy.authentication,
                        tightened.authentication,
                    ),
                    (
                        Feature::Negotiation,
                        policy.negotiation,
                        tightened.negotiation,
                    ),
                ];
                for (feature, wish, now) in raised {
                    if let (true, Some(found)) = (wish != now, place(feature).1.clone())
                        && self.first_time(&format!("{}/raised", found.knob))
                    {
                        let text = format!(
                            "{feature} is {now} all the same, because encryption is {} and integrity is {}",
                            policy.encryption, policy.integrity
                        );
                        self.knobs.warn(&found, &text);
                    }
                }
            }
        }
        policy
    }

    fn find(&mut self, level: Level, feature: &str) -> Option<Found> {
        let names: Vec<_> = chain(level, self.legacy)
            .into_iter()
            .map(|name| format!("SEC_{name}_{feature}"))
            .collect();
        self.knobs.first(&names)
    }

    /// True if nothing was told about this yet.
    fn first_time(&mut self, what: &str) -> bool {
        self.told.insert(what.to_owned())
    }

    fn wish(&mut self, level: Level, feature: &str) -> (Wish, Option<Found>) {
        let Some(found) = self.find(level, feature) else {
            return (Wish::Required, None);
        };
        // HTCondor looks at the first letter only; a word that merely begins like one is more likely a mistake.
        const WORDS: [&str; 8] = [
            "REQUIRED",
            "PREFERRED",
            "OPTIONAL",
            "NEVER",
            "YES",
            "NO",
            "TRUE",
            "FALSE",
        ];
        let known = WORDS
            .iter()
            .any(|word| word.eq_ignore_ascii_case(&found.value));
        match Wish::from_text(&found.value).filter(|_| known) {
            Some(wish) => (wish, Some(found)),
            None => {
                if self.first_time(&found.knob) {
                    let text = found.value.clone();
                    self.knobs.fail(&found, Problem::Wish { text });
                }
                (Wish::Required, None)
            }
        }
    }

    fn methods(&mut self, level: Level) -> Vec<AuthMethod> {
        let Some(found) = self.find(level, "AUTHENTICATION_METHODS") else {
            let mut methods = vec![AuthMethod::Fs, AuthMethod::Token];
            if self.available.ssl || level == Level::Client {
                methods.push(AuthMethod::Ssl);
            }
            return methods;
        };
        let tell = self.first_time(&found.knob);
        let mut methods = Vec::new();
        for word in found.items() {
            let Some(method) = AuthMethod::from_name(word) else {
                if tell {
                    let text = word.to_owned();
                    self.knobs.fail(&found, Problem::Method { text });
                }
                continue;
            };
            if let Some(why) = self.unusable(method, level) {
                if tell {
                    let text = format!("{word} is passed over: {why}");
                    self.knobs.warn(&found, &text);
                }
                continue;
            }
            if !methods.contains(&method) {
                methods.push(method);
            }
        }
        if methods.is_empty() && tell {
            let text = found.value.clone();
            self.knobs.fail(&found, Problem::NoMethod { text });
        }
        methods
    }

    fn unusable(&self, method: AuthMethod, level: Level) -> Option<&'static str> {
        match method {
            AuthMethod::Fs | AuthMethod::Token | AuthMethod::ClaimToBe | AuthMethod::Anonymous => {
                None
            }
            AuthMethod::Ssl if self.available.ssl || level == Level::Client => None,
            AuthMethod::Ssl => Some(
                "the pool has no certificate; set AUTH_SSL_SERVER_CERTFILE and AUTH_SSL_SERVER_KEYFILE",
            ),
            AuthMethod::Password if self.available.password => None,
            AuthMethod::Password => {
                Some("there is no pool password; make the file of SEC_PASSWORD_FILE")
            }
            _ => Some("this pool does not have the method"),
        }
    }

    fn ciphers(&mut self, level: Level) {
        let Some(found) = self.find(level, "CRYPTO_METHODS") else {
            return;
        };
        let has_aes = found.items().any(|word| word.eq_ignore_ascii_case("AES"));
        if !has_aes && self.first_time(&found.knob) {
            let text = found.value.clone();
            self.knobs.fail(&found, Problem::NoCipher { text });
        }
    }

    fn duration(&mut self, level: Level) -> i64 {
        let range = 1..=i64::from(i32::MAX);
        let own = self.knobs.config().subsys().map(str::to_uppercase);
        let is_tool = own
            .as_deref()
            .is_none_or(|own| own == "TOOL" || own == "SUBMIT");
        if let Some(own) = own {
            for name in chain(level, self.legacy) {
                let knob = format!("SEC_{own}_{name}_SESSION_DURATION");
                if let Some(value) = self.integer(&knob, range.clone()) {
                    return value;
                }
            }
        }
        self.number(level, "SESSION_DURATION", range)
            .unwrap_or(if is_tool {
                TOOL_DURATION
            } else {
                DAEMON_DURATION
            })
    }

    fn number(
        &mut self,
        level: Level,
        feature: &str,
        range: std::ops::RangeInclusive<i64>,
    ) -> Option<i64> {
        let knob = self.find(level, feature)?.knob;
        self.integer(&knob, range)
    }

    fn integer(&mut self, knob: &str, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
        if self.knobs.config().raw(knob).is_none() || !self.first_time_or_read(knob) {
            return None;
        }
        self.knobs.integer(knob, range)
    }

    /// A number that is wrong is told each time it is read, so it is not read again.
    fn first_time_or_read(&mut self, knob: &str) -> bool {
        if self.told.contains(knob) {
            return false;
        }
        let good = self.knobs.config().optional_int(knob, i64::MIN..=i64::MAX);
        if good.is_err() {
            self.told.insert(knob.to_owned());
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use condorconf::{Loader, MemoryFiles};

    use super::*;

    fn read(text: &str) -> (BTreeMap<Level, SecurityPolicy>, Result<Vec<String>, String>) {
        let files = MemoryFiles::new();
        let loader = Loader::new(&files)
            .subsys("POOL")
            .read_text("pool.conf", text);
        let config = loader.finish().unwrap();
        let mut knobs = Knobs::new(&config);
        let available = Available {
            ssl: false,
            password: false,
        };
        let policies = load(&mut knobs, available);
        (
            policies,
            knobs.finish().map_err(|errors| errors.to_string()),
        )
    }

    #[test]
    fn by_default_everything_is_required() {
        let (policies, told) = read("");
        assert_eq!(told, Ok(Vec::new()));
        assert_eq!(policies.len(), LEVELS.len());
        for (level, policy) in policies {
            let wishes = [
                policy.negotiation,
                policy.authentication,
                policy.encryption,
                policy.integrity,
            ];
            assert_eq!(wishes, [Wish::Required; 4], "{level}");
            assert_eq!(policy.session_duration, 86_400);
            assert!(!policy.methods.contains(&AuthMethod::ClaimToBe));
            assert!(!policy.methods.contains(&AuthMethod::Anonymous));
        }
    }

    #[test]
    fn a_level_counts_before_daemon_before_default() {
        let (policies, told) = read(
            "SEC_DEFAULT_AUTHENTICATION = OPTIONAL\nSEC_DEFAULT_ENCRYPTION = optional\nSEC_DEFAULT_INTEGRITY = OPTIONAL\n\
             SEC_DAEMON_ENCRYPTION = REQUIRED\nSEC_ADVERTISE_STARTD_ENCRYPTION = PREFERRED\n\
             SEC_READ_AUTHENTICATION_METHODS = TOKENS, CLAIMTOBE ANONYMOUS\n\
             SEC_DAEMON_SESSION_DURATION = 600\nSEC_POOL_DAEMON_SESSION_DURATION = 500\nSEC_WRITE_SESSION_LEASE = 0\n",
        );
        let of = |level| policies.get(&level).unwrap();
        assert_eq!(of(Level::Write).encryption, Wish::Optional);
        assert_eq!(of(Level::AdvertiseMaster).encryption, Wish::Required);
        assert_eq!(of(Level::AdvertiseStartd).encryption, Wish::Preferred);
        let listed = [
            AuthMethod::Token,
            AuthMethod::ClaimToBe,
            AuthMethod::Anonymous,
        ];
        assert_eq!(of(Level::Read).methods, listed);
        assert_eq!(of(Level::Daemon).session_duration, 500);
        assert_eq!(of(Level::AdvertiseStartd).session_duration, 500);
        assert_eq!(of(Level::Read).session_duration, 86_400);
        assert_eq!(
            (
                of(Level::Write).session_lease,
                of(Level::Read).session_lease
            ),
            (0, 3600)
        );
        // The daemons' encryption raises the authentication that is optional elsewhere, which is worth a word.
        let told = told.unwrap();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].contains("pool.conf:1: SEC_DEFAULT_AUTHENTICATION"),
            "{told:?}"
        );
    }

    #[test]
    fn mistakes_are_told_once_with_their_place() {
        let (_, told) = read(
            "SEC_DEFAULT_AUTHENTICATION = NEVER\nSEC_READ_ENCRYPTION = ALWAYS\nSEC_DEFAULT_CRYPTO_METHODS = BLOWFISH,3DES\n\
             SEC_WRITE_AUTHENTICATION_METHODS = KERBEROS\nSEC_DAEMON_AUTHENTICATION_METHODS = FS, PASSPORT\n\
             SEC_DEFAULT_SESSION_DURATION = long\n",
        );
        let told = told.unwrap_err();
        let wanted = [
            "pool.conf:1: SEC_DEFAULT_AUTHENTICATION: ",
            "pool.conf:2: SEC_READ_ENCRYPTION: ",
            "pool.conf:3: SEC_DEFAULT_CRYPTO_METHODS: ",
            "pool.conf:4: SEC_WRITE_AUTHENTICATION_METHODS: ",
            "pool.conf:5: SEC_DAEMON_AUTHENTICATION_METHODS: \"PASSPORT\"",
            "SEC_DEFAULT_SESSION_DURATION: ",
        ];
        for wanted in wanted {
            assert!(told.contains(wanted), "{wanted} in\n{told}");
        }
        // Encryption and integrity contradict it both.
        assert_eq!(told.lines().count(), wanted.len(), "{told}");
    }
}
