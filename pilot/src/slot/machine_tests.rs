//! What a pool relies on, as single stories and as properties over random ones.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

const LEASE: Lease = Lease {
    length: Duration::from_secs(1800),
    we_send: true,
    silent_while_active: true,
};
const PLEDGE: Pledge = Pledge {
    retirement: Duration::ZERO,
    vacate: Duration::from_secs(600),
};

struct Story {
    machine: Machine,
    now: Time,
    next: u64,
}

impl Story {
    fn new() -> Self {
        Self {
            machine: Machine::new(Time::ZERO, Policy::default(), ClaimNumber(1)),
            now: Time::ZERO,
            next: 2,
        }
    }

    fn after(&mut self, seconds: u64) -> &mut Self {
        self.now += Duration::from_secs(seconds);
        self
    }

    fn event(&mut self, event: Event) -> Vec<Action> {
        let mut out = Vec::new();
        self.machine.handle(self.now, event, &mut out);
        out
    }

    fn claim(&mut self) -> ClaimNumber {
        let claim = self.machine.offered();
        let next = ClaimNumber(self.next);
        self.next += 1;
        let out = self.event(Event::Request {
            claim,
            fits: true,
            lease: LEASE,
            next,
        });
        assert!(out.contains(&Action::Claim { accepted: true }), "{out:?}");
        claim
    }

    fn activate(&mut self, claim: ClaimNumber, ticket: u64) -> Vec<Action> {
        self.event(Event::Activate {
            claim,
            ticket: Ticket(ticket),
            fits: true,
            pledge: PLEDGE,
        })
    }

    fn busy() -> (Self, ClaimNumber) {
        let mut story = Self::new();
        let claim = story.claim();
        let out = story.activate(claim, 1);
        assert!(out.contains(&Action::Activation {
            ticket: Ticket(1),
            verdict: Verdict::Start
        }));
        (story, claim)
    }

    fn ended(&mut self, claim: ClaimNumber) -> Vec<Action> {
        self.event(Event::JobEnded {
            claim,
            outcome: Outcome::Reusable,
        })
    }

    fn goodbye(&mut self, claim: ClaimNumber) -> (bool, Vec<Action>) {
        let told_reusable = self.machine.reusable(self.now, claim);
        let activation = self.machine.activations();
        let how = Deactivation::Forcibly;
        (
            told_reusable,
            self.event(Event::Deactivate {
                claim,
                how,
                told_reusable,
                activation,
            }),
        )
    }
}

#[test]
fn jobs_follow_each_other_on_one_claim() {
    let (mut story, claim) = Story::busy();
    for ticket in 2..5 {
        story.after(1).ended(claim);
        let (reusable, out) = story.goodbye(claim);
        assert!(reusable);
        assert!(
            out.is_empty(),
            "the goodbye of a finished job does nothing: {out:?}"
        );
        let out = story.activate(claim, ticket);
        assert!(out.contains(&Action::Activation {
            ticket: Ticket(ticket),
            verdict: Verdict::Start
        }));
        assert_eq!(story.machine.shown(), (State::Claimed, Activity::Busy));
    }
}

#[test]
fn an_activation_ahead_of_the_reaping_waits_for_it() {
    let (mut story, claim) = Story::busy();
    assert!(story.activate(claim, 2).is_empty());
    let out = story.ended(claim);
    assert!(out.contains(&Action::Activation {
        ticket: Ticket(2),
        verdict: Verdict::Start
    }));
    assert_eq!(story.machine.activations(), 2);
}

#[test]
fn an_activation_does_not_wait_for_ever() {
    let (mut story, claim) = Story::busy();
    assert!(story.activate(claim, 2).is_empty());
    let out = story.after(5).event(Event::Tick);
    assert_eq!(
        out,
        [Action::Activation {
            ticket: Ticket(2),
            verdict: Verdict::TryAgain
        }]
    );
}

