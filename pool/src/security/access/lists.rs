//! The lists of all levels, and the decision.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use cedar::security::{AuthMethod, EXECUTE_SIDE, Level, PeerIdentity};

use super::entry::{Entry, Host};
use super::glob::{self, Rules};
use super::names::{Names, Unknown};
use super::network::Network;
use super::reason::Reason;
use crate::security::error::Problem;
use crate::security::knobs::{Found, Knobs};
use crate::security::levels::{LEVELS, chain, directly_above};

/// The lists of all levels.
#[derive(Debug)]
pub(crate) struct AccessLists {
    levels: BTreeMap<Level, Lists>,
    machine: Machine,
    rules: Rules,
}

/// What the lists must know about the machine.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    /// Its own addresses.
    pub(crate) addresses: Vec<IpAddr>,
    /// Its resolver.
    pub(crate) names: Arc<dyn Names>,
}

/// The lists of one level.
#[derive(Debug)]
struct Lists {
    allow: Option<List>,
    deny: Option<List>,
    /// Nothing is configured, and a token that names the level is enough.
    by_token: bool,
}

/// One list.
#[derive(Debug)]
struct List {
    /// The knob, and where it is set.
    label: String,
    items: Vec<Item>,
    everybody: bool,
}

/// An entry as written, and what it means.
#[derive(Debug)]
struct Item {
    text: String,
    entry: Entry,
    /// The addresses of a host name.
    addresses: Vec<Network>,
}

