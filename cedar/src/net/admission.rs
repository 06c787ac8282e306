//! Who may be in the middle of a handshake: a bound for all, a bound for each address, and no way
//! for slow peers to keep the others out.
//!
//! An honest handshake is over in a moment, a hostile one lasts as long as it is let. So a newcomer
//! that finds every place taken waits a little, and then takes the place of the handshake that has
//! lasted longest: one of its own address if the address has its share, else one of the address that
//! has the most. Of those who wait the newest comes first, for with more hostile peers than places
//! it alone still has a peer at the other end that has not given up.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

/// How soon one who waits behind others looks again whether it has become the next.
const NOT_NEXT: Duration = Duration::from_millis(250);

/// The bounds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Handshakes in progress.
    pub(super) total: usize,
    /// Handshakes in progress with one address.
    pub(super) per_address: usize,
    /// Connections that wait for a place; half of it for one address.
    pub(super) waiting: usize,
    /// How long a handshake may last when others wait for its place.
    pub(super) patience: Duration,
}

/// The places. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Admission {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    bounds: Bounds,
    next: u64,
    /// In the order in which they began.
    running: Vec<Running>,
    /// In the order in which they came.
    waiting: Vec<Waiting>,
    per_address: HashMap<IpAddr, usize>,
}

#[derive(Debug)]
struct Running {
    id: u64,
    from: IpAddr,
    since: Instant,
    /// Dropped to end the handshake.
    end: oneshot::Sender<()>,
}

#[derive(Debug)]
struct Waiting {
    id: u64,
    from: IpAddr,
    admit: oneshot::Sender<Place>,
}

/// The right to run a handshake; given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    id: u64,
    admission: Admission,
    /// False if the place was given back already.
    held: bool,
    ended: oneshot::Receiver<()>,
}

/// There are too many peers, or too many of one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Crowded;

