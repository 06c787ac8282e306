//! Who hears what the name service is asked and what it answers, and goes by that.

use std::collections::HashMap;

use super::{Answer, Entry, Query, Reply, Request};

/// More is not kept.
const MOST: usize = 4096;

/// Copies of questions and answers, in turns.
#[derive(Debug, Default)]
pub struct Witness {
    /// The question whose answer comes next.
    asked: Option<(u32, Vec<Query>)>,
    known: HashMap<Query, Option<Entry>>,
}

impl Witness {
    /// Takes in one packet; `None`: it is none that could come now, and nothing after it can be believed.
    pub fn hear(&mut self, packet: &[u8]) -> Option<()> {
        let Some((id, queries)) = self.asked.take() else {
            let Request { id, queries } = Request::decode(packet).ok()?;
            self.asked = Some((id, queries));
            return Some(());
        };
        let answer = Answer::decode(packet).ok().filter(|it| it.id == id)?;
        match answer.reply {
            Reply::Names(entries) if entries.len() == queries.len() => {
                if self.known.len() > MOST {
                    self.known.clear();
                }
                self.known.extend(queries.into_iter().zip(entries));
                Some(())
            }
            Reply::Refused(_) => Some(()),
            _ => None,
        }
    }

    /// The latest answer; `None`: it was not asked.
    pub fn get(&self, query: &Query) -> Option<Option<&Entry>> {
        self.known.get(query).map(Option::as_ref)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(id: u32, queries: &[Query]) -> Vec<u8> {
        let queries = queries.to_vec();
        Request { id, queries }.encode().expect("sound")
    }

    fn answer(id: u32, entries: Vec<Option<Entry>>) -> Vec<u8> {
        let reply = Reply::Names(entries);
        Answer { id, reply }.encode().expect("sound")
    }

    #[test]
    fn m3_only_what_was_asked_and_answered_is_known() {
        let mut witness = Witness::default();
        let (uid, group) = (Query::Uid(60_000), Query::Group("lab".into()));
        let queries = [uid.clone(), group.clone()];
        assert_eq!(witness.hear(&question(1, &queries)), Some(()));
        assert_eq!(witness.get(&uid), None);
        let lab = Entry::Group { gid: 7 };
        let packet = answer(1, vec![None, Some(lab.clone())]);
        assert_eq!(witness.hear(&packet), Some(()));
        assert_eq!(witness.get(&uid), Some(None));
        assert_eq!(witness.get(&group), Some(Some(&lab)));
        assert_eq!(witness.get(&Query::Uid(0)), None);
    }

    #[test]
    fn m3_an_answer_to_something_else_is_the_end_of_belief() {
        let queries = [Query::Uid(60_000)];
        for packet in [answer(2, vec![None]), answer(1, Vec::new()), Vec::new()] {
            let mut witness = Witness::default();
            assert_eq!(witness.hear(&question(1, &queries)), Some(()));
            assert_eq!(witness.hear(&packet), None);
            assert_eq!(witness.get(&queries[0]), None);
        }
        assert_eq!(Witness::default().hear(&[]), None);
    }
}