impl AccessLists {
    /// Reads the lists. `defaults` are used for levels of which nothing is configured, not even by fall-back.
    pub(crate) fn load(
        knobs: &mut Knobs<'_>,
        machine: Machine,
        defaults: &[(Level, String)],
        rules: Rules,
    ) -> Self {
        let legacy = knobs.boolean("LEGACY_ALLOW_SEMANTICS", false);
        let pool_names = knobs.boolean("USE_POOL_USERNAME_EQUIVALENT", true);
        let subsystem = knobs.config().subsys().map(str::to_uppercase);
        refuse_foreign(knobs, subsystem.as_deref());
        let mut read = BTreeSet::new();
        let mut list = |knobs: &mut Knobs<'_>, kind: &str, level: Level| {
            let mut names = Vec::new();
            for name in chain(level, legacy) {
                if let Some(subsystem) = &subsystem {
                    names.push(format!("{kind}_{name}_{subsystem}"));
                }
                names.push(format!("{kind}_{name}"));
            }
            let found = knobs.first(&names)?;
            // A fall-back is read for several levels; its mistakes are told once.
            let again = !read.insert(found.knob.clone());
            Some(List::read(
                knobs, &found, &machine, pool_names, rules, again,
            ))
        };
        let mut levels = BTreeMap::new();
        for level in LEVELS {
            let mut allow = list(knobs, "ALLOW", level);
            let deny = list(knobs, "DENY", level);
            let mut by_token = false;
            if allow.is_none() {
                let default = defaults.iter().find(|(of, _)| *of == level);
                allow = default.map(|(level, value)| {
                    let found = Found {
                        knob: format!("the default of ALLOW_{level}"),
                        value: value.clone(),
                        origin: None,
                    };
                    List::read(knobs, &found, &machine, pool_names, rules, true)
                });
                by_token = default.is_some()
                    && matches!(
                        level,
                        Level::AdvertiseStartd | Level::AdvertiseSchedd | Level::AdvertiseMaster
                    );
            }
            let lists = Lists {
                allow,
                deny,
                by_token,
            };
            levels.insert(level, lists);
        }
        Self {
            levels,
            machine,
            rules,
        }
    }

    /// Whether `peer`, connected from `from`, has `level`, and why.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn decide(
        &self,
        peer: &PeerIdentity,
        from: Option<IpAddr>,
        level: Level,
    ) -> Result<(), Reason> {
        if level == Level::Allow {
            return Ok(());
        }
        // Execute sides of claims are known by the claim's session, in which nobody can be anything else.
        if peer.method.is_none() && peer.user == EXECUTE_SIDE && Level::Daemon.implies(level) {
            return Ok(());
        }
        let asked = Asked {
            user: if peer.user.is_empty() {
                "*"
            } else {
                &peer.user
            },
            from,
            token_levels: peer
                .limit
                .as_deref()
                .filter(|_| peer.method == Some(AuthMethod::Token)),
            name: OnceCell::new(),
        };
        self.verify(&asked, level)
    }

    fn verify(&self, asked: &Asked<'_>, level: Level) -> Result<(), Reason> {
        let Some(lists) = self.levels.get(&level) else {
            return Err(Reason::NoList { level });
        };
        let deny_all = lists.deny.as_ref().filter(|list| list.everybody);
        if let Some(list) = deny_all {
            return Err(Reason::Denied {
                list: list.label.clone(),
                entry: "*".to_owned(),
            });
        }
        // Reading and writing may be implied by other levels; nothing else without a list of its own.
        if lists.allow.is_none() && !matches!(level, Level::Read | Level::Write) {
            return Err(Reason::NoList { level });
        }
        if let Some(list) = &lists.deny {
            match self.find(list, asked) {
                Ok(Some(item)) => {
                    return Err(Reason::Denied {
                        list: list.label.clone(),
                        entry: item.text.clone(),
                    });
                }
                Ok(None) => {}
                Err(Unknown) => {
                    return Err(Reason::NameUnknown {
                        list: list.label.clone(),
                    });
                }
            }
        }
        if let Some(list) = &lists.allow
            && (list.everybody || matches!(self.find(list, asked), Ok(Some(_))))
        {
            return Ok(());
        }
        if lists.by_token && asked.token_levels.is_some_and(|has| has.contains(&level)) {
            return Ok(());
        }
        if directly_above(level)
            .iter()
            .any(|above| self.verify(asked, *above).is_ok())
        {
            return Ok(());
        }
        Err(Reason::NotListed {
            level,
            list: lists.allow.as_ref().map(|list| list.label.clone()),
            by_token: lists.by_token,
        })
    }

    /// The entry of the list that fits. `Err`: that depends on the host's name, which is not known in time.
    fn find<'l>(&self, list: &'l List, asked: &Asked<'_>) -> Result<Option<&'l Item>, Unknown> {
        let mut missing = None;
        for item in &list.items {
            match self.fits(item, asked) {
                Ok(true) => return Ok(Some(item)),
                Ok(false) => {}
                Err(unknown) => missing = Some(unknown),
            }
        }
        missing.map_or(Ok(None), Err)
    }

    fn fits(&self, item: &Item, asked: &Asked<'_>) -> Result<bool, Unknown> {
        let (users, host) = match &item.entry {
            Entry::Netgroup(group) => return self.in_netgroup(group, asked),
            Entry::Users { users, host } => (users, host),
        };
        let fits = |pattern: &String| glob::matches(pattern, asked.user, self.rules);
        if !users.iter().any(fits) {
            return Ok(false);
        }
        match host {
            Host::Sinful => Ok(false),
            Host::Network(network) => {
                Ok(network.contains(asked.from, &self.machine.addresses, self.rules))
            }
            Host::Name(pattern) if pattern.contains('*') => Ok(asked
                .name(&self.machine)?
                .is_some_and(|name| glob::matches(pattern, name, self.rules))),
            Host::Name(_) => {
                let mut addresses = item.addresses.iter();
                Ok(addresses.any(|address| address.contains(asked.from, &[], self.rules)))
            }
        }
    }

    fn in_netgroup(&self, group: &str, asked: &Asked<'_>) -> Result<bool, Unknown> {
        let (user, domain) = asked
            .user
            .split_once('@')
            .unwrap_or((asked.user, asked.user));
        let Some(from) = asked.from else {
            return Ok(false);
        };
        let names = &self.machine.names;
        if names.in_netgroup(group, &from.to_canonical().to_string(), user, domain) {
            return Ok(true);
        }
        Ok(asked
            .name(&self.machine)?
            .is_some_and(|host| names.in_netgroup(group, host, user, domain)))
    }
}

/// Who asks.
struct Asked<'a> {
    user: &'a str,
    from: Option<IpAddr>,
    /// The levels that a token names, if the peer was proven by one that names any.
    token_levels: Option<&'a [Level]>,
    /// The name of the address, looked up once if it is needed.
    name: OnceCell<Result<Option<String>, Unknown>>,
}

