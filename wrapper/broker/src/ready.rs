//! Payloads that are made before anybody wants them: lease, group, sandbox and an agent that runs
//! already. Only with dynamic accounts, where one is like the other.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use launch_protocol::broker::{OpenLimits, Refusal};
use launch_protocol::monitor::{Account, Ask, Reply, Target};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::group::{Group, Hierarchies};
use crate::monitor::{IN_USE, Monitor, exit_status};
use crate::site::Site;

/// After so many numbers that others have, or that are in use, none is kept ready: somebody else may
/// need the rest.
const IN_VAIN: u32 = 4;
/// How long an agent may take to begin, and that of one that is not wanted any more to end.
const ENDING: Duration = Duration::from_secs(2);
/// How often, a millisecond apart, it is tried to remove one.
const BURIALS: u32 = 50;

/// Group, sandbox and the first agent of a payload.
#[derive(Debug)]
pub(crate) struct Nest {
    pub(crate) group: Group,
    pub(crate) sandbox: Option<PathBuf>,
    pub(crate) agent: (i32, OwnedFd),
}

impl Nest {
    /// Has its agent gone, whether that has been told yet or not?
    fn has_died(&self) -> bool {
        let mut agent = [PollFd::new(self.agent.1.as_fd(), PollFlags::empty())];
        let _ = poll(&mut agent, PollTimeout::ZERO);
        let [agent] = agent;
        agent
            .revents()
            .is_some_and(|found| found.contains(PollFlags::POLLHUP))
    }

    /// Has its agent said that it serves? Waited for: it may have just been started.
    fn serves(&self) -> bool {
        let mut agent = [PollFd::new(self.agent.1.as_fd(), PollFlags::POLLIN)];
        let _ = poll(
            &mut agent,
            PollTimeout::try_from(ENDING).unwrap_or(PollTimeout::ZERO),
        );
        let [agent] = agent;
        agent.revents() == Some(PollFlags::POLLIN)
    }

    /// Makes them for a payload that has its account.
    pub(crate) fn make(
        monitor: &Monitor,
        hierarchies: &Hierarchies,
        payload: u32,
        label: &str,
        place: Option<PathBuf>,
        limits: OpenLimits,
        alone: bool,
    ) -> Result<Self, Refusal> {
        let ask = Ask::Make {
            payload,
            label: label.to_owned(),
            place,
            limits,
            alone,
        };
        match monitor.ask_with(&ask, &[])? {
            (
                Reply::Made {
                    child,
                    group,
                    sandbox,
                },
                beside,
            ) if beside.len() == 1 => {
                let socket = beside
                    .into_iter()
                    .next()
                    .ok_or_else(|| monitor.confused())?;
                Ok(Self {
                    group: hierarchies.open(group),
                    sandbox,
                    agent: (child, socket),
                })
            }
            _ => Err(monitor.confused()),
        }
    }
}

/// What is ready of the next payload.
#[derive(Debug)]
pub(crate) struct Ready {
    made: Option<Made>,
    /// Where the last payload was wanted, and the next will be.
    place: Option<PathBuf>,
    /// The last one had a dynamic account, or the configuration lets one expect it.
    pub(crate) expected: bool,
    in_vain: u32,
    /// None could be had; do not try again before somebody asks.
    barren: bool,
}

/// A whole one. Its agent ends if anything else runs as the account.
#[derive(Debug)]
struct Made {
    payload: u32,
    account: Account,
    place: Option<PathBuf>,
    nest: Nest,
}

/// What somebody who needs a payload gets.
#[derive(Debug)]
pub(crate) struct Taken {
    /// Its number.
    pub(crate) payload: u32,
    pub(crate) account: Account,
    /// It is complete.
    pub(crate) nest: Option<Nest>,
}

impl Ready {
    /// Nothing yet. `place`: where to make the first.
    pub(crate) fn new(place: Option<PathBuf>) -> Self {
        Self {
            made: None,
            place,
            expected: false,
            in_vain: 0,
            barren: false,
        }
    }

    /// Is there anything to do?
    pub(crate) fn is_cold(&self, site: &Site) -> bool {
        match &self.made {
            None => self.expected && !self.barren && site.dynamic.is_large() && !site.is_ignorant(),
            Some(made) => made.place != self.place,
        }
    }

