use std::io::Write as _;

use proptest::prelude::*;

use super::*;

fn event(number: u32, job: u32) -> String {
    format!("{number:03} ({job:03}.000.000) 2026-11-25 15:40:57 It happened.\n\twith reason\n...\n")
}

/// The log after a replay of `texts`, and again after the same once more.
fn replayed(log: &str, texts: &[String]) -> (String, String) {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(log.as_bytes()).unwrap();
    let once = || {
        let clone = file.try_clone().unwrap();
        let (mut open, found) = look(clone, texts).unwrap();
        found.cut(&open).unwrap();
        open.seek(SeekFrom::End(0)).unwrap();
        open.write_all(found.text().as_bytes()).unwrap();
        let mut text = String::new();
        open.seek(SeekFrom::Start(0)).unwrap();
        open.read_to_string(&mut text).unwrap();
        text
    };
    (once(), once())
}

#[test]
fn what_is_there_is_not_written_again() {
    let all: Vec<String> = (0..5).map(|job| event(0, job)).collect();
    for there in 0..=all.len() {
        let log = all[..there].concat();
        let (once, twice) = replayed(&log, &all);
        assert_eq!(once, all.concat());
        assert_eq!(twice, once);
    }
}

#[test]
fn events_of_others_and_of_before_stay_where_they_are() {
    let log = [event(0, 1), event(5, 1), event(0, 2), event(1, 2)].concat();
    // Given up in between: what came after it is there.
    let (once, twice) = replayed(&log, &[event(12, 2), event(1, 2), event(5, 2)]);
    assert_eq!(once, log + &event(12, 2) + &event(5, 2));
    assert_eq!(twice, once);
}

#[test]
fn the_same_twice_in_a_second_is_twice_in_the_log() {
    let texts = [event(12, 1) + &event(13, 1), event(12, 1)];
    assert_eq!(replayed(&event(12, 1), &texts).0, texts.concat());
}

#[test]
fn half_an_event_at_the_end_is_cut_off() {
    let (old, new) = (event(0, 1), event(5, 1));
    for length in 1..new.len() {
        let log = format!("{old}{}", &new[..length]);
        // Ours, or one of which nothing is known any more.
        assert_eq!(
            replayed(&log, std::slice::from_ref(&new)).0,
            format!("{old}{new}")
        );
        assert_eq!(replayed(&log, &[event(9, 1)]).0, old.clone() + &event(9, 1));
    }
    let log = format!("{old}{}\n{}", &new[..30], &new[..40]);
    assert_eq!(replayed(&log, &[]).0, old);
    let log = format!("{old}{}", "\0".repeat(1000));
    assert_eq!(
        replayed(&log, std::slice::from_ref(&new)).0,
        format!("{old}{new}")
    );
    assert_eq!(replayed(&new[..20], std::slice::from_ref(&new)).0, new);
}

#[test]
fn what_is_no_event_is_nobodys_to_cut() {
    let new = event(5, 1);
    for (log, gap) in [
        ("notes of mine", "\n"),
        ("12", "\n"),
        ("", ""),
        ("notes\n...\nmore notes\n", ""),
    ] {
        let (once, twice) = replayed(log, std::slice::from_ref(&new));
        assert_eq!(once, format!("{log}{gap}{new}"));
        assert_eq!(twice, once);
    }
    let log = event(0, 1) + &"x".repeat(2 * LONGEST);
    let (once, twice) = replayed(&log, std::slice::from_ref(&new));
    assert_eq!(once, format!("{log}\n{new}"));
    assert_eq!(twice, once);
    // Half an event behind something else goes alone.
    let log = format!("{}notes\n{}", event(0, 1), &new[..40]);
    let expected = format!("{}notes\n{new}", event(0, 1));
    assert_eq!(replayed(&log, &[new]).0, expected);
}

#[test]
fn a_long_log_is_read_at_its_end_only() {
    let mut log = event(5, 7);
    for job in 0..70_000 {
        log.push_str(&event(1, job));
    }
    log.push_str(&event(5, 8));
    assert!(log.len() as u64 > TAIL + 1000);
    let (once, _) = replayed(&log, &[event(5, 7), event(5, 8)]);
    assert_eq!(once, log + &event(5, 7));
}

#[test]
fn a_half_event_that_grows_is_left_to_its_writer() {
    let mut file = tempfile::tempfile().unwrap();
    let (old, other) = (event(0, 1), event(1, 1));
    write!(file, "{old}{}", &other[..30]).unwrap();
    let texts = [event(5, 1)];
    let (mut file, before) = look(file, &texts).unwrap();
    assert!(before.is_somebody_at_it());
    file.write_all(&other.as_bytes()[30..40]).unwrap();
    before.cut(&file).unwrap();
    let length = file.metadata().unwrap().len();
    assert_eq!(length, (old.len() + 40) as u64);
    let (file, mut now) = look(file, &texts).unwrap();
    now.doubt(&before);
    now.cut(&file).unwrap();
    assert_eq!(file.metadata().unwrap().len(), length);
}

proptest! {
    #[test]
    fn any_file_at_all(
        log in proptest::collection::vec(
            prop_oneof![any::<u8>(), Just(b'\n'), Just(b'.'), Just(b'0'), Just(b' '), Just(b'(')],
            0..600,
        ),
    ) {
        fuzz(&log);
    }
}

#[test]
fn the_corpus_is_replayed() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/event_log");
    let mut count = 0;
    for entry in std::fs::read_dir(corpus).unwrap() {
        fuzz(&std::fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count >= 4);
}
