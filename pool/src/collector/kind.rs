//! The tables of a collector, the commands for each, and what makes an ad's identity in it.

use std::fmt;
use std::sync::Arc;

use cedar::Sinful;
use cedar::security::Level;
use classad::ClassAd;

/// The tables of a collector; each holds the ads of one kind of daemon or thing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `Machine`: slots.
    Machine,
    /// `StartD`: the startd itself, from startds that send it.
    StartDaemon,
    /// `Scheduler`.
    Scheduler,
    /// `Submitter`.
    Submitter,
    /// `DaemonMaster`.
    Master,
    /// `Negotiator`.
    Negotiator,
    /// `Collector`.
    Collector,
    /// `Accounting`.
    Accounting,
    /// `License`.
    License,
    /// `Storage`.
    Storage,
    /// `HAD`.
    Had,
    /// `Grid`.
    Grid,
    /// `CkptServer`.
    CkptServer,
    /// Everything else, by its `MyType` in lower case: `defrag`, `credd`, ...
    Generic(Arc<str>),
    /// Not a table: all of them.
    Any,
}

/// Names of the tables in queries and ads (`htcondor:src/condor_includes/condor_adtypes.h`), with all but `Generic`.
const NAMES: [(&str, Kind); 14] = [
    ("Machine", Kind::Machine),
    ("StartD", Kind::StartDaemon),
    ("Scheduler", Kind::Scheduler),
    ("Submitter", Kind::Submitter),
    ("DaemonMaster", Kind::Master),
    ("Negotiator", Kind::Negotiator),
    ("Collector", Kind::Collector),
    ("Accounting", Kind::Accounting),
    ("License", Kind::License),
    ("Storage", Kind::Storage),
    ("HAD", Kind::Had),
    ("Grid", Kind::Grid),
    ("CkptServer", Kind::CkptServer),
    ("Any", Kind::Any),
];

impl Kind {
    /// The table for a `MyType` or `TargetType`.
    pub fn from_type(name: &str) -> Self {
        if name.eq_ignore_ascii_case("Slot") {
            return Self::Machine;
        }
        NAMES
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map_or_else(
                || Self::Generic(name.to_ascii_lowercase().into()),
                |(_, kind)| kind.clone(),
            )
    }

    /// The identity of an ad in this table; `None`: the ad lacks what makes it.
    pub(super) fn key(&self, ad: &ClassAd) -> Option<Key> {
        let text = |name: &str| ad.string(name);
        let name_or_machine = || text("Name").or_else(|| text("Machine"));
        let (name, host) = match self {
            Self::Machine | Self::StartDaemon => {
                let name = text("Name").or_else(|| {
                    let machine = text("Machine")?;
                    Some(match ad.int("SlotID") {
                        Some(slot) => format!("{machine}:{slot}"),
                        None => machine,
                    })
                });
                (name?, address(ad, "StartdIpAddr").unwrap_or_default())
            }
            Self::Scheduler | Self::Submitter => {
                let schedd = text("ScheddName").unwrap_or_default();
                let name = name_or_machine()? + &schedd;
                (name, address(ad, "ScheddIpAddr")?)
            }
            Self::License => (name_or_machine()?, address(ad, "MyAddress")?),
            Self::Master | Self::Collector => (name_or_machine()?, String::new()),
            Self::CkptServer => (text("Machine")?, String::new()),
            Self::Accounting => {
                let negotiator = text("NegotiatorName").unwrap_or_default();
                (text("Name")? + &negotiator, String::new())
            }
            Self::Grid => {
                let mut name = text("HashName")? + &text("Owner")?;
                let host = match text("ScheddName") {
                    Some(schedd) => {
                        name.push_str(&schedd);
                        String::new()
                    }
                    None => text("ScheddIpAddr")?,
                };
                name.push_str(&text("GridmanagerSelectionValue").unwrap_or_default());
                (name, host)
            }
            Self::Negotiator | Self::Storage | Self::Had | Self::Generic(_) => {
                (text("Name")?, String::new())
            }
            Self::Any => return None,
        };
        Some(Key {
            name: name.into(),
            host: host.into(),
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Generic(name) => f.write_str(name),
            other => {
                let named = NAMES.iter().find(|(_, kind)| kind == other);
                f.write_str(named.map_or("?", |(name, _)| name))
            }
        }
    }
}

/// Identity of an ad in its table, as HTCondor's collector makes it (`htcondor:src/condor_utils/hashkey.cpp`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) name: Arc<str>,
    /// Host of its address, for the tables where it counts; else empty.
    pub(super) host: Arc<str>,
}

