use std::time::Duration;

use classad::ClassAd;

use super::contact::{Contact, ContactError};
use super::request::{Place, Request, RequestError};
use crate::command;
use crate::secret::SecretText;

/// Heartbeats that may stay unanswered before a connection is given up.
const SILENCE: u32 = 3;

/// How long a broker may take for the answer to a registration.
const ANSWER: Duration = Duration::from_secs(20);

/// The longest pause between attempts, as a multiple of the first.
const LONGEST: u32 = 10;

/// Longest reconnect cookie accepted, in bytes; a real one has some digits.
const MAX_COOKIE: usize = 256;

/// How a registration behaves.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What the broker calls us in its log.
    pub name: String,
    /// Silence after which a heartbeat is sent, `CCB_HEARTBEAT_INTERVAL`; `None`: none is.
    pub heartbeat: Option<Duration>,
    /// The first pause before a lost connection is made again, `CCB_RECONNECT_TIME`.
    pub reconnect: Duration,
    /// Most connections being made at a time.
    pub max_dials: usize,
}

/// A broker does not keep to the protocol, or refuses us.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BrokerError {
    /// It does not register us.
    #[error("the CCB server does not register us: {0}")]
    Refused(String),
    /// The answer to the registration names no contact.
    #[error("the CCB server's answer to our registration is of no use")]
    Contact(#[from] ContactError),
    /// It answered a registration that nobody asked for, or something else first.
    #[error("the CCB server sent command {0} where the answer to our registration was expected")]
    Unexpected(i64),
    /// Nothing came for too long.
    #[error("the CCB server was silent for {} s", .0.as_secs())]
    Silent(Duration),
}

/// What follows from a message of the broker.
#[derive(Debug)]
pub enum Heard {
    /// Nothing to be done.
    Nothing,
    /// We are registered; `changed`: under another contact than before.
    Registered {
        /// The address by which we are known has to be published anew.
        changed: bool,
    },
    /// A connection is to be made; [`Registration::finished`] hears how it went.
    Dial(Box<Request>),
    /// No connection is made: this is to be sent.
    Refuse {
        /// What the broker is told.
        report: ClassAd,
        /// Why.
        why: RequestError,
    },
    /// A message that cannot be answered, or of a command that is not known here.
    Ignored(String),
}

/// What time asks for.
#[derive(Debug)]
pub enum Due {
    /// Nothing yet.
    Nothing,
    /// A heartbeat is to be sent.
    Heartbeat(ClassAd),
}

/// How the making of a reversed connection went.
pub type Report = Result<(), String>;

#[derive(Debug, Clone, Copy)]
enum Link {
    Down,
    Asked {
        since: Duration,
        place: Place,
    },
    Up {
        heard: Duration,
        place: Place,
        /// Heartbeats sent since something was heard.
        beats: u32,
    },
}

/// Our registration at one broker, over all its connections.
///
/// Times are a clock's that never goes back, from any beginning.
#[derive(Debug)]
pub struct Registration {
    settings: Settings,
    contact: Option<Contact>,
    cookie: Option<SecretText>,
    link: Link,
    /// Number of the present connection: what belongs to an earlier one is not told to this one.
    number: u64,
    dials: usize,
    failures: u32,
}