#[test]
fn a_late_goodbye_spares_the_next_job() {
    let (mut story, claim) = Story::busy();
    let activation = story.machine.activations();
    story.ended(claim);
    story.activate(claim, 2);
    let how = Deactivation::Forcibly;
    let out = story.event(Event::Deactivate {
        claim,
        how,
        told_reusable: true,
        activation,
    });
    assert!(out.is_empty(), "{out:?}");
}

#[test]
fn an_old_claim_id_opens_nothing() {
    let mut story = Story::new();
    let claim = story.claim();
    story.event(Event::Release(claim));
    let out = story.event(Event::Request {
        claim,
        fits: true,
        lease: LEASE,
        next: ClaimNumber(9),
    });
    assert_eq!(out, [Action::Claim { accepted: false }]);
    let out = story.activate(claim, 1);
    assert_eq!(
        out,
        [Action::Activation {
            ticket: Ticket(1),
            verdict: Verdict::Refuse
        }]
    );
}

#[test]
fn a_second_schedd_is_refused_while_claimed() {
    let mut story = Story::new();
    story.claim();
    let claim = story.machine.offered();
    let out = story.event(Event::Request {
        claim,
        fits: true,
        lease: LEASE,
        next: ClaimNumber(9),
    });
    assert_eq!(out, [Action::Claim { accepted: false }]);
}

#[test]
fn a_release_by_the_schedd_is_not_answered_by_one() {
    let (mut story, claim) = Story::busy();
    let out = story.event(Event::Release(claim));
    assert!(out.contains(&Action::Stop {
        force: Force::Hard,
        cause: Cause::DeactivateForcibly
    }));
    let out = story.ended(claim);
    assert!(out.contains(&Action::Forget(claim)));
    assert!(
        !out.iter()
            .any(|action| matches!(action, Action::SendRelease(_)))
    );
    assert!(out.contains(&Action::Advertise { urgent: true }));
    assert_eq!(story.machine.shown(), (State::Unclaimed, Activity::Idle));
}

#[test]
fn a_worn_out_claim_says_so_and_ends_without_a_release_from_the_schedd() {
    let (mut story, claim) = Story::busy();
    story.after(1201).ended(claim);
    let (reusable, out) = story.goodbye(claim);
    assert!(!reusable);
    assert!(out.contains(&Action::Forget(claim)));
    assert_eq!(story.machine.shown().0, State::Unclaimed);
}

#[test]
fn a_claim_waiting_for_its_first_job_is_not_worn_out() {
    let mut story = Story::new();
    let claim = story.claim();
    story.after(1201).event(Event::Tick);
    assert_eq!(story.machine.claim().map(|held| held.0), Some(claim));
}

#[test]
fn an_idle_claim_is_kept_alive_and_dropped_when_unknown() {
    let mut story = Story::new();
    let claim = story.claim();
    assert_eq!(story.machine.deadline(), Some(Duration::from_secs(600)));
    assert_eq!(
        story.after(600).event(Event::Tick),
        [Action::SendAlive(claim)]
    );
    story.event(Event::AliveFailed(claim));
    assert_eq!(
        story.after(5).event(Event::Tick),
        [Action::SendAlive(claim)]
    );
    story.event(Event::AliveAnswered { claim, known: true });
    assert_eq!(story.machine.deadline(), Some(Duration::from_secs(1205)));
    let out = story.event(Event::AliveAnswered {
        claim,
        known: false,
    });
    assert!(out.contains(&Action::Forget(claim)));
}

#[test]
fn a_silent_schedd_loses_its_claim() {
    let mut story = Story::new();
    let claim = story.claim();
    let out = story.after(1800).event(Event::Tick);
    assert!(out.contains(&Action::Forget(claim)), "{out:?}");
}

#[test]
fn a_running_job_needs_no_lease() {
    let (mut story, _) = Story::busy();
    assert!(story.after(100_000).event(Event::Tick).is_empty());
}

#[test]
fn a_lost_shadow_makes_us_ask_the_schedd() {
    let (mut story, claim) = Story::busy();
    story.event(Event::JobEnded {
        claim,
        outcome: Outcome::ShadowLost,
    });
    assert_eq!(story.machine.deadline(), Some(story.now));
    assert_eq!(story.event(Event::Tick), [Action::SendAlive(claim)]);
}