/// Host of `MyAddress`, or of the older attribute.
fn address(ad: &ClassAd, old: &str) -> Option<String> {
    let text = ad.string("MyAddress").or_else(|| ad.string(old))?;
    Some(Sinful::parse(&text).ok()?.host().to_owned())
}

/// What a command of the collector does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// An ad for the table; `None`: `MyType` decides.
    Update(Option<Kind>),
    /// A slot ad, and an answer wanted.
    UpdateWithAck,
    /// Attributes to be changed in a slot's ad.
    Merge,
    /// A query of the table; `None`: `TargetType` decides.
    Query(Option<Kind>),
    /// A query for private ads of slots.
    QueryPrivate,
    /// A query of the tables that `TargetType` lists; private ads may be among them if true.
    QueryMultiple(bool),
    /// Ads to be removed from the table; `None`: `TargetType` decides.
    Invalidate(Option<Kind>),
}

/// Numbers, actions and levels (`htcondor:src/condor_includes/condor_commands.h`, `collector.cpp`).
pub(super) fn actions() -> Vec<(i32, Action, Level)> {
    let families = [
        (0, 5, 13, Kind::Machine, Level::AdvertiseStartd),
        (1, 6, 14, Kind::Scheduler, Level::AdvertiseSchedd),
        (2, 7, 15, Kind::Master, Level::AdvertiseMaster),
        (4, 9, 17, Kind::CkptServer, Level::Daemon),
        (11, 12, 18, Kind::Submitter, Level::AdvertiseSchedd),
        (19, 20, 21, Kind::Collector, Level::Daemon),
        (42, 43, 44, Kind::License, Level::Daemon),
        (45, 46, 47, Kind::Storage, Level::Daemon),
        (49, 50, 51, Kind::Negotiator, Level::Negotiator),
        (55, 56, 57, Kind::Had, Level::Daemon),
        (70, 71, 72, Kind::Grid, Level::Daemon),
        (77, 78, 79, Kind::Accounting, Level::Negotiator),
    ];
    let mut all = Vec::new();
    for (update, query, invalidate, kind, level) in families {
        all.push((update, Action::Update(Some(kind.clone())), level));
        all.push((query, Action::Query(Some(kind.clone())), Level::Read));
        all.push((invalidate, Action::Invalidate(Some(kind)), level));
    }
    all.extend([
        (10, Action::QueryPrivate, Level::Negotiator),
        (48, Action::Query(Some(Kind::Any)), Level::Read),
        (53, Action::QueryMultiple(false), Level::Read),
        (54, Action::QueryMultiple(true), Level::Negotiator),
        (58, Action::Update(None), Level::Daemon),
        (59, Action::Invalidate(None), Level::Daemon),
        (60, Action::UpdateWithAck, Level::AdvertiseStartd),
        (73, Action::Merge, Level::Negotiator),
        (74, Action::Query(None), Level::Read),
    ]);
    all
}

/// The action of a command.
pub(super) fn action(command: i32) -> Option<Action> {
    actions()
        .into_iter()
        .find(|(number, ..)| *number == command)
        .map(|(_, action, _)| action)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(kind: &Kind, text: &str) -> Option<(String, String)> {
        let key = kind.key(&ClassAd::parse_old(text).unwrap())?;
        Some((key.name.to_string(), key.host.to_string()))
    }

    #[test]
    fn identity_is_what_htcondor_takes_for_it() {
        let pair = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
        assert_eq!(
            key(
                &Kind::Machine,
                "Name = \"slot1@a\"\nMyAddress = \"<10.0.0.1:99?sock=x>\""
            ),
            pair("slot1@a", "10.0.0.1")
        );
        assert_eq!(
            key(&Kind::Machine, "Machine = \"a\"\nSlotID = 3"),
            pair("a:3", "")
        );
        assert_eq!(
            key(
                &Kind::Submitter,
                "Name = \"u@d\"\nScheddName = \"s1\"\nScheddIpAddr = \"<1.2.3.4:5>\""
            ),
            pair("u@ds1", "1.2.3.4")
        );
        assert_eq!(key(&Kind::Scheduler, "Name = \"s\""), None);
        assert_eq!(
            key(&Kind::Accounting, "Name = \"u\"\nNegotiatorName = \"n\""),
            pair("un", "")
        );
        assert_eq!(key(&Kind::from_type("Defrag"), "Machine = \"a\""), None);
    }

    #[test]
    fn types_are_known_in_any_case() {
        assert_eq!(Kind::from_type("machine"), Kind::Machine);
        assert_eq!(Kind::from_type("CREDD"), Kind::from_type("CredD"));
        assert_eq!(Kind::from_type("any"), Kind::Any);
        assert_eq!(Kind::Master.to_string(), "DaemonMaster");
    }
}
