//! What a job's event log says about its life.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::report::{Ending, Phase, Span};

/// One event: its number, its time in Unix milliseconds, and its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    /// HTCondor's number of the kind.
    pub(super) number: u32,
    /// Unix milliseconds.
    pub(super) at: i64,
    /// First line, without number, job and time.
    pub(super) title: String,
    /// The further lines.
    pub(super) body: Vec<String>,
}

/// Numbers of events (HTCondor's manual, job event log).
const SUBMIT: u32 = 0;
const EXECUTE: u32 = 1;
const EVICTED: u32 = 4;
const TERMINATED: u32 = 5;
const ABORTED: u32 = 9;
const HELD: u32 = 12;
const TRANSFER: u32 = 40;

/// Reads a log; an event whose end is not there yet is left out.
pub(super) fn parse(text: &str) -> Vec<Event> {
    let mut events = Vec::new();
    let mut lines: Vec<&str> = Vec::new();
    for line in text.lines() {
        if line == "..." {
            events.extend(event(&lines));
            lines.clear();
        } else {
            lines.push(line);
        }
    }
    events
}

fn event(lines: &[&str]) -> Option<Event> {
    let (first, body) = lines.split_first()?;
    let (number, rest) = first.split_once(' ')?;
    let (_, rest) = rest.split_once(") ")?;
    // The date may stand apart from the time.
    let rest = rest.replacen('T', " ", 1);
    let mut words = rest.splitn(3, ' ');
    let date = format!("{}T{}", words.next()?, words.next()?.trim_end_matches('Z'));
    let title = words.next().unwrap_or_default().to_owned();
    let at: DateTime = date.parse().ok()?;
    Some(Event {
        number: number.parse().ok()?,
        at: at
            .to_zoned(TimeZone::UTC)
            .ok()?
            .timestamp()
            .as_millisecond(),
        title,
        body: body.iter().map(|line| line.trim().to_owned()).collect(),
    })
}

/// How far a job is, for the screen.
pub(super) fn state(events: &[Event]) -> &'static str {
    match events.last() {
        None => "sent",
        Some(event) => match event.number {
            SUBMIT => "waiting",
            EXECUTE => "running",
            TERMINATED => "done",
            ABORTED => "removed",
            HELD => "held",
            EVICTED => "waiting again",
            TRANSFER if returns(event) => "files come back",
            TRANSFER => "files go out",
            _ if events.iter().any(|event| event.number == EXECUTE) => "running",
            _ => "waiting",
        },
    }
}

/// True when nothing more will happen to the job without a person.
pub(super) fn is_over(events: &[Event]) -> bool {
    events
        .last()
        .is_some_and(|event| matches!(event.number, TERMINATED | ABORTED | HELD))
}

/// When the program began, in Unix milliseconds.
pub(super) fn began(events: &[Event]) -> Option<i64> {
    let execute = events.iter().find(|event| event.number == EXECUTE)?;
    Some(execute.at)
}

/// How it ended, and in words.
pub(super) fn result(events: &[Event]) -> (Ending, String) {
    let Some(last) = events
        .iter()
        .rev()
        .find(|event| is_over(std::slice::from_ref(event)))
    else {
        return (Ending::Open, "has not ended".to_owned());
    };
    match last.number {
        HELD => (Ending::Held, "held".to_owned()),
        ABORTED => (Ending::Removed, "removed by its user".to_owned()),
        _ => match exit(last) {
            Some(Exit::Code(0)) => (Ending::Good, "exit code 0".to_owned()),
            Some(Exit::Code(code)) => (Ending::Failed, format!("exit code {code}")),
            Some(Exit::Signal(signal)) => (Ending::Failed, format!("signal {signal}")),
            None => (Ending::Failed, last.title.clone()),
        },
    }
}

/// Why it is held, without the name of the machine that says so.
pub(super) fn reason(events: &[Event]) -> Option<String> {
    let held = events.last().filter(|event| event.number == HELD)?;
    let text = held.body.first()?;
    let without_sender = text
        .strip_prefix("Error from ")
        .and_then(|rest| rest.split_once(": "))
        .map_or(text.as_str(), |(_, reason)| reason);
    Some(without_sender.to_owned())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    Code(i32),
    Signal(i32),
}