impl Registration {
    /// A registration that has not begun.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            contact: None,
            cookie: None,
            link: Link::Down,
            number: 0,
            dials: 0,
            failures: 0,
        }
    }

    /// The contact that the broker has given us. It stays while the connection is down: the broker gives the same one
    /// back to who shows its cookie.
    pub fn contact(&self) -> Option<&Contact> {
        self.contact.as_ref()
    }

    /// True while the broker passes requests on to us.
    pub fn is_up(&self) -> bool {
        matches!(self.link, Link::Up { .. })
    }

    /// Connections being made.
    pub fn dials(&self) -> usize {
        self.dials
    }

    /// A connection stands on which `CCB_REGISTER` was started: what to send on it.
    pub fn connected(&mut self, now: Duration, place: Place) -> ClassAd {
        self.number += 1;
        self.link = Link::Asked { since: now, place };
        let mut ad = ClassAd::new();
        ad.insert("Command", i64::from(command::CCB_REGISTER));
        ad.insert("Name", self.settings.name.as_str());
        if let (Some(contact), Some(cookie)) = (&self.contact, &self.cookie) {
            ad.insert("CCBID", contact.as_str());
            ad.insert("ClaimId", cookie.expose());
        }
        ad
    }

    /// The broker sent a message.
    ///
    /// # Errors
    ///
    /// [`BrokerError`]: the connection is of no use any more.
    pub fn heard(&mut self, now: Duration, ad: &ClassAd) -> Result<Heard, BrokerError> {
        let number = ad.int("Command").unwrap_or(-1);
        match &mut self.link {
            Link::Down => Ok(Heard::Ignored("a message after the end".to_owned())),
            Link::Asked { place, .. } => {
                let place = *place;
                self.answer(now, number, place, ad)
            }
            Link::Up {
                heard,
                place,
                beats,
            } => {
                *heard = now;
                *beats = 0;
                let place = *place;
                Ok(self.message(number, place, ad))
            }
        }
    }

    fn answer(
        &mut self,
        now: Duration,
        number: i64,
        place: Place,
        ad: &ClassAd,
    ) -> Result<Heard, BrokerError> {
        if ad.bool("Result") == Some(false) {
            let why = ad.string("ErrorString").unwrap_or_default();
            return Err(BrokerError::Refused(
                why.chars().filter(|c| !c.is_control()).take(200).collect(),
            ));
        }
        if number != i64::from(command::CCB_REGISTER) {
            return Err(BrokerError::Unexpected(number));
        }
        let contact = Contact::parse(&ad.string("CCBID").unwrap_or_default())?;
        // Without a usable cookie the next registration is as good as the first.
        self.cookie = ad
            .string("ClaimId")
            .filter(|text| (1..=MAX_COOKIE).contains(&text.len()))
            .map(SecretText::new);
        let changed = self.contact.as_ref() != Some(&contact);
        self.contact = Some(contact);
        self.failures = 0;
        self.link = Link::Up {
            heard: now,
            place,
            beats: 0,
        };
        Ok(Heard::Registered { changed })
    }

    fn message(&mut self, number: i64, place: Place, ad: &ClassAd) -> Heard {
        match i32::try_from(number) {
            Ok(command::ALIVE) => Heard::Nothing,
            Ok(command::CCB_REQUEST) => self.request(place, ad),
            _ => Heard::Ignored(format!("command {number} is not known here")),
        }
    }

    fn request(&mut self, place: Place, ad: &ClassAd) -> Heard {
        let request = match Request::parse(ad, self.number) {
            Ok(request) => request,
            Err(why) => return Heard::Ignored(why.to_string()),
        };
        let allowed = if self.dials >= self.settings.max_dials {
            Err(RequestError::Busy)
        } else {
            request.target(place).map(|_| ())
        };
        match allowed {
            Ok(()) => {
                self.dials += 1;
                Heard::Dial(Box::new(request))
            }
            Err(why) => Heard::Refuse {
                report: request.outcome(Some(&why.to_string())),
                why,
            },
        }
    }

    /// Where the present connection's ends are; `None` while there is none.
    pub fn place(&self) -> Option<Place> {
        match self.link {
            Link::Down => None,
            Link::Asked { place, .. } | Link::Up { place, .. } => Some(place),
        }
    }

    /// The connection of a request was made, or could not be: what to send to the broker. `None` if the request came on
    /// an earlier connection, on which a broker would take the answer for an attack.
    pub fn finished(&mut self, request: &Request, report: &Report) -> Option<ClassAd> {
        self.dials = self.dials.saturating_sub(1);
        let present = self.is_up() && request.link == self.number;
        present.then(|| request.outcome(report.as_ref().err().map(String::as_str)))
    }

    /// Nothing is known of how a connection came out that was being made.
    pub fn abandoned(&mut self) {
        self.dials = self.dials.saturating_sub(1);
    }

    /// When [`tick`](Self::tick) is to be called next; `None`: not before something else happens.
    pub fn due(&self) -> Option<Duration> {
        match self.link {
            Link::Down => None,
            Link::Asked { since, .. } => Some(since.saturating_add(ANSWER)),
            Link::Up { heard, beats, .. } => {
                let interval = self.settings.heartbeat?;
                Some(heard.saturating_add(interval.saturating_mul(beats + 1)))
            }
        }
    }

    /// Time has passed.
    ///
    /// # Errors
    ///
    /// [`BrokerError::Silent`]: the connection is to be given up.
    pub fn tick(&mut self, now: Duration) -> Result<Due, BrokerError> {
        if self.due().is_none_or(|due| now < due) {
            return Ok(Due::Nothing);
        }
        match &mut self.link {
            Link::Up { beats, .. } if *beats + 1 < SILENCE => {
                *beats += 1;
                let mut ad = ClassAd::new();
                ad.insert("Command", i64::from(command::ALIVE));
                Ok(Due::Heartbeat(ad))
            }
            Link::Up { heard: since, .. } | Link::Asked { since, .. } => {
                Err(BrokerError::Silent(now.saturating_sub(*since)))
            }
            Link::Down => Ok(Due::Nothing),
        }
    }

    /// There is no connection, or none any more. How long to wait before the next attempt: the configured time, and
    /// longer each time that in vain; of that the half to the whole, by `random`, so that the pilots of a pool
    /// do not all come back at once.
    pub fn lost(&mut self, random: u64) -> Duration {
        self.link = Link::Down;
        let first = self.settings.reconnect;
        let full = first
            .saturating_mul(1 << self.failures.min(16))
            .min(first.saturating_mul(LONGEST));
        self.failures = self.failures.saturating_add(1);
        let share = u32::try_from(random % 1001).unwrap_or(0);
        full / 2 + (full / 2).saturating_mul(share) / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn here() -> Place {
        Place {
            peer: "127.0.0.1".parse().unwrap(),
            local: "127.0.0.1".parse().unwrap(),
        }
    }

    fn registration() -> Registration {
        Registration::new(Settings {
            name: "STARTD pilot".to_owned(),
            heartbeat: Some(300 * SECOND),
            reconnect: 60 * SECOND,
            max_dials: 2,
        })
    }

    fn registered(contact: &str, cookie: &str) -> ClassAd {
        let mut ad = ClassAd::new();
        ad.insert("Command", 67);
        ad.insert("CCBID", contact);
        ad.insert("ClaimId", cookie);
        ad
    }

    fn asks(id: &str, address: &str) -> ClassAd {
        let mut ad = ClassAd::new();
        ad.insert("Command", 68);
        ad.insert("ClaimId", "00ff");
        ad.insert("RequestID", id);
        ad.insert("MyAddress", address);
        ad
    }

    fn up() -> Registration {
        let mut registration = registration();
        registration.connected(Duration::ZERO, here());
        let answer = registered("127.0.0.1:1#7", "99");
        let heard = registration.heard(SECOND, &answer).unwrap();
        assert!(matches!(heard, Heard::Registered { changed: true }));
        registration
    }

    #[test]
    fn the_contact_comes_back_with_the_cookie_and_a_new_one_is_noticed() {
        let mut registration = up();
        registration.lost(0);
        assert_eq!(registration.contact().unwrap().as_str(), "127.0.0.1:1#7");
        let ad = registration.connected(9 * SECOND, here());
        assert_eq!(ad.string("CCBID").as_deref(), Some("127.0.0.1:1#7"));
        assert_eq!(ad.string("ClaimId").as_deref(), Some("99"));
        let same = registration.heard(10 * SECOND, &registered("127.0.0.1:1#7", "99"));
        assert!(matches!(same, Ok(Heard::Registered { changed: false })));
        registration.lost(0);
        registration.connected(11 * SECOND, here());
        let new = registration.heard(12 * SECOND, &registered("127.0.0.1:1#8", "5"));
        assert!(matches!(new, Ok(Heard::Registered { changed: true })));
    }

    #[test]
    fn a_silent_broker_gets_two_heartbeats_and_is_given_up_after_three_intervals() {
        let mut registration = up();
        assert_eq!(registration.due(), Some(301 * SECOND));
        assert!(matches!(registration.tick(300 * SECOND), Ok(Due::Nothing)));
        assert!(matches!(
            registration.tick(301 * SECOND),
            Ok(Due::Heartbeat(_))
        ));
        assert_eq!(registration.due(), Some(601 * SECOND));
        let mut alive = ClassAd::new();
        alive.insert("Command", 441);
        registration.heard(400 * SECOND, &alive).unwrap();
        assert_eq!(registration.due(), Some(700 * SECOND));
        assert!(matches!(
            registration.tick(700 * SECOND),
            Ok(Due::Heartbeat(_))
        ));
        assert!(matches!(
            registration.tick(1000 * SECOND),
            Ok(Due::Heartbeat(_))
        ));
        assert_eq!(
            registration.tick(1300 * SECOND).unwrap_err(),
            BrokerError::Silent(900 * SECOND)
        );
    }

    #[test]
    fn a_broker_that_does_not_answer_is_given_up() {
        let mut registration = registration();
        registration.connected(SECOND, here());
        assert_eq!(registration.due(), Some(21 * SECOND));
        assert!(registration.tick(21 * SECOND).is_err());
    }

    #[test]
    fn so_many_connections_at_once_and_no_more() {
        let mut registration = up();
        let mut dial = |id: &str| registration.heard(2 * SECOND, &asks(id, "<127.0.0.1:5>"));
        let Ok(Heard::Dial(first)) = dial("1") else {
            panic!("not dialled")
        };
        assert!(matches!(dial("2"), Ok(Heard::Dial(_))));
        let Ok(Heard::Refuse { report, why }) = dial("3") else {
            panic!("dialled")
        };
        assert_eq!(why, RequestError::Busy);
        assert_eq!(report.bool("Result"), Some(false));
        assert_eq!(report.string("RequestID").as_deref(), Some("3"));
        let report = registration.finished(&first, &Ok(())).unwrap();
        assert_eq!(report.bool("Result"), Some(true));
        assert_eq!(registration.dials(), 1);
        let next = registration.heard(3 * SECOND, &asks("4", "<127.0.0.1:5>"));
        assert!(matches!(next, Ok(Heard::Dial(_))));
    }

    #[test]
    fn the_outcome_of_an_old_request_is_not_told_on_a_new_connection() {
        let mut registration = up();
        let Ok(Heard::Dial(request)) = registration.heard(2 * SECOND, &asks("1", "<127.0.0.1:5>"))
        else {
            panic!("not dialled")
        };
        registration.lost(0);
        registration.connected(9 * SECOND, here());
        registration
            .heard(9 * SECOND, &registered("127.0.0.1:1#7", "99"))
            .unwrap();
        assert!(registration.finished(&request, &Ok(())).is_none());
        assert_eq!(registration.dials(), 0);
    }

    #[test]
    fn what_a_broker_says_at_the_wrong_time_is_no_registration() {
        let mut registration = registration();
        registration.connected(SECOND, here());
        let early = registration.heard(SECOND, &asks("1", "<127.0.0.1:5>"));
        assert_eq!(early.unwrap_err(), BrokerError::Unexpected(68));
        let mut no = registered("127.0.0.1:1#7", "99");
        no.insert("Result", false);
        no.insert("ErrorString", "go away\n");
        assert_eq!(
            registration.heard(SECOND, &no).unwrap_err(),
            BrokerError::Refused("go away".to_owned())
        );
        assert!(registration.contact().is_none() && !registration.is_up());
        let mut registration = up();
        let again = registration.heard(SECOND, &registered("127.0.0.1:1#9", "1"));
        assert!(matches!(again, Ok(Heard::Ignored(_))));
        assert_eq!(registration.contact().unwrap().as_str(), "127.0.0.1:1#7");
    }

    #[test]
    fn pauses_grow_and_begin_again_after_a_success() {
        let mut registration = registration();
        let pauses: Vec<u64> = (0..6).map(|_| registration.lost(1000).as_secs()).collect();
        assert_eq!(pauses, [60, 120, 240, 480, 600, 600]);
        assert_eq!(registration.lost(0).as_secs(), 300);
        registration.connected(SECOND, here());
        registration
            .heard(SECOND, &registered("127.0.0.1:1#7", "99"))
            .unwrap();
        assert_eq!(registration.lost(1000).as_secs(), 60);
    }
}