    /// Is there one?
    pub(crate) fn is_made(&self) -> bool {
        self.made.is_some()
    }

    /// Is there one where it is wanted?
    pub(crate) fn is_complete(&self) -> bool {
        self.made.as_ref().is_some_and(|it| it.place == self.place)
    }

    /// Somebody will ask soon, and want it there.
    pub(crate) fn expect(&mut self, place: Option<Option<PathBuf>>) {
        self.barren = false;
        self.in_vain = 0;
        if let Some(place) = place {
            self.place = place;
        }
    }

    /// Does one of the things to do, each of which takes the monitor about a millisecond.
    pub(crate) fn warm_up(
        &mut self,
        monitor: &Monitor,
        hierarchies: &Hierarchies,
        site: &mut Site,
        serial: &mut u32,
    ) {
        match self.made.take() {
            None => self.make(monitor, hierarchies, site, serial),
            Some(made) => take_down(monitor, made.payload, &made.nest),
        }
    }

    fn make(
        &mut self,
        monitor: &Monitor,
        hierarchies: &Hierarchies,
        site: &mut Site,
        serial: &mut u32,
    ) {
        for uid in site.dynamic.free() {
            if self.in_vain >= IN_VAIN {
                break;
            }
            site.dynamic.used(uid);
            *serial += 1;
            let payload = *serial;
            let lease = monitor.account(&Ask::Lease {
                payload,
                target: Target::Dynamic(uid),
                groups: None,
                sweep: false,
            });
            let Ok(account) = lease else {
                self.in_vain += 1;
                continue;
            };
            let (place, limits) = (self.place.clone(), OpenLimits::default());
            let made = Nest::make(
                monitor,
                hierarchies,
                payload,
                "",
                place.clone(),
                limits,
                true,
            );
            if let Ok(nest) = made {
                self.made = Some(Made {
                    payload,
                    account,
                    place,
                    nest,
                });
                return;
            }
            // Whoever asks will be told why.
            let _ = monitor.order(&Ask::Bury { payload });
            break;
        }
        self.barren = true;
    }

    /// Takes note that a child has been reaped; true if it was ours.
    pub(crate) fn reaped(&mut self, monitor: &Monitor, child: i32, status: i32) -> bool {
        let Some(made) = self.made.take_if(|made| made.nest.agent.0 == child) else {
            return false;
        };
        // Or something runs as this number that no broker answers for: the next may do.
        self.in_vain += 1;
        self.barren = exit_status(status) != Some(IN_USE) || self.in_vain >= IN_VAIN;
        bury(monitor, made.payload);
        true
    }

    /// What there is, for whom it fits.
    pub(crate) fn take(&mut self, monitor: &Monitor, place: Option<&PathBuf>) -> Option<Taken> {
        let fits = |made: &mut Made| made.place.as_ref() == place || made.nest.has_died();
        let Made {
            payload,
            account,
            nest,
            ..
        } = self.made.take_if(fits)?;
        if nest.serves() {
            self.in_vain = 0;
            let nest = Some(nest);
            return Some(Taken {
                payload,
                account,
                nest,
            });
        }
        self.in_vain += 1;
        take_down(monitor, payload, &nest);
        None
    }

    /// Takes it down.
    pub(crate) fn cool_down(&mut self, monitor: &Monitor) {
        if let Some(made) = self.made.take() {
            take_down(monitor, made.payload, &made.nest);
        }
    }
}

/// Kills the agent of one that nobody has used and removes it.
pub(crate) fn take_down(monitor: &Monitor, payload: u32, nest: &Nest) {
    let _ = monitor.order(&Ask::Kill { payload });
    let _ = monitor.wait_for(nest.agent.0, ENDING);
    bury(monitor, payload);
}

/// Removes one in which nothing runs any more; what cannot be removed is left to recovery.
fn bury(monitor: &Monitor, payload: u32) {
    for _ in 0..BURIALS {
        if monitor.order(&Ask::Bury { payload }).is_ok() || monitor.is_gone() {
            return;
        }
        let _ = poll(&mut [], PollTimeout::from(1_u8));
    }
    let _ = monitor.order(&Ask::Abandon { payload });
}