#[test]
fn while_the_shadow_is_away_the_schedd_is_asked() {
    let (mut story, claim) = Story::busy();
    let lost = |connected| Event::Line { claim, connected };
    story.after(10_000).event(lost(false));
    assert_eq!(story.machine.shown(), (State::Claimed, Activity::Busy));
    let retry = Policy::default().alive_retry;
    assert_eq!(story.machine.deadline(), Some(story.now + retry));
    story.now += retry;
    assert_eq!(story.event(Event::Tick), [Action::SendAlive(claim)]);
    // It cannot be reached: asked again, for as long as the job waits.
    story.event(Event::AliveFailed(claim));
    story.now += retry;
    assert_eq!(story.event(Event::Tick), [Action::SendAlive(claim)]);
    story.event(Event::AliveAnswered { claim, known: true });
    assert!(story.machine.deadline().is_some());
    // The shadow is back: silence, as ever while a job runs.
    story.event(lost(true));
    assert_eq!(story.machine.deadline(), None);
}

#[test]
fn a_schedd_that_does_not_know_the_claim_any_more_ends_the_job() {
    let (mut story, claim) = Story::busy();
    story.event(Event::Line {
        claim,
        connected: false,
    });
    let out = story.event(Event::AliveAnswered {
        claim,
        known: false,
    });
    assert!(out.contains(&Action::Stop {
        force: Force::Hard,
        cause: Cause::DeactivateForcibly
    }));
    let out = story.event(Event::JobEnded {
        claim,
        outcome: Outcome::ShadowLost,
    });
    assert!(out.contains(&Action::Forget(claim)), "{out:?}");
    assert_eq!(story.machine.shown(), (State::Unclaimed, Activity::Idle));
}

#[test]
fn the_next_job_takes_the_place_of_one_whose_shadow_is_away() {
    let (mut story, claim) = Story::busy();
    story.event(Event::Line {
        claim,
        connected: false,
    });
    let out = story.activate(claim, 2);
    assert_eq!(
        out,
        [Action::Stop {
            force: Force::Hard,
            cause: Cause::DeactivateForcibly
        }]
    );
    let out = story.event(Event::JobEnded {
        claim,
        outcome: Outcome::ShadowLost,
    });
    assert!(out.contains(&Action::Activation {
        ticket: Ticket(2),
        verdict: Verdict::Start
    }));
    assert_eq!(story.machine.shown(), (State::Claimed, Activity::Busy));
}

#[test]
fn with_the_lease_of_its_job_a_claim_is_over() {
    let (mut story, claim) = Story::busy();
    story.event(Event::Line {
        claim,
        connected: false,
    });
    let out = story.event(Event::JobEnded {
        claim,
        outcome: Outcome::LeaseOver,
    });
    assert!(out.contains(&Action::SendRelease(claim)), "{out:?}");
    assert!(out.contains(&Action::Forget(claim)), "{out:?}");
    assert_eq!(story.machine.shown(), (State::Unclaimed, Activity::Idle));
}

#[test]
fn retirement_lets_the_job_use_its_time_then_stops_it_softly_then_hard() {
    let mut story = Story::new();
    let claim = story.claim();
    let pledge = Pledge {
        retirement: Duration::from_secs(100),
        vacate: Duration::from_secs(10),
    };
    story.event(Event::Activate {
        claim,
        ticket: Ticket(1),
        fits: true,
        pledge,
    });
    story.after(40).event(Event::Retire {
        limit: Duration::from_secs(1000),
    });
    assert_eq!(story.machine.shown(), (State::Claimed, Activity::Retiring));
    assert!(!story.machine.reusable(story.now, claim));
    assert_eq!(story.machine.deadline(), Some(Duration::from_secs(100)));
    let out = story.after(60).event(Event::Tick);
    assert!(out.contains(&Action::Stop {
        force: Force::Soft,
        cause: Cause::Retire
    }));
    let out = story.after(10).event(Event::Tick);
    assert!(out.contains(&Action::Stop {
        force: Force::Hard,
        cause: Cause::Retire
    }));
    let out = story.after(30).event(Event::Tick);
    assert!(out.contains(&Action::Abandon(claim)));
    assert!(out.contains(&Action::SendRelease(claim)));
    assert!(story.machine.ended());
}