impl Admission {
    pub(super) fn new(bounds: Bounds) -> Self {
        let state = State {
            bounds,
            next: 0,
            running: Vec::new(),
            waiting: Vec::new(),
            per_address: HashMap::new(),
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// A place for a peer at `from`, at once or after a wait.
    pub(super) async fn admit(&self, from: IpAddr) -> Result<Place, Crowded> {
        let from = share_of(from);
        let (ticket, mut admitted) = {
            let mut state = self.lock();
            if state.has_room(from) {
                return Ok(state.enter(from, self));
            }
            let same = state.waiting.iter().filter(|other| other.from == from);
            let share = state.bounds.waiting.div_ceil(2);
            if state.waiting.len() >= state.bounds.waiting || same.count() >= share {
                return Err(Crowded);
            }
            let (admit, admitted) = oneshot::channel();
            let id = state.ticket();
            state.waiting.push(Waiting { id, from, admit });
            (
                Ticket {
                    id,
                    admission: self,
                },
                admitted,
            )
        };
        loop {
            let wait = self.lock().until_ripe(from, ticket.id);
            match tokio::time::timeout(wait, &mut admitted).await {
                Ok(Ok(place)) => return Ok(place),
                Ok(Err(_)) => return Err(Crowded),
                Err(_) => {
                    let taken = self.lock().take_over(from, ticket.id, self);
                    if let Some(place) = taken {
                        return Ok(place);
                    }
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change below is complete before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Returns when the place was given to somebody else.
    pub(super) async fn ended(&mut self) {
        let _ = (&mut self.ended).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.held {
            let mut state = self.admission.lock();
            state.leave(self.id);
            state.fill(&self.admission);
        }
    }
}

/// A place in the queue; given back when dropped.
struct Ticket<'a> {
    id: u64,
    admission: &'a Admission,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut state = self.admission.lock();
        state.waiting.retain(|other| other.id != self.id);
    }
}

impl State {
    fn ticket(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn running_from(&self, from: IpAddr) -> usize {
        self.per_address.get(&from).copied().unwrap_or(0)
    }

    fn has_room(&self, from: IpAddr) -> bool {
        self.running.len() < self.bounds.total && self.running_from(from) < self.bounds.per_address
    }

    fn enter(&mut self, from: IpAddr, admission: &Admission) -> Place {
        let (end, ended) = oneshot::channel();
        let id = self.ticket();
        self.running.push(Running {
            id,
            from,
            since: Instant::now(),
            end,
        });
        *self.per_address.entry(from).or_default() += 1;
        Place {
            id,
            admission: admission.clone(),
            held: true,
            ended,
        }
    }

    fn leave(&mut self, id: u64) {
        let Some(index) = self.running.iter().position(|other| other.id == id) else {
            return;
        };
        let gone = self.running.remove(index);
        if let Some(count) = self.per_address.get_mut(&gone.from) {
            *count -= 1;
            if *count == 0 {
                self.per_address.remove(&gone.from);
            }
        }
        drop(gone.end);
    }

    /// Lets in those who wait, the newest first.
    fn fill(&mut self, admission: &Admission) {
        while let Some(index) = self
            .waiting
            .iter()
            .rposition(|waiting| self.has_room(waiting.from))
        {
            let Waiting { from, admit, .. } = self.waiting.remove(index);
            let place = self.enter(from, admission);
            if let Err(mut place) = admit.send(place) {
                // Nobody waits there any more. The lock is held, so this is not left to `drop`.
                place.held = false;
                self.leave(place.id);
            }
        }
    }

    /// The handshake that a newcomer from `from` may replace: the oldest of those in its way.
    fn in_the_way(&self, from: IpAddr) -> Option<&Running> {
        let crowd = if self.running_from(from) >= self.bounds.per_address {
            Some(from)
        } else {
            let most = self.per_address.iter().max_by_key(|(_, count)| **count);
            most.map(|(address, _)| *address)
        };
        self.running.iter().find(|other| Some(other.from) == crowd)
    }

    fn is_newest(&self, from: IpAddr, ticket: u64) -> bool {
        let newest = self.waiting.iter().rev().find(|other| other.from == from);
        newest.map(|newest| newest.id) == Some(ticket)
    }

    /// How long a newcomer has to wait at least before it may replace anybody.
    fn until_ripe(&self, from: IpAddr, ticket: u64) -> Duration {
        if !self.is_newest(from, ticket) {
            return NOT_NEXT;
        }
        let patience = self.bounds.patience;
        let age = self.in_the_way(from).map(|oldest| oldest.since.elapsed());
        patience
            .saturating_sub(age.unwrap_or_default())
            .max(Duration::from_millis(10))
    }

    fn take_over(&mut self, from: IpAddr, ticket: u64, admission: &Admission) -> Option<Place> {
        if !self.is_newest(from, ticket) {
            return None;
        }
        let oldest = self.in_the_way(from)?;
        if oldest.since.elapsed() < self.bounds.patience {
            return None;
        }
        let oldest = oldest.id;
        self.leave(oldest);
        self.waiting.retain(|other| other.id != ticket);
        Some(self.enter(from, admission))
    }
}

/// The address whose share a peer uses: an IPv6 peer has a whole /64 to itself.
fn share_of(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V6(address) => {
            let prefix = u128::from(address) & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from(prefix))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn admission(total: usize, per_address: usize) -> Admission {
        Admission::new(Bounds {
            total,
            per_address,
            waiting: 4,
            patience: Duration::from_secs(2),
        })
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, last))
    }

    #[tokio::test(start_paused = true)]
    async fn one_address_cannot_take_every_place() {
        let places = admission(4, 2);
        let mut crowd = Vec::new();
        for _ in 0..2 {
            crowd.push(places.admit(address(1)).await.unwrap());
        }
        let began = Instant::now();
        let _other = places.admit(address(2)).await.unwrap();
        assert_eq!(
            began.elapsed(),
            Duration::ZERO,
            "another address had to wait"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_newcomer_waits_and_then_replaces_the_oldest() {
        let places = admission(4, 2);
        let mut first = places.admit(address(1)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
        let mut second = places.admit(address(1)).await.unwrap();
        let began = Instant::now();
        let _third = places.admit(address(1)).await.unwrap();
        let waited = began.elapsed();
        assert!((1400..1700).contains(&waited.as_millis()), "{waited:?}");
        first.ended().await;
        let still = tokio::time::timeout(Duration::from_secs(9), second.ended()).await;
        assert!(still.is_err(), "the younger one was replaced");
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_given_back_goes_to_one_who_waits() {
        let places = admission(1, 1);
        let first = places.admit(address(1)).await.unwrap();
        let waiting = tokio::spawn({
            let places = places.clone();
            async move { places.admit(address(2)).await.unwrap().id }
        });
        tokio::time::sleep(Duration::from_millis(1)).await;
        let began = Instant::now();
        drop(first);
        waiting.await.unwrap();
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert!(places.lock().running.is_empty() && places.lock().per_address.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn when_all_is_full_the_biggest_crowd_gives_way() {
        let places = admission(3, 2);
        let mut alone = places.admit(address(1)).await.unwrap();
        let mut crowd = places.admit(address(2)).await.unwrap();
        let _more = places.admit(address(2)).await.unwrap();
        let _newcomer = places.admit(address(3)).await.unwrap();
        crowd.ended().await;
        let still = tokio::time::timeout(Duration::from_secs(9), alone.ended()).await;
        assert!(still.is_err(), "a single peer was replaced");
    }

    #[tokio::test(start_paused = true)]
    async fn the_queue_is_bounded_and_forgets_who_went_away() {
        let places = admission(1, 1);
        let held = places.admit(address(1)).await.unwrap();
        let wait = || {
            let places = places.clone();
            tokio::spawn(async move { places.admit(address(1)).await.map(|place| place.id) })
        };
        let queue = [wait(), wait()];
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(wait().await.unwrap(), Err(Crowded), "half of four is two");
        queue.iter().for_each(tokio::task::JoinHandle::abort);
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(places.lock().waiting.is_empty());
        drop(held);
        assert!(places.admit(address(1)).await.is_ok());
    }

    #[test]
    fn a_whole_ipv6_network_has_one_share() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(
            share_of(address("2001:db8::1")),
            share_of(address("2001:db8::2:3"))
        );
        assert_ne!(
            share_of(address("2001:db8::1")),
            share_of(address("2001:db8:0:1::1"))
        );
        assert_eq!(share_of(address("::ffff:192.0.2.1")), address("192.0.2.1"));
    }
}
