//! What cannot be had with each way to start payloads, in the words of the log and of the slot ad. Pure.

use super::reconcile::How;
use crate::knobs::Offered;

/// What the helper may have beside the minimum, and what it is to a job.
const FEATURES: [(&str, &str); 3] = [
    ("memory-limit", "limits on the memory of a job"),
    ("pids-limit", "limits on the number of a job's processes"),
    ("io-usage", "figures of what a job reads and writes"),
];

const OWN_ACCOUNT: &str = "accounts of their own for jobs";
const NO_GROUP: &str = "control groups: a job's processes are followed by descent";
const FOREIGN_KEEPER: &str = "a keeper that a job cannot kill: both have one account; what then outlives it is killed by another call";

/// What cannot be had.
pub(super) fn lacks(how: How, offered: &Offered, features: &[String]) -> Vec<String> {
    let mut lacks: Vec<&str> = Vec::new();
    match (how, offered) {
        (How::Helper, Offered::Glexec(_)) => lacks.extend([
            NO_GROUP,
            FOREIGN_KEEPER,
            "that other call once the job's credential has ended",
            "an end of jobs at the end of their credentials when the pilot is gone",
        ]),
        (How::Helper, Offered::Sudo(_)) => lacks.extend([
            "accounts by the jobs' credentials: a slot has one account, whoever the job's user is",
            NO_GROUP,
            FOREIGN_KEEPER,
            "an end of jobs at the end of their credentials when the pilot is gone",
        ]),
        (How::Helper, Offered::Switch(_) | Offered::Nothing) => {}
        (How::Namespaces, _) => lacks.extend([
            OWN_ACCOUNT,
            NO_GROUP,
            "a network of their own: services on this node that trust the account can be reached",
        ]),
        (How::OwnAccount, _) => lacks.extend([
            OWN_ACCOUNT,
            "protection of jobs from each other, and of the pilot from them",
            NO_GROUP,
        ]),
    }
    let has = |feature: &str| features.iter().any(|known| known == feature);
    lacks.extend(
        FEATURES
            .iter()
            .filter(|(feature, _)| !has(feature))
            .map(|(_, what)| *what),
    );
    lacks.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn a_helper_that_has_everything_lacks_nothing() {
        let all = FEATURES.map(|(feature, _)| feature.to_owned());
        let ours = Offered::Switch(PathBuf::from("/x"));
        assert_eq!(lacks(How::Helper, &ours, &all), Vec::<String>::new());
        let some = lacks(How::Helper, &ours, &all[1..]);
        assert_eq!(some, ["limits on the memory of a job"]);
    }

    #[test]
    fn what_is_not_an_account_says_so() {
        for how in [How::Namespaces, How::OwnAccount] {
            let words = lacks(how, &Offered::Nothing, &[]);
            assert!(words.contains(&OWN_ACCOUNT.to_owned()), "{words:?}");
            assert!(words.iter().all(|word| !word.contains('\n')));
        }
        let glexec = Offered::Glexec(PathBuf::from("/x"));
        let words = lacks(How::Helper, &glexec, &[]).join("; ");
        assert!(words.contains("credential has ended"), "{words}");
    }
}
