//! Token requests: somebody without credentials asks for a token, somebody with them approves, and the first collects
//! it (protocol page 01, section 9.1; `htcondor:src/condor_daemon_core.V6/daemon_core_main.cpp`). No I/O, no clock.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use cedar::security::Level;

use super::access::{Network, Rules};
use super::keys::check_identity;

/// Most requests at a time, and most of them from one address, so that one cannot shut out the others.
const MAX_REQUESTS: usize = 1000;
const MAX_FROM_ONE: usize = 100;

/// Request ids have seven digits.
const IDS: u32 = 10_000_000;

/// Seconds of wrong polls that are counted together, and how many of them are too many: from one address, from all.
const WINDOW: i64 = 10;
const MAX_WRONG_FROM_ONE: u32 = 20;
const MAX_WRONG: u32 = 200;

/// Longest client id.
const MAX_CLIENT_ID: usize = 1024;

/// Seconds before an auto-approval rule within which requests still profit from it.
const RULE_REACHES_BACK: i64 = 60;

/// Most auto-approval rules.
const MAX_RULES: usize = 100;

/// What the configuration says.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    /// Seconds after which a request has expired.
    pub(super) lifetime: i64,
    /// Longest life of an auto-approval rule in seconds.
    pub(super) rule_lifetime: i64,
    /// Longest life of a token in seconds.
    pub(super) max_token_life: Option<i64>,
    /// The only levels that can be asked for; `None`: all.
    pub(super) bounds: Option<Vec<Level>>,
}

/// A request as it comes in.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    /// Made up by the requester, who must show it to collect the token.
    pub(super) client_id: String,
    /// The identity wanted.
    pub(super) identity: String,
    /// The levels wanted, as written; `None`: without a limit.
    pub(super) bounds: Option<String>,
    /// Seconds wanted; `None`: without an end.
    pub(super) lifetime: Option<i64>,
    /// Who the requester is.
    pub(super) requester: String,
    /// Where from.
    pub(super) from: IpAddr,
}

/// A request.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) id: String,
    pub(super) client_id: String,
    pub(super) requester: String,
    pub(super) from: IpAddr,
    pub(super) grant: Grant,
    since: i64,
    state: State,
}

/// The token that a request is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) identity: String,
    pub(super) scopes: Vec<Level>,
    pub(super) lifetime: Option<i64>,
}

#[derive(Debug, Clone)]
enum State {
    Pending,
    Approved(String),
    Failed(&'static str),
}

/// Why not, with HTCondor's number for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub(super) struct Refusal {
    pub(super) code: i64,
    pub(super) text: String,
}

impl Refusal {
    pub(super) fn new(code: i64, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
        }
    }
}

/// A request that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Started {
    /// Its number, under which it waits.
    pub(super) id: String,
    /// The auto-approval rule that approved it already, if one did.
    pub(super) rule: Option<String>,
}

#[derive(Debug, Clone)]
struct Rule {
    text: String,
    network: Network,
    since: i64,
    until: i64,
}

#[derive(Debug, Default)]
struct Wrong {
    since: i64,
    total: u32,
    by_address: HashMap<IpAddr, u32>,
}

/// All requests and rules.
#[derive(Debug)]
pub(super) struct Requests {
    limits: Limits,
    by_id: BTreeMap<u32, Request>,
    rules: Vec<Rule>,
    wrong: Wrong,
}

