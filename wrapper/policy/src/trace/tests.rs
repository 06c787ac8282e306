use jiff::tz::TimeZone;

use super::*;

const LOG: &str = r#"{"time":1000.5,"event":"start","verdict":"accepted"}
{"time":1010.1,"event":"open","verdict":"accepted","caller_uid":2000,"caller":"pilot","job":"1.0","identity":"/CN=Alice","fqans":["/atlas/Role=x"],"expires":9000,"account":"uid300001","uid":300001,"gids":[300001],"source":"dynamic_uids","request":"77.1"}
{"time":1020.0,"event":"open","verdict":"refused","caller_uid":2000,"caller":"pilot","job":"2.0","identity":"/CN=Eve","code":"ban.dn","reason":"banned (\u001b[2J)"}
this is no audit line
{"time":1030.0,"event":"close","request":"77.1","job":"1.0","uid":300001,"outcome":"clean"}
{"time":1040.0,"event":"open","verdict":"accepted","caller_uid":2000,"caller":"pilot","job":"3.0","identity":"/CN=Bob\/x","account":"uid300001","uid":300001,"request":"77.2"}
{"time":1060.0,"event":"open","verdict":"accepted","caller_uid":2000,"caller":"pilot","job":"4.0","identity":"/CN=Alice","account":"uid300001","uid":300001,"request":"78.1"}
{"time":1070.0,"event":"open","verdict":"accepted","caller_uid":2000,"caller":"pilot","job":"5.0","identity":"/CN=Alice","account":"alice","uid":5001,"request":"78.2"}
{"time":1071.0,"event":"open","verdict":"accepted","caller_uid":2000,"caller":"pilot","job":"6.0","identity":"/CN=Alice","account":"alice","uid":5001,"request":"78.3"}
"#;

fn jobs(words: &[&str]) -> Vec<String> {
    let mut history = History::default();
    history.read(LOG.as_bytes());
    assert_eq!(history.strange, 1);
    let query = Query::parse(words).expect("a query");
    history
        .find(&query)
        .into_iter()
        .map(|run| run.job.clone())
        .collect()
}

#[test]
fn m9_who_was_this_uid_at_that_time() {
    for (time, wanted) in [
        ("1009", &[][..]),
        ("1010", &["1.0"]),
        ("@1030", &["1.0"]),
        ("1035", &[]),
        ("1970-01-01T00:17:25Z", &["3.0"]),
        // No end is recorded, but the number was given to another.
        ("1059", &["3.0"]),
        ("1061", &["4.0"]),
        ("5000", &["4.0"]),
    ] {
        assert_eq!(jobs(&["--uid", "300001", "--at", time]), wanted, "{time}");
    }
    assert_eq!(jobs(&["--uid", "5001", "--at", "2000"]), ["5.0", "6.0"]);
}

#[test]
fn m9_what_did_this_name_run() {
    assert_eq!(jobs(&["--dn", "/CN=Alice"]), ["1.0", "4.0", "5.0", "6.0"]);
    assert_eq!(jobs(&["--dn", "/CN=Bob/x"]), ["3.0"]);
    assert_eq!(jobs(&["--dn", "/CN=E*"]), ["2.0"]);
    assert_eq!(jobs(&["--account", "alice"]), ["5.0", "6.0"]);
    assert_eq!(jobs(&["--job", "3.0"]), ["3.0"]);
}

#[test]
fn the_table_is_for_people() {
    let mut history = History::default();
    history.read(LOG.as_bytes());
    let query = Query::parse(&["--at", "1010"]).expect("a query");
    assert_eq!(
        output::table(&history.find(&query), &TimeZone::UTC),
        "\
FROM                 TO                   UID     ACCOUNT    JOB  WHO
1970-01-01 00:16:50  1970-01-01 00:17:10  300001  uid300001  1.0  /CN=Alice
                                                                  called by pilot (uid 2000)
                                                                  attributes /atlas/Role=x
                                                                  mapped by dynamic_uids
"
    );
    let query = Query::parse(&["--dn", "/CN=Eve"]).expect("a query");
    let table = output::table(&history.find(&query), &TimeZone::UTC);
    assert!(table.contains("refused: ban.dn: banned (?[2J)"), "{table}");
}

#[test]
fn questions_that_cannot_be_answered() {
    for bad in [
        &[][..],
        &["--uid"],
        &["--uid", "x"],
        &["--uid", "-1"],
        &["--at", "yesterday"],
        &["--format", "json"],
        &["--format", "xml", "--uid", "1"],
        &["--who", "me"],
        &["--dn", "["],
    ] {
        assert!(Query::parse(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn any_bytes_are_a_log() {
    let mut history = History::default();
    history.read(b"\xff\xfe\n{}\n[]\n{\"time\":\"x\"}\n{\"event\":\"open\"}\n{\"time\":1e999}\n");
    let query = Query::parse(&["--uid", "1"]).expect("a query");
    assert!(history.find(&query).is_empty());
}