impl Asked<'_> {
    fn name(&self, machine: &Machine) -> Result<Option<&str>, Unknown> {
        let Some(from) = self.from else {
            return Ok(None);
        };
        let name = self
            .name
            .get_or_init(|| machine.names.name(from.to_canonical()));
        match name {
            Ok(name) => Ok(name.as_deref()),
            Err(unknown) => Err(*unknown),
        }
    }
}

impl List {
    /// Reads a list. Mistakes and warnings are told unless it was read before (`again`).
    fn read(
        knobs: &mut Knobs<'_>,
        found: &Found,
        machine: &Machine,
        pool_names: bool,
        rules: Rules,
        again: bool,
    ) -> Self {
        let mut items = Vec::new();
        for text in found.items() {
            let entry = match Entry::parse(text, pool_names) {
                Ok(entry) => entry,
                Err(error) => {
                    if !again && rules == Rules::Sound {
                        let entry = text.to_owned();
                        knobs.fail(found, Problem::Entry { entry, error });
                    }
                    continue;
                }
            };
            let addresses = addresses(&entry, machine);
            if !again {
                advise(knobs, found, text, &entry, addresses.as_ref());
            }
            items.push(Item {
                text: text.to_owned(),
                entry,
                addresses: addresses.unwrap_or_default(),
            });
        }
        Self {
            label: found.label(),
            everybody: matches!(found.value.as_str(), "*" | "*/*"),
            items,
        }
    }
}

/// The addresses of the host name of an entry; `None` if it has none.
fn addresses(entry: &Entry, machine: &Machine) -> Option<Vec<Network>> {
    match entry {
        Entry::Users {
            host: Host::Name(name),
            ..
        } if !name.contains('*') => {
            let found = machine.names.addresses(name).unwrap_or_default();
            Some(found.into_iter().map(Network::of).collect())
        }
        _ => None,
    }
}

/// Tells of entries that hardly mean what was meant.
fn advise(
    knobs: &mut Knobs<'_>,
    found: &Found,
    text: &str,
    entry: &Entry,
    addresses: Option<&Vec<Network>>,
) {
    let Entry::Users { users, host } = entry else {
        return;
    };
    if addresses.is_some_and(Vec::is_empty) {
        knobs.warn(
            found,
            &format!("{text:?}: the host has no address (names are looked up once, when the pool starts); the entry fits nobody"),
        );
    }
    if *host == Host::Sinful {
        knobs.warn(
            found,
            &format!("{text:?} is the address of a daemon, which does not say where its connections come from; write the host"),
        );
    }
    let pattern = |host: &Host| match host {
        Host::Name(name) => glob::has_idle_asterisk(name),
        _ => false,
    };
    if pattern(host) || users.iter().any(|user| glob::has_idle_asterisk(user)) {
        knobs.warn(
            found,
            &format!("{text:?}: only one asterisk, or one at each end, stands for any text; the others are compared as they are"),
        );
    }
    if let [user, ..] = users.as_slice()
        && !user.contains(['@', '*'])
    {
        knobs.warn(
            found,
            &format!("{text:?}: {user} has no domain, and fits only a user without one; write {user}@DOMAIN"),
        );
    }
}