impl Requests {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            by_id: BTreeMap::new(),
            rules: Vec::new(),
            wrong: Wrong::default(),
        }
    }

    /// Takes a new request. `draw` gives random numbers, `mint` makes the token if a rule approves it. Even then the
    /// token waits to be collected: HTCondor's own tool does not take one that comes at once.
    ///
    /// # Errors
    /// Why it is not taken.
    pub(super) fn start(
        &mut self,
        ask: Ask,
        now: i64,
        mut draw: impl FnMut() -> u32,
        mint: impl FnOnce(&Grant) -> Result<String, Refusal>,
    ) -> Result<Started, Refusal> {
        self.tidy(now);
        if ask.client_id.is_empty() || ask.client_id.len() > MAX_CLIENT_ID {
            return Err(Refusal::new(2, "No client ID provided."));
        }
        check_identity(&ask.identity).map_err(|error| Refusal::new(2, error.to_string()))?;
        let scopes = self.bounds(ask.bounds.as_deref())?;
        let lifetime = shorter(ask.lifetime, self.limits.max_token_life);
        let from_there = self.by_id.values().filter(|known| known.from == ask.from);
        if self.by_id.len() >= MAX_REQUESTS || from_there.count() >= MAX_FROM_ONE {
            return Err(Refusal::new(3, "Too many requests in the system."));
        }
        let number = (0..8)
            .map(|_| draw() % IDS)
            .find(|number| !self.by_id.contains_key(number))
            .ok_or_else(|| Refusal::new(4, "Unable to generate new request ID"))?;
        let mut request = Request {
            id: format!("{number:07}"),
            client_id: ask.client_id,
            requester: ask.requester,
            from: ask.from,
            grant: Grant {
                identity: ask.identity,
                scopes,
                lifetime,
            },
            since: now,
            state: State::Pending,
        };
        let rule = self.rules.iter().find(|rule| rule.approves(&request));
        let rule = rule.map(|rule| rule.text.clone());
        if rule.is_some() {
            request.state = State::Approved(mint(&request.grant)?);
        }
        let id = request.id.clone();
        self.by_id.insert(number, request);
        Ok(Started { id, rule })
    }

    /// Forgets a request that was just taken, because its connection is not fit for one.
    pub(super) fn forget(&mut self, id: &str) {
        if let Ok(number) = id.parse() {
            self.by_id.remove(&number);
        }
    }

    /// The token of a request, if it is approved; it is given out once. `None`: not decided yet.
    ///
    /// # Errors
    /// Why there will be none.
    pub(super) fn finish(
        &mut self,
        id: &str,
        client_id: &str,
        from: IpAddr,
        now: i64,
    ) -> Result<Option<String>, Refusal> {
        // Ids are short: whoever tries many is after somebody else's token.
        if self.wrong.is_too_much(from, now) {
            return Err(Refusal::new(5, "Request rate limit hit."));
        }
        let number: Option<u32> = id.parse().ok();
        let Some(number) = number else {
            return Err(Refusal::new(2, "Unable to convert request ID to integer."));
        };
        let known = self.by_id.get(&number);
        let known = known.filter(|known| known.since + 2 * self.limits.lifetime >= now);
        let Some(request) = known else {
            self.wrong.count(from, now);
            return Err(Refusal::new(3, "Request ID is not known."));
        };
        if !same(&request.client_id, client_id) {
            self.wrong.count(from, now);
            return Err(Refusal::new(3, "Client ID is incorrect."));
        }
        let expired = self.expired(request, now);
        match &request.state {
            State::Pending if expired => {
                self.by_id.remove(&number);
                Err(Refusal::new(5, "Request has expired."))
            }
            State::Pending => Ok(None),
            State::Failed(why) => {
                let why = *why;
                self.by_id.remove(&number);
                Err(Refusal::new(4, why))
            }
            State::Approved(token) => {
                let token = token.clone();
                self.by_id.remove(&number);
                Ok(Some(token))
            }
        }
    }

    /// The requests that wait for a decision.
    pub(super) fn pending(&self, now: i64) -> impl Iterator<Item = &Request> {
        self.by_id
            .values()
            .filter(move |known| matches!(known.state, State::Pending) && !self.expired(known, now))
    }

    /// Approves a request: `may` says whether the one who asks may, `mint` makes the token.
    ///
    /// # Errors
    /// Why it is not approved.
    pub(super) fn approve(
        &mut self,
        id: &str,
        client_id: &str,
        now: i64,
        may: impl FnOnce(&Request) -> Result<(), Refusal>,
        mint: impl FnOnce(&Grant) -> Result<String, Refusal>,
    ) -> Result<Request, Refusal> {
        let request = self.undecided(id, Some(client_id), now)?;
        may(request)?;
        match mint(&request.grant) {
            Ok(token) => request.state = State::Approved(token),
            Err(refusal) => {
                request.state = State::Failed("Request failed.");
                return Err(refusal);
            }
        }
        Ok(request.clone())
    }

    /// Denies a request; the requester is told so.
    ///
    /// # Errors
    /// Why it is not denied.
    pub(super) fn deny(
        &mut self,
        id: &str,
        now: i64,
        may: impl FnOnce(&Request) -> Result<(), Refusal>,
    ) -> Result<Request, Refusal> {
        let request = self.undecided(id, None, now)?;
        may(request)?;
        request.state = State::Failed("The request was denied.");
        Ok(request.clone())
    }

    /// From now on, for so many seconds at most, requests of daemons from a network are approved without asking.
    ///
    /// # Errors
    /// Why there is no such rule.
    pub(super) fn add_rule(
        &mut self,
        network: &str,
        lifetime: i64,
        now: i64,
    ) -> Result<(), Refusal> {
        self.tidy(now);
        if lifetime <= 0 {
            return Err(Refusal::new(
                -1,
                "Auto-approval rule lifetimes must be greater than zero.",
            ));
        }
        let Ok(Some(parsed)) = Network::parse(network) else {
            return Err(Refusal::new(-2, "Auto-approval rule netblock invalid."));
        };
        if self.rules.len() >= MAX_RULES {
            return Err(Refusal::new(-3, "Too many auto-approval rules."));
        }
        self.rules.push(Rule {
            text: network.to_owned(),
            network: parsed,
            since: now,
            until: now + lifetime.min(self.limits.rule_lifetime),
        });
        Ok(())
    }

    /// Approves what waits and a rule fits; the requests approved.
    pub(super) fn apply_rules(
        &mut self,
        now: i64,
        mut mint: impl FnMut(&Grant) -> Result<String, Refusal>,
    ) -> Vec<Request> {
        let mut approved = Vec::new();
        let lifetime = self.limits.lifetime;
        for request in self.by_id.values_mut() {
            let waits = matches!(request.state, State::Pending) && request.since + lifetime >= now;
            if !waits || !self.rules.iter().any(|rule| rule.approves(request)) {
                continue;
            }
            match mint(&request.grant) {
                Ok(token) => {
                    request.state = State::Approved(token);
                    approved.push(request.clone());
                }
                Err(_) => request.state = State::Failed("Request failed."),
            }
        }
        approved
    }

    fn undecided(
        &mut self,
        id: &str,
        client_id: Option<&str>,
        now: i64,
    ) -> Result<&mut Request, Refusal> {
        let lifetime = self.limits.lifetime;
        let number: Option<u32> = id.parse().ok();
        let number =
            number.ok_or_else(|| Refusal::new(2, "Unable to convert request ID to integer."))?;
        let unknown = || Refusal::new(5, "Request unknown.");
        let request = self.by_id.get_mut(&number).ok_or_else(unknown)?;
        if client_id.is_some_and(|client_id| !same(&request.client_id, client_id)) {
            return Err(unknown());
        }
        if !matches!(request.state, State::Pending) || request.since + lifetime < now {
            return Err(Refusal::new(5, "Request in incorrect state."));
        }
        Ok(request)
    }

    /// The levels that a request is for: what it wants, as far as the configuration lets it.
    fn bounds(&self, wanted: Option<&str>) -> Result<Vec<Level>, Refusal> {
        let Some(wanted) = wanted else {
            return Ok(self.limits.bounds.clone().unwrap_or_default());
        };
        let mut levels = Vec::new();
        for word in wanted
            .split(|c: char| c == ',' || c.is_ascii_whitespace())
            .filter(|word| !word.is_empty())
        {
            let level = Level::from_name(word)
                .ok_or_else(|| Refusal::new(2, format!("{word} is not an authorization level.")))?;
            let allowed = self.limits.bounds.as_ref();
            if allowed.is_none_or(|allowed| allowed.contains(&level)) && !levels.contains(&level) {
                levels.push(level);
            }
        }
        if levels.is_empty() {
            // An empty limit would make an all-powerful token.
            return Err(Refusal::new(
                3,
                "All requested authorizations were eliminated by the SEC_TOKEN_REQUEST_LIMITS setting",
            ));
        }
        Ok(levels)
    }

    fn expired(&self, request: &Request, now: i64) -> bool {
        request.since + self.limits.lifetime < now
    }

    fn tidy(&mut self, now: i64) {
        // An expired request is kept as long again, so that its requester learns what became of it.
        let end = 2 * self.limits.lifetime;
        self.by_id.retain(|_, request| request.since + end >= now);
        self.rules.retain(|rule| rule.until >= now);
    }
}