#[test]
fn a_preempted_job_keeps_its_retirement_time_and_the_slot_takes_others_then() {
    let mut story = Story::new();
    let claim = story.claim();
    let pledge = Pledge {
        retirement: Duration::from_secs(100),
        vacate: Duration::from_secs(10),
    };
    story.event(Event::Activate {
        claim,
        ticket: Ticket(1),
        fits: true,
        pledge,
    });
    assert!(story.machine.preemptible());
    story.event(Event::Suspend {
        claim,
        suspended: true,
    });
    let out = story.after(40).event(Event::Preempt);
    assert!(out.contains(&Action::Suspend(false)), "{out:?}");
    assert_eq!(story.machine.shown(), (State::Claimed, Activity::Retiring));
    assert!(!story.machine.preemptible(), "once is enough");
    assert!(!story.machine.reusable(story.now, claim));
    let out = story.after(60).event(Event::Tick);
    assert!(out.contains(&Action::Stop {
        force: Force::Soft,
        cause: Cause::Preempt
    }));
    let out = story.after(10).event(Event::Tick);
    assert!(out.contains(&Action::Stop {
        force: Force::Hard,
        cause: Cause::Preempt
    }));
    story.ended(claim);
    let (reusable, _) = story.goodbye(claim);
    assert!(!reusable);
    assert_eq!(story.machine.shown(), (State::Unclaimed, Activity::Idle));
    assert!(!story.machine.ended());
}

#[test]
fn a_job_of_a_retiring_pilot_can_be_preempted_and_one_that_was_told_to_end_cannot() {
    let mut story = Story::new();
    let claim = story.claim();
    let pledge = Pledge {
        retirement: Duration::from_secs(100),
        vacate: Duration::from_secs(10),
    };
    story.event(Event::Activate {
        claim,
        ticket: Ticket(1),
        fits: true,
        pledge,
    });
    story.event(Event::Retire {
        limit: Duration::from_secs(1000),
    });
    assert!(story.machine.preemptible());
    story.after(1).event(Event::Preempt);
    let out = story.after(99).event(Event::Tick);
    assert!(out.contains(&Action::Stop {
        force: Force::Soft,
        cause: Cause::Preempt
    }));
    assert!(!story.machine.preemptible());

    let mut idle = Story::new();
    idle.claim();
    assert!(!idle.machine.preemptible());
    assert_eq!(idle.event(Event::Preempt), []);
}

#[test]
fn a_job_that_finishes_while_retiring_closes_its_claim() {
    let mut story = Story::new();
    let claim = story.claim();
    let pledge = Pledge {
        retirement: Duration::from_secs(100),
        vacate: Duration::from_secs(10),
    };
    story.event(Event::Activate {
        claim,
        ticket: Ticket(1),
        fits: true,
        pledge,
    });
    story.event(Event::Retire {
        limit: Duration::from_secs(1000),
    });
    story.after(1).ended(claim);
    let (reusable, _) = story.goodbye(claim);
    assert!(!reusable);
    assert!(story.machine.ended());
}

#[test]
fn a_fast_end_kills() {
    let (mut story, claim) = Story::busy();
    let out = story.event(Event::RetireFast);
    assert!(out.contains(&Action::Stop {
        force: Force::Hard,
        cause: Cause::Retire
    }));
    story.ended(claim);
    let out = story.after(2).event(Event::Tick);
    assert!(out.contains(&Action::SendRelease(claim)));
    assert!(story.machine.ended());
}

#[test]
fn an_idle_slot_retires_at_once() {
    let mut story = Story::new();
    let claim = story.claim();
    let out = story.event(Event::Retire {
        limit: Duration::from_secs(1),
    });
    assert!(out.contains(&Action::SendRelease(claim)));
    assert!(story.machine.ended());
}

