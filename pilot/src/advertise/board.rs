//! Tells the collector links which slot ads changed. The ads themselves are made when a link is ready to send, so a
//! burst of changes costs one ad, and always the newest.

use tokio::sync::watch;

use cedar::ClaimId;
use classad::ClassAd;

/// How often one slot's ad changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mark {
    /// Every change.
    pub version: u64,
    /// Changes that matches depend on.
    pub urgent: u64,
}

/// The writing end, owned by the slots' task.
#[derive(Debug)]
pub struct Board {
    marks: watch::Sender<Vec<Mark>>,
}

/// The reading end of a link.
pub type BoardReader = watch::Receiver<Vec<Mark>>;

/// What a link sends for one slot.
#[derive(Debug)]
pub struct SlotUpdate {
    /// Index of the slot, from 0.
    pub slot: usize,
    /// Its full name.
    pub name: String,
    /// The public ad, without the sequence number.
    pub public: ClassAd,
    /// The claim by which the slot can be asked for next; `None` when nothing is offered.
    pub claim: Option<ClaimId>,
}

impl Board {
    /// A board on which nothing is written yet: links connect, and wait.
    #[must_use]
    pub fn new() -> (Self, BoardReader) {
        let (marks, reader) = watch::channel(Vec::new());
        (Self { marks }, reader)
    }

    /// Announces all slots for the first time.
    pub fn open(&self, slots: usize) {
        self.marks.send_replace(vec![
            Mark {
                version: 1,
                urgent: 1
            };
            slots
        ]);
    }

    /// Says that the ad of a slot changed.
    pub fn changed(&self, slot: usize, urgent: bool) {
        self.marks.send_modify(|marks| {
            if let Some(mark) = marks.get_mut(slot) {
                mark.version += 1;
                mark.urgent += u64::from(urgent);
            }
        });
    }
}