impl Rule {
    /// Rules are for the daemons that ask by themselves when they start, and for nothing else.
    fn approves(&self, request: &Request) -> bool {
        const FOR_DAEMONS: [Level; 3] = [
            Level::AdvertiseStartd,
            Level::AdvertiseSchedd,
            Level::AdvertiseMaster,
        ];
        let grant = &request.grant;
        grant.identity.starts_with("condor@")
            && !grant.scopes.is_empty()
            && grant.scopes.iter().all(|scope| FOR_DAEMONS.contains(scope))
            && self.network.contains(Some(request.from), &[], Rules::Sound)
            && (self.since - RULE_REACHES_BACK..=self.until).contains(&request.since)
    }
}

impl Wrong {
    fn is_too_much(&self, from: IpAddr, now: i64) -> bool {
        now < self.since + WINDOW
            && (self.total >= MAX_WRONG
                || self.by_address.get(&from).copied().unwrap_or(0) >= MAX_WRONG_FROM_ONE)
    }

    fn count(&mut self, from: IpAddr, now: i64) {
        if now >= self.since + WINDOW {
            *self = Self {
                since: now,
                ..Self::default()
            };
        }
        self.total += 1;
        // Bounded by the total of one window.
        *self.by_address.entry(from).or_default() += 1;
    }
}