#[test]
fn a_back_off_closes_the_slot_for_a_while() {
    let (mut story, claim) = Story::busy();
    story.event(Event::JobEnded {
        claim,
        outcome: Outcome::BackOff(Duration::from_secs(20)),
    });
    let (reusable, _) = story.goodbye(claim);
    assert!(!reusable);
    assert_eq!(story.machine.shown(), (State::Owner, Activity::Idle));
    let out = story.after(20).event(Event::Tick);
    assert_eq!(out, [Action::Advertise { urgent: true }]);
    assert_eq!(story.machine.shown(), (State::Unclaimed, Activity::Idle));
}

#[test]
fn start_turning_false_drops_the_idle_claim_but_not_the_job() {
    let mut story = Story::new();
    let claim = story.claim();
    let out = story.event(Event::Start {
        willing: true,
        fits_claim: false,
    });
    assert!(out.contains(&Action::SendRelease(claim)));
    let (mut story, claim) = Story::busy();
    story.event(Event::Start {
        willing: false,
        fits_claim: false,
    });
    assert_eq!(story.machine.shown(), (State::Claimed, Activity::Busy));
    assert!(!story.machine.reusable(story.now, claim));
}

fn legal(from: (State, Activity), to: (State, Activity)) -> bool {
    use Activity::{Busy, Idle, Killing, Retiring, Suspended, Vacating};
    use State::{Claimed, Owner, Preempting, Unclaimed};
    matches!(
        (from, to),
        ((Owner, Idle), (Unclaimed, Idle))
            | ((Unclaimed, Idle), (Owner | Claimed, Idle))
            | ((Claimed, Idle), (Owner | Unclaimed, Idle) | (Claimed, Busy))
            | (
                (Claimed, Busy | Suspended),
                (Claimed, Idle | Busy | Suspended | Retiring)
                    | (Preempting, Vacating | Killing)
                    | (Owner | Unclaimed, Idle)
            )
            | (
                (Claimed, Retiring),
                (Preempting, Vacating | Killing) | (Owner, Idle)
            )
            | (
                (Preempting, Vacating),
                (Preempting, Killing) | (Owner | Unclaimed, Idle)
            )
            | (
                (Preempting, Killing),
                (Preempting, Vacating) | (Owner | Unclaimed, Idle)
            )
    )
}

#[derive(Debug, Clone)]
enum Move {
    Wait(u64),
    Request { current: bool, fits: bool },
    Activate { current: bool, fits: bool },
    Deactivate { gently: bool },
    Release { current: bool },
    AliveAnswered(bool),
    AliveFailed,
    JobEnded(Outcome),
    Line(bool),
    Suspend(bool),
    Start(bool, bool),
    Retire(u64),
    RetireFast,
    Stranded,
    Preempt,
    Tick,
}

fn moves() -> impl Strategy<Value = Move> {
    prop_oneof![
        4 => (0_u64..700).prop_map(Move::Wait),
        6 => (any::<bool>(), any::<bool>()).prop_map(|(current, fits)| Move::Request { current, fits }),
        8 => (prop::bool::weighted(0.9), prop::bool::weighted(0.9))
            .prop_map(|(current, fits)| Move::Activate { current, fits }),
        4 => any::<bool>().prop_map(|gently| Move::Deactivate { gently }),
        2 => any::<bool>().prop_map(|current| Move::Release { current }),
        2 => any::<bool>().prop_map(Move::AliveAnswered),
        1 => Just(Move::AliveFailed),
        6 => prop_oneof![
            6 => Just(Outcome::Reusable),
            1 => Just(Outcome::ShadowLost),
            1 => Just(Outcome::LeaseOver),
            1 => (1_u64..60).prop_map(|s| Outcome::BackOff(Duration::from_secs(s)))
        ].prop_map(Move::JobEnded),
        2 => any::<bool>().prop_map(Move::Line),
        2 => (prop::bool::weighted(0.8), prop::bool::weighted(0.8)).prop_map(|(a, b)| Move::Start(a, b)),
        1 => (0_u64..2000).prop_map(Move::Retire),
        1 => Just(Move::RetireFast),
        1 => Just(Move::Preempt),
        1 => Just(Move::Stranded),
        2 => any::<bool>().prop_map(Move::Suspend),
        4 => Just(Move::Tick),
    ]
}