#[cfg(test)]
mod tests {
    use launch_protocol::policy::{Caller, Entry};

    use super::*;
    use crate::testing::{Fake, settings};

    struct Stage {
        fake: Fake,
        monitor: Monitor,
        site: Site,
        ready: Ready,
        serial: u32,
    }

    fn scratch() -> PathBuf {
        "/scratch".into()
    }

    impl Stage {
        fn new() -> Self {
            let (fake, monitor) = Fake::start();
            let mut site = Site::of(settings(), Caller::default());
            let known = site.dynamic.unknown();
            let more: Vec<Option<Entry>> = vec![None; 10];
            site.dynamic.learn(&known, &more);
            let rest = site.dynamic.unknown();
            site.dynamic.learn(&rest, &more);
            let mut ready = Ready::new(Some(scratch()));
            ready.expected = true;
            Self {
                fake,
                monitor,
                site,
                ready,
                serial: 0,
            }
        }

        fn step(&mut self) {
            let hierarchies = Hierarchies::default();
            let Self {
                monitor,
                site,
                ready,
                serial,
                ..
            } = self;
            ready.warm_up(monitor, &hierarchies, site, serial);
            monitor.fetch_endings();
            while let Some((child, status)) = monitor.next_ended() {
                ready.reaped(monitor, child, status);
            }
        }

        fn grow(&mut self) {
            for _ in 0..20 {
                if self.ready.is_cold(&self.site) {
                    self.step();
                }
            }
        }
    }

    #[test]
    fn one_is_ready_for_whoever_wants_it_in_the_same_place() {
        let mut stage = Stage::new();
        assert!(stage.ready.is_cold(&stage.site) && !stage.ready.is_made());
        stage.grow();
        assert!(stage.ready.is_complete());
        assert!(stage.ready.take(&stage.monitor, None).is_none());
        let taken = stage.ready.take(&stage.monitor, Some(&scratch()));
        let taken = taken.expect("ready");
        assert!(taken.nest.is_some() && taken.account.dynamic);
        assert_eq!(stage.fake.books().asked.last().unwrap(), "Endings");
        // The next has another number.
        stage.grow();
        let next = stage.ready.take(&stage.monitor, Some(&scratch())).unwrap();
        assert!(next.payload != taken.payload && next.account != taken.account);
        // Elsewhere.
        stage.ready.expect(Some(None));
        stage.grow();
        assert!(stage.ready.is_complete());
        assert!(stage.ready.take(&stage.monitor, None).is_some());
    }

    #[test]
    fn a_number_that_is_taken_or_in_use_is_passed_over() {
        let mut stage = Stage::new();
        let free = stage.site.dynamic.free();
        stage.fake.books().taken.insert(free[0]);
        stage.fake.books().busy.insert(free[1]);
        stage.grow();
        let taken = stage.ready.take(&stage.monitor, Some(&scratch())).unwrap();
        assert_eq!(taken.account.uid, free[2]);
        assert_eq!(stage.fake.books().leased.len(), 1);
    }

    #[test]
    fn where_numbers_are_scarce_none_is_kept() {
        let mut stage = Stage::new();
        let free = stage.site.dynamic.free();
        stage.fake.books().taken.extend(&free[..4]);
        stage.grow();
        assert!(!stage.ready.is_made() && !stage.ready.is_cold(&stage.site));
        stage.ready.expect(None);
        stage.grow();
        assert!(stage.ready.is_complete());
    }

    #[test]
    fn what_is_not_wanted_any_more_goes() {
        let mut stage = Stage::new();
        stage.grow();
        let agent = stage.ready.made.as_ref().expect("made").nest.agent.0;
        stage.fake.end(agent, libc::SIGKILL);
        stage.ready.cool_down(&stage.monitor);
        assert!(stage.fake.books().leased.is_empty());
        let asked = stage.fake.books().asked.clone();
        assert!(asked.contains(&"Kill".to_owned()) && asked.ends_with(&["Bury".to_owned()]));
        // One whose agent has died is no good.
        stage.grow();
        let agent = stage.ready.made.as_ref().expect("made").nest.agent.0;
        assert!(stage.ready.reaped(&stage.monitor, agent, 9));
        assert!(!stage.ready.is_made() && stage.fake.books().leased.is_empty());
    }
}