fn exit(event: &Event) -> Option<Exit> {
    let after = |line: &str, words: &str| -> Option<i32> {
        let (_, rest) = line.split_once(words)?;
        rest.trim_end_matches(')').trim().parse().ok()
    };
    event.body.iter().find_map(|line| {
        after(line, "(return value ")
            .map(Exit::Code)
            .or_else(|| after(line, "(signal ").map(Exit::Signal))
    })
}

/// The parts of the job's life, in milliseconds since `start` (Unix milliseconds).
pub(super) fn spans(events: &[Event], start: i64) -> Vec<Span> {
    let mut spans = Vec::new();
    let mut open: Option<(Phase, i64)> = None;
    for event in events {
        let next = match event.number {
            SUBMIT | EVICTED => Some(Phase::Waiting),
            EXECUTE => Some(Phase::Running),
            TRANSFER if event.title.starts_with("Started") && returns(event) => {
                Some(Phase::Returning)
            }
            TRANSFER if event.title.starts_with("Started") => Some(Phase::Sending),
            TERMINATED | ABORTED | HELD => None,
            _ => continue,
        };
        if let Some((phase, from)) = open.take() {
            spans.push(span(phase, from, event.at, start));
        }
        open = next.map(|phase| (phase, event.at));
    }
    if let Some((phase, from)) = open {
        spans.push(span(phase, from, from, start));
    }
    spans
}

fn returns(event: &Event) -> bool {
    event.title.contains("output")
}

fn span(phase: Phase, from: i64, to: i64, start: i64) -> Span {
    let since = |time: i64| u64::try_from(time - start).unwrap_or(0);
    Span {
        phase,
        from: since(from),
        to: since(to),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "000 (001.000.000) 2026-11-25 18:00:00.250 Job submitted from host: <127.0.0.1:1>\n...\n\
        040 (001.000.000) 2026-11-25T18:00:02.000Z Started transferring input files\n\tTransferring to host: <x>\n...\n\
        001 (001.000.000) 2026-11-25 18:00:02.100 Job executing on host: <127.0.0.1:1>\n...\n\
        040 (001.000.000) 2026-11-25 18:00:04.100 Started transferring output files\n...\n\
        005 (001.000.000) 2026-11-25 18:00:04.200 Job terminated.\n\t(1) Normal termination (return value 7)\n...\n\
        013 (001.000.000) 2026-11-25 18:00:04.300 half an event\n";

    #[test]
    fn a_life_is_told_in_order() {
        let events = parse(LOG);
        assert_eq!(events.len(), 5);
        let start = events[0].at - 250;
        let spans = spans(&events, start);
        let told: Vec<_> = spans
            .iter()
            .map(|span| (span.phase, span.from, span.to))
            .collect();
        assert_eq!(
            told,
            [
                (Phase::Waiting, 250, 2000),
                (Phase::Sending, 2000, 2100),
                (Phase::Running, 2100, 4100),
                (Phase::Returning, 4100, 4200),
            ]
        );
        assert_eq!(result(&events), (Ending::Failed, "exit code 7".to_owned()));
        assert!(is_over(&events) && !is_over(&events[..4]));
        assert_eq!(state(&events[..3]), "running");
    }

    #[test]
    fn a_held_job_says_why() {
        let text = "012 (001.000.000) 2026-11-25 18:00:04.200 Job was held.\n\tError from slot1@a: bad: proxy\n\tCode 4 Subcode 0\n...\n";
        let events = parse(text);
        assert_eq!(result(&events), (Ending::Held, "held".to_owned()));
        assert_eq!(reason(&events).as_deref(), Some("bad: proxy"));
    }

    #[test]
    fn nonsense_is_no_event() {
        for text in [
            "...\n",
            "x\n...\n",
            "000 (1) never y\n...\n",
            "000 (1.0.0) 2026-99-25 18:00:00 x\n...\n",
        ] {
            assert_eq!(parse(text), []);
        }
    }
}