/// The shorter of two lives, of which each may have no end.
pub(super) fn shorter(one: Option<i64>, other: Option<i64>) -> Option<i64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

fn same(one: &str, other: &str) -> bool {
    one.len() == other.len() && openssl::memcmp::eq(one.as_bytes(), other.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests() -> Requests {
        Requests::new(Limits {
            lifetime: 3600,
            rule_lifetime: 3600,
            max_token_life: Some(86_400),
            bounds: None,
        })
    }

    fn ask(identity: &str, bounds: Option<&str>) -> Ask {
        Ask {
            client_id: "secret".to_owned(),
            identity: identity.to_owned(),
            bounds: bounds.map(str::to_owned),
            lifetime: None,
            requester: "unauthenticated@unmapped".to_owned(),
            from: "10.0.0.9".parse().unwrap(),
        }
    }

    fn start(requests: &mut Requests, ask: Ask, now: i64) -> String {
        let mut number = u32::try_from(requests.by_id.len()).unwrap() + 12;
        let draw = || {
            number += 1;
            number
        };
        let started = requests.start(ask, now, draw, mint).unwrap();
        assert_eq!(started.rule, None);
        started.id
    }

    fn poll(
        requests: &mut Requests,
        id: &str,
        client: &str,
        now: i64,
    ) -> Result<Option<String>, i64> {
        let from = "10.0.0.9".parse().unwrap();
        requests
            .finish(id, client, from, now)
            .map_err(|refusal| refusal.code)
    }

    fn mint(grant: &Grant) -> Result<String, Refusal> {
        Ok(format!(
            "{} {:?} {:?}",
            grant.identity, grant.scopes, grant.lifetime
        ))
    }

    #[test]
    fn an_approved_token_is_collected_once_by_whoever_asked() {
        let mut all = requests();
        let id = start(
            &mut all,
            ask("pilot@x.org", Some("ADVERTISE_STARTD,READ")),
            0,
        );
        assert_eq!(id.len(), 7);
        assert_eq!(poll(&mut all, &id, "secret", 5), Ok(None));
        let approved = all.approve(&id, "guess", 5, |_| Ok(()), mint);
        assert_eq!(approved.unwrap_err().code, 5);
        all.approve(&id, "secret", 5, |_| Ok(()), mint).unwrap();
        let again = all.approve(&id, "secret", 5, |_| Ok(()), mint);
        assert_eq!(again.unwrap_err().code, 5);
        assert_eq!(poll(&mut all, &id, "guess", 6), Err(3));
        let token = "pilot@x.org [AdvertiseStartd, Read] Some(86400)".to_owned();
        assert_eq!(poll(&mut all, &id, "secret", 6), Ok(Some(token)));
        assert_eq!(poll(&mut all, &id, "secret", 7), Err(3));
    }

    #[test]
    fn a_request_expires_and_can_be_denied() {
        let mut all = requests();
        let id = start(&mut all, ask("a@x.org", None), 0);
        assert_eq!(all.pending(3600).count(), 1);
        assert_eq!(all.pending(3601).count(), 0);
        assert!(all.approve(&id, "secret", 3601, |_| Ok(()), mint).is_err());
        assert_eq!(poll(&mut all, &id, "secret", 3601), Err(5));
        assert_eq!(poll(&mut all, &id, "secret", 3602), Err(3));
        let id = start(&mut all, ask("a@x.org", None), 0);
        let no = |_: &Request| Err(Refusal::new(6, "no"));
        assert_eq!(all.deny(&id, 1, no).unwrap_err().code, 6);
        assert_eq!(poll(&mut all, &id, "secret", 1), Ok(None));
        all.deny(&id, 1, |_| Ok(())).unwrap();
        assert_eq!(poll(&mut all, &id, "secret", 2), Err(4));
    }

    #[test]
    fn rules_approve_daemons_of_their_network_and_time_only() {
        let mut all = requests();
        let early = start(&mut all, ask("condor@x.org", Some("ADVERTISE_STARTD")), 30);
        let old = start(&mut all, ask("condor@x.org", Some("ADVERTISE_STARTD")), 10);
        all.add_rule("10.0.0.0/8", 100_000, 80).unwrap();
        let approved = all.apply_rules(80, mint);
        assert_eq!(approved.len(), 1);
        assert_eq!(approved[0].id, early);
        assert_eq!(poll(&mut all, &old, "secret", 81), Ok(None));
        let at_once =
            |all: &mut Requests, ask, now| all.start(ask, now, || 77, mint).unwrap().rule.is_some();
        assert!(at_once(
            &mut all,
            ask("condor@x.org", Some("ADVERTISE_STARTD ADVERTISE_MASTER")),
            90
        ));
        all.forget("0000077");
        for (identity, bounds) in [
            ("condor@x.org", None),
            ("condor@x.org", Some("ADVERTISE_STARTD,WRITE")),
            ("alice@x.org", Some("ADVERTISE_STARTD")),
        ] {
            assert!(
                !at_once(&mut all, ask(identity, bounds), 90),
                "{identity} {bounds:?}"
            );
            all.forget("0000077");
        }
        let elsewhere = Ask {
            from: "192.0.2.1".parse().unwrap(),
            ..ask("condor@x.org", Some("ADVERTISE_STARTD"))
        };
        assert!(!at_once(&mut all, elsewhere, 90));
        all.forget("0000077");
        // The rule's life is limited to an hour.
        assert!(!at_once(
            &mut all,
            ask("condor@x.org", Some("ADVERTISE_STARTD")),
            80 + 3601
        ));
        assert_eq!(all.add_rule("10.0.0.0/8", 0, 0).unwrap_err().code, -1);
        assert_eq!(all.add_rule("a.host", 5, 0).unwrap_err().code, -2);
    }

    #[test]
    fn requests_and_guesses_are_limited() {
        let mut all = requests();
        for _ in 0..MAX_FROM_ONE {
            start(&mut all, ask("a@x.org", None), 0);
        }
        let mut one_more = |from: &str, now| {
            let ask = Ask {
                from: from.parse().unwrap(),
                ..ask("a@x.org", None)
            };
            all.start(ask, now, || 5_000_000, mint)
                .map_err(|refusal| refusal.code)
        };
        assert_eq!(one_more("10.0.0.9", 1), Err(3));
        assert!(one_more("10.0.0.10", 1).is_ok());
        assert_eq!(one_more("10.0.0.10", 1), Err(4), "the id is taken");
        for _ in 0..MAX_WRONG_FROM_ONE {
            assert_eq!(poll(&mut all, "9999999", "x", 20), Err(3));
        }
        assert_eq!(poll(&mut all, "0000013", "secret", 21), Err(5));
        assert_eq!(poll(&mut all, "0000013", "secret", 20 + WINDOW), Ok(None));
        // All are forgotten in the end.
        all.tidy(10_000);
        assert!(all.by_id.is_empty());
    }

    #[test]
    fn what_may_be_asked_for_is_limited_by_the_configuration() {
        let mut all = requests();
        all.limits.bounds = Some(vec![Level::AdvertiseStartd]);
        let id = start(&mut all, ask("a@x.org", Some("READ, ADVERTISE_STARTD")), 0);
        let request = all.pending(0).find(|request| request.id == id).unwrap();
        assert_eq!(request.grant.scopes, [Level::AdvertiseStartd]);
        let none = all.start(ask("a@x.org", Some("WRITE")), 0, || 1, mint);
        assert_eq!(none.unwrap_err().code, 3);
        let id = start(&mut all, ask("a@x.org", None), 0);
        let request = all.pending(0).find(|request| request.id == id).unwrap();
        assert_eq!(request.grant.scopes, [Level::AdvertiseStartd]);
        for wrong in ["alice", "x@matchsession", "a b@x"] {
            assert_eq!(
                all.start(ask(wrong, None), 0, || 2, mint).unwrap_err().code,
                2,
                "{wrong}"
            );
        }
        assert_eq!(
            all.start(ask("a@x.org", Some("SUPER")), 0, || 2, mint)
                .unwrap_err()
                .code,
            2
        );
    }
}