#[test]
fn a_claim_whose_holder_cannot_reach_us_any_more_ends_with_its_job() {
    let (mut story, claim) = Story::busy();
    assert_eq!(story.event(Event::Stranded), []);
    assert_eq!(story.machine.shown(), (State::Claimed, Activity::Busy));
    assert!(!story.machine.reusable(story.now, claim));
    story.after(5).ended(claim);
    // It cannot say goodbye; the schedd is told.
    let out = story.after(60).event(Event::Tick);
    assert!(out.contains(&Action::SendRelease(claim)), "{out:?}");
    assert_eq!(story.machine.shown(), (State::Unclaimed, Activity::Idle));
    let idle = story.claim();
    let out = story.event(Event::Stranded);
    assert!(out.contains(&Action::SendRelease(idle)), "{out:?}");
    assert_eq!(story.machine.shown(), (State::Unclaimed, Activity::Idle));
    assert_eq!(story.event(Event::Stranded), []);
}

#[test]
fn k8_a_suspended_job_shows_and_goes_on() {
    let (mut story, claim) = Story::busy();
    let suspend = |suspended| Event::Suspend { claim, suspended };
    assert!(story.event(suspend(true)).contains(&Action::Suspend(true)));
    assert_eq!(story.machine.shown(), (State::Claimed, Activity::Suspended));
    assert_eq!(story.event(suspend(true)), [], "said once is enough");
    assert!(
        story
            .event(suspend(false))
            .contains(&Action::Suspend(false))
    );
    assert_eq!(story.machine.shown(), (State::Claimed, Activity::Busy));
}

#[test]
fn k8_what_is_told_to_end_cannot_be_suspended() {
    let (mut story, claim) = Story::busy();
    let suspend = |suspended| Event::Suspend { claim, suspended };
    story.event(suspend(true));
    let out = story.event(Event::Deactivate {
        claim,
        how: Deactivation::Gently,
        told_reusable: true,
        activation: 1,
    });
    assert!(out.contains(&Action::Stop {
        force: Force::Soft,
        cause: Cause::Deactivate
    }));
    assert_eq!(story.machine.shown(), (State::Claimed, Activity::Busy));
    assert_eq!(story.event(suspend(true)), []);
}

#[test]
fn k8_a_suspended_job_uses_its_retirement_time() {
    let (mut story, claim) = Story::busy();
    story.event(Event::Suspend {
        claim,
        suspended: true,
    });
    let out = story.event(Event::Retire {
        limit: Duration::from_secs(100),
    });
    assert!(out.contains(&Action::Suspend(false)), "{out:?}");
}

#[derive(Default)]
struct Watcher {
    accepted: HashSet<ClaimNumber>,
    forgotten: HashSet<ClaimNumber>,
    open_tickets: HashSet<Ticket>,
    job: bool,
}