/// Lists that HTCondor would read and this pool does not must not be passed over in silence: a forgotten DENY list lets
/// somebody in.
fn refuse_foreign(knobs: &mut Knobs<'_>, subsystem: Option<&str>) {
    const OTHERS: [&str; 8] = [
        "COLLECTOR",
        "NEGOTIATOR",
        "SCHEDD",
        "MASTER",
        "SHADOW",
        "STARTD",
        "STARTER",
        "CREDD",
    ];
    let mut wrong = Vec::new();
    for knob in knobs.config().iter() {
        let name = knob.name.to_uppercase();
        let is_list = |prefix: &str| name.starts_with(prefix) && !knob.raw.trim().is_empty();
        if is_list("HOSTALLOW_") || is_list("HOSTDENY_") {
            let instead = name.trim_start_matches("HOST").to_owned();
            wrong.push((name, Problem::OldList { instead }));
            continue;
        }
        let Some((kind, rest)) = name.split_once('_') else {
            continue;
        };
        if !matches!(kind, "ALLOW" | "DENY") || knob.raw.trim().is_empty() {
            continue;
        }
        let Some((level, other)) = rest.rsplit_once('_') else {
            continue;
        };
        let is_level = level == "DEFAULT" || Level::from_name(level).is_some();
        // STARTD, SCHEDD and MASTER are parts of names of levels too.
        if is_level
            && OTHERS.contains(&other)
            && Some(other) != subsystem
            && Level::from_name(rest).is_none()
        {
            let instead = format!("{kind}_{level}");
            wrong.push((name, Problem::OtherDaemon { instead }));
        }
    }
    for (name, problem) in wrong {
        knobs.fail_named(&name, problem);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::io;

    use condorconf::{Loader, MemoryFiles};

    use super::*;

    /// A resolver that knows two hosts and one netgroup.
    #[derive(Debug)]
    pub(in crate::security) struct FakeNames;

    impl Names for FakeNames {
        fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>> {
            match host.to_ascii_lowercase().as_str() {
                "localhost" => Ok(vec!["127.0.0.1".parse().unwrap()]),
                "two.site.org" => Ok(vec!["10.0.0.2".parse().unwrap()]),
                _ => Err(io::ErrorKind::NotFound.into()),
            }
        }

        fn name(&self, address: IpAddr) -> Result<Option<String>, Unknown> {
            match address.to_string().as_str() {
                "10.0.0.2" => Ok(Some("two.site.org".to_owned())),
                "10.0.0.3" => Err(Unknown),
                _ => Ok(None),
            }
        }

        fn in_netgroup(&self, group: &str, host: &str, user: &str, domain: &str) -> bool {
            group == "admins" && user == "alice" && domain == "x.org" && host == "two.site.org"
        }
    }

    pub(in crate::security) fn machine() -> Machine {
        Machine {
            addresses: vec!["192.0.2.2".parse().unwrap()],
            names: Arc::new(FakeNames),
        }
    }

    fn load(
        text: &str,
        defaults: &[(Level, String)],
    ) -> (
        AccessLists,
        Result<Vec<String>, crate::security::SecurityErrors>,
    ) {
        let files = MemoryFiles::new();
        let config = Loader::new(&files)
            .subsys("POOL")
            .read_text("pool.conf", text)
            .finish()
            .unwrap();
        let mut knobs = Knobs::new(&config);
        let lists = AccessLists::load(&mut knobs, machine(), defaults, Rules::Sound);
        (lists, knobs.finish())
    }

    fn ask(lists: &AccessLists, user: &str, from: &str, level: Level) -> Result<(), String> {
        let peer = PeerIdentity::proven(user.to_owned(), AuthMethod::Fs);
        let from = Some(from.parse().unwrap());
        lists
            .decide(&peer, from, level)
            .map_err(|reason| reason.sentence(&peer, from))
    }

    #[test]
    fn a_refusal_names_the_list_and_the_entry() {
        let (lists, told) = load(
            "ALLOW_WRITE = *@x.org
DENY_WRITE = bob@x.org/10.*, eve@x.org
ALLOW_READ = *
DENY_READ = *
",
            &[],
        );
        assert_eq!(told.unwrap(), Vec::<String>::new());
        assert_eq!(
            ask(&lists, "bob@x.org", "10.1.1.1", Level::Write).unwrap_err(),
            "DENY_WRITE (pool.conf:2) denies bob@x.org from 10.1.1.1: its entry bob@x.org/10.* fits"
        );
        assert_eq!(
            ask(&lists, "zoe@y.org", "10.1.1.1", Level::Write).unwrap_err(),
            "ALLOW_WRITE (pool.conf:1) has no entry that fits zoe@y.org from 10.1.1.1, and no list of a level that implies WRITE has one"
        );
        assert_eq!(
            ask(&lists, "zoe@y.org", "10.1.1.1", Level::Daemon).unwrap_err(),
            "nobody may DAEMON: neither ALLOW_DAEMON nor ALLOW_DEFAULT is set"
        );
        assert!(
            ask(&lists, "zoe@y.org", "10.1.1.1", Level::Read)
                .unwrap_err()
                .contains("DENY_READ (pool.conf:4)")
        );
        assert_eq!(ask(&lists, "bob@x.org", "11.1.1.1", Level::Write), Ok(()));
    }

    #[test]
    fn names_of_hosts_are_looked_up_both_ways() {
        let (lists, told) = load(
            "ALLOW_READ = two.site.org, gone.site.org
ALLOW_WRITE = *.site.org
ALLOW_CONFIG = *
DENY_CONFIG = *.evil.org
ALLOW_DAEMON = +admins",
            &[],
        );
        let told = told.unwrap();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].starts_with("pool.conf:1: ALLOW_READ: \"gone.site.org\""),
            "{told:?}"
        );
        assert_eq!(ask(&lists, "a@b", "10.0.0.2", Level::Read), Ok(()));
        assert_eq!(ask(&lists, "a@b", "10.0.0.2", Level::Write), Ok(()));
        assert!(ask(&lists, "a@b", "10.0.0.4", Level::Write).is_err());
        assert!(
            ask(&lists, "a@b", "10.0.0.3", Level::Write).is_err(),
            "an unknown name fits nothing"
        );
        assert_eq!(ask(&lists, "a@b", "10.0.0.4", Level::Config), Ok(()));
        let why = ask(&lists, "a@b", "10.0.0.3", Level::Config).unwrap_err();
        assert!(why.contains("DENY_CONFIG") && why.contains("name"), "{why}");
        assert_eq!(
            ask(&lists, "alice@x.org", "10.0.0.2", Level::Daemon),
            Ok(())
        );
        assert!(ask(&lists, "alice@y.org", "10.0.0.2", Level::Daemon).is_err());
        assert!(ask(&lists, "alice@x.org", "10.0.0.4", Level::Daemon).is_err());
    }

    #[test]
    fn lists_nobody_reads_are_mistakes() {
        let (_, told) = load(
            "HOSTALLOW_WRITE = *
DENY_WRITE_SCHEDD = eve@x.org
ALLOW_READ_POOL = *
ALLOW_ADVERTISE_STARTD = *
ALLOW_ADMIN_COMMANDS = true
DENY_READ = 10.0.0.0/40 +
",
            &[],
        );
        let told = told.unwrap_err().to_string();
        let lines: Vec<_> = told.lines().collect();
        assert_eq!(lines.len(), 4, "{told}");
        assert!(
            told.contains("pool.conf:1: HOSTALLOW_WRITE") && told.contains("ALLOW_WRITE"),
            "{told}"
        );
        assert!(told.contains("pool.conf:2: DENY_WRITE_SCHEDD"), "{told}");
        assert!(told.contains("10.0.0.0/40"), "{told}");
    }

    #[test]
    fn a_token_with_the_scope_may_advertise_by_default_and_only_that() {
        let defaults = [
            (Level::AdvertiseStartd, "root@x.org".to_owned()),
            (Level::Write, "*@x.org".to_owned()),
        ];
        let (lists, _) = load("", &defaults);
        let mut pilot = PeerIdentity::proven("pilot@x.org".to_owned(), AuthMethod::Token);
        pilot.limit = Some(vec![Level::AdvertiseStartd]);
        let from = Some("10.0.0.9".parse().unwrap());
        assert!(lists.decide(&pilot, from, Level::AdvertiseStartd).is_ok());
        assert!(lists.decide(&pilot, from, Level::Read).is_ok());
        assert!(lists.decide(&pilot, from, Level::AdvertiseMaster).is_err());
        pilot.method = Some(AuthMethod::Ssl);
        assert!(lists.decide(&pilot, from, Level::AdvertiseStartd).is_err());
        assert!(
            ask(&lists, "pilot@x.org", "10.0.0.9", Level::AdvertiseStartd).is_err(),
            "a user may not"
        );
        assert!(ask(&lists, "root@x.org", "10.0.0.9", Level::AdvertiseStartd).is_ok());
        // What is configured counts alone.
        let (lists, _) = load("ALLOW_DAEMON = condor@x.org", &defaults);
        pilot.method = Some(AuthMethod::Token);
        assert!(lists.decide(&pilot, from, Level::AdvertiseStartd).is_err());
    }

    #[test]
    fn the_other_side_of_a_claim_has_the_daemons_level() {
        let (lists, _) = load("", &[]);
        let mut peer = PeerIdentity::named(EXECUTE_SIDE);
        assert!(lists.decide(&peer, None, Level::Daemon).is_ok());
        assert!(lists.decide(&peer, None, Level::Write).is_ok());
        assert!(lists.decide(&peer, None, Level::Administrator).is_err());
        peer.method = Some(AuthMethod::Token);
        assert!(
            lists.decide(&peer, None, Level::Daemon).is_err(),
            "a token may carry any name"
        );
    }
}