impl Watcher {
    fn see(
        &mut self,
        story: &Story,
        asked: Option<ClaimNumber>,
        before: (State, Activity),
        out: &[Action],
    ) {
        for action in out {
            match action {
                Action::Claim { accepted: true } => {
                    let claim = asked.expect("an answer without a question");
                    assert!(self.accepted.insert(claim), "{claim:?} accepted twice");
                }
                Action::Activation { ticket, verdict } => {
                    assert!(
                        self.open_tickets.remove(ticket),
                        "{ticket:?} answered twice"
                    );
                    if *verdict == Verdict::Start {
                        assert!(!self.job, "two jobs in one slot");
                        self.job = true;
                    }
                }
                Action::Stop { .. } | Action::Suspend(_) => {
                    assert!(self.job, "a stop without a job");
                }
                Action::Abandon(_) => self.job = false,
                Action::Forget(claim) => {
                    assert!(self.accepted.contains(claim));
                    assert!(self.forgotten.insert(*claim), "{claim:?} forgotten twice");
                    assert!(!self.job, "a claim ended under its job");
                }
                Action::SendAlive(claim) | Action::SendRelease(claim) => {
                    assert!(!self.forgotten.contains(claim))
                }
                Action::Claim { accepted: false } | Action::Advertise { .. } => {}
            }
        }
        let after = story.machine.shown();
        if before != after {
            assert!(legal(before, after), "{before:?} to {after:?}");
            assert!(
                out.iter().any(|a| matches!(a, Action::Advertise { .. })),
                "a change nobody hears of"
            );
        }
        assert!(
            !self.accepted.contains(&story.machine.offered()),
            "an old claim is offered"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn random_stories_break_no_rule_and_end(script in prop::collection::vec(moves(), 1..80)) {
        let mut story = Story::new();
        let mut watch = Watcher::default();
        let mut ticket = 0;
        for step in script {
            let before = story.machine.shown();
            let held = story.machine.claim().map(|held| held.0);
            let mut asked = None;
            let event = match step {
                Move::Wait(seconds) => { story.after(seconds); Event::Tick }
                Move::Request { current, fits } => {
                    let claim = if current { story.machine.offered() } else { ClaimNumber(1) };
                    asked = Some(claim);
                    story.next += 1;
                    Event::Request { claim, fits, lease: LEASE, next: ClaimNumber(story.next) }
                }
                Move::Activate { current, fits } => {
                    ticket += 1;
                    watch.open_tickets.insert(Ticket(ticket));
                    let claim = held.filter(|_| current).unwrap_or(ClaimNumber(1));
                    Event::Activate { claim, ticket: Ticket(ticket), fits, pledge: PLEDGE }
                }
                Move::Deactivate { gently } => {
                    let claim = held.unwrap_or(ClaimNumber(1));
                    let told_reusable = story.machine.reusable(story.now, claim);
                    let activation = story.machine.activations();
                    let how = if gently { Deactivation::Gently } else { Deactivation::Forcibly };
                    Event::Deactivate { claim, how, told_reusable, activation }
                }
                Move::Release { current } => Event::Release(held.filter(|_| current).unwrap_or(ClaimNumber(1))),
                Move::AliveAnswered(known) => {
                    Event::AliveAnswered { claim: held.unwrap_or(ClaimNumber(1)), known }
                }
                Move::AliveFailed => Event::AliveFailed(held.unwrap_or(ClaimNumber(1))),
                Move::JobEnded(outcome) => {
                    if !watch.job { continue; }
                    watch.job = false;
                    Event::JobEnded { claim: held.expect("a job without a claim"), outcome }
                }
                Move::Suspend(suspended) => Event::Suspend { claim: held.unwrap_or(ClaimNumber(1)), suspended },
                Move::Line(connected) => Event::Line { claim: held.unwrap_or(ClaimNumber(1)), connected },
                Move::Start(willing, fits_claim) => Event::Start { willing, fits_claim },
                Move::Retire(seconds) => Event::Retire { limit: Duration::from_secs(seconds) },
                Move::RetireFast => Event::RetireFast,
                Move::Preempt => Event::Preempt,
                Move::Stranded => Event::Stranded,
                Move::Tick => Event::Tick,
            };
            let out = story.event(event);
            watch.see(&story, asked, before, &out);
        }
        // However it stood, a pilot told to retire ends by the passing of time alone, and leaves nobody waiting.
        let before = story.machine.shown();
        let out = story.event(Event::Retire { limit: Duration::from_secs(50) });
        watch.see(&story, None, before, &out);
        for _ in 0..10 {
            let Some(due) = story.machine.deadline() else { break };
            story.now = story.now.max(due);
            let before = story.machine.shown();
            let out = story.event(Event::Tick);
            watch.see(&story, None, before, &out);
        }
        prop_assert!(story.machine.ended(), "{:?}", story.machine);
        prop_assert!(watch.open_tickets.is_empty());
        prop_assert_eq!(watch.accepted, watch.forgotten);
    }
}
