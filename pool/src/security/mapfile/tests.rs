use condorconf::MemoryFiles;

use super::read::Reading;
use super::*;

fn read(text: &str, hash_keys: bool) -> Result<Reading, MapErrors> {
    let files = MemoryFiles::new()
        .file("/etc/map", text.as_bytes())
        .file("/etc/more", b"SSL /CN=more more@x\n")
        .file("/etc/map.d/20", b"SSL /CN=(.*) twenty\n")
        .file("/etc/map.d/10", b"SSL /CN=ten ten\n")
        .file("/etc/map.d/05~", b"SSL . old\n")
        .file("/etc/nested", b"@include more\n");
    MapFile::read(&files, "/etc/map", hash_keys, "site.org")
}

fn map(text: &str, hash_keys: bool, method: AuthMethod, name: &str) -> Option<String> {
    read(text, hash_keys).unwrap().map.map(method, name)
}

#[test]
fn the_first_line_that_fits_counts_and_patterns_are_not_anchored() {
    let text = "# people\n\nSSL \"^/DC=org/CN=(.*) (.*)$\" \\2.\\1@people\n\tssl /CN=Bob bob\nSSL CN=B other@x # a note\n";
    let ssl = |name| map(text, false, AuthMethod::Ssl, name);
    assert_eq!(ssl("/DC=org/CN=Ann Lee").as_deref(), Some("Lee.Ann@people"));
    assert_eq!(ssl("/DC=net/CN=Bob").as_deref(), Some("bob@site.org"));
    assert_eq!(ssl("/DC=net/CN=Ben").as_deref(), Some("other@x"));
    assert_eq!(ssl("/DC=net/CN=Zoe"), None);
    assert_eq!(map(text, false, AuthMethod::Fs, "/DC=net/CN=Bob"), None);
}

#[test]
fn with_hash_keys_names_are_literal_unless_between_slashes() {
    let text = "CLAIMTOBE alice a1\nCLAIMTOBE alice a2\nCLAIMTOBE /^ali(.*)$/i re-\\1\nCLAIMTOBE \"bob smith\" b\n\
                CLAIMTOBE alina later\nCLAIMTOBE /(x+)(x*)y/U \\1-\\2\n";
    let name = |name| map(text, true, AuthMethod::ClaimToBe, name);
    assert_eq!(name("alice").as_deref(), Some("a1@site.org"));
    assert_eq!(name("ALICE").as_deref(), Some("re-CE@site.org"));
    assert_eq!(
        name("alina").as_deref(),
        Some("re-na@site.org"),
        "the order of lines counts"
    );
    assert_eq!(name("bob smith").as_deref(), Some("b@site.org"));
    assert_eq!(name("bob"), None);
    assert_eq!(
        name("xxxy").as_deref(),
        Some("x-xx@site.org"),
        "U makes repetitions short"
    );
}

#[test]
fn backslashes_are_those_of_condor() {
    // Between slashes and quotes two backslashes are one; bare fields keep all.
    assert_eq!(
        map(r"SSL /a\/b\.c/ \0", true, AuthMethod::Ssl, "a/b.c").as_deref(),
        Some("a/b.c@site.org")
    );
    assert_eq!(
        map(r"SSL /a\/b\.c/ \0", true, AuthMethod::Ssl, "a/bxc"),
        None
    );
    assert_eq!(
        map(r#"SSL "a\\.b" \0"#, false, AuthMethod::Ssl, "axb"),
        None
    );
    assert_eq!(
        map(r#"SSL "say \"x\"" y"#, true, AuthMethod::Ssl, "say \"x\"").as_deref(),
        Some("y@site.org")
    );
    assert_eq!(
        map(r"SSL a(b)? \1-\2\x\", false, AuthMethod::Ssl, "ab").as_deref(),
        Some(r"b-\2\x\@site.org")
    );
    assert_eq!(
        map(r"SSL a(b)? <\1>", false, AuthMethod::Ssl, "a").as_deref(),
        Some(r"<\1>@site.org")
    );
    assert_eq!(
        map(r"SSL a(b)?(c) <\1\2>", false, AuthMethod::Ssl, "ac").as_deref(),
        Some("<c>@site.org")
    );
}

#[test]
fn files_and_directories_are_included_one_level_deep() {
    let text = "@include more\n@include /etc/map.d\n";
    let ssl = |name| map(text, false, AuthMethod::Ssl, name);
    assert_eq!(ssl("/CN=more").as_deref(), Some("more@x"));
    assert_eq!(ssl("/CN=ten").as_deref(), Some("ten@site.org"));
    assert_eq!(ssl("/CN=else").as_deref(), Some("twenty@site.org"));
    let nested = read("@include nested", false).unwrap_err();
    assert_eq!(
        nested.to_string(),
        "/etc/nested:1: a file that is included cannot include others"
    );
    let missing = read("@include gone", false).unwrap_err().to_string();
    assert!(
        missing.starts_with("/etc/gone: cannot be read"),
        "{missing}"
    );
}

#[test]
fn every_mistake_is_told_with_its_line() {
    let text = "SSL\nSSL a\nSSL \"a b\nSSL (?=x)y z\nSSL (a)\\1 z\nSSL a b c\nIDTOKENS .* x\n@includes x\n@include\nSSL good x\n";
    let errors = read(text, false).unwrap_err();
    let lines: Vec<_> = errors.0.iter().map(|error| error.line.unwrap()).collect();
    assert_eq!(lines, [1, 2, 3, 4, 5, 6, 8, 9], "{errors}");
    assert!(
        errors.to_string().contains("/etc/map:4: \"(?=x)y\""),
        "{errors}"
    );
    let odd = read("IDTOKENS .* x@y\nKERBEROS a b\nWHATEVER a b\n", false).unwrap();
    assert_eq!(odd.warnings.len(), 3, "{:?}", odd.warnings);
    assert!(
        odd.warnings[0].starts_with("/etc/map:1: IDTOKENS"),
        "{:?}",
        odd.warnings
    );
}

#[test]
fn names_become_whom_a_real_collector_makes_of_them() {
    let patterns = include_bytes!("../../../tests/data/mapfile/patterns");
    let literals = include_bytes!("../../../tests/data/mapfile/literals");
    let more = include_bytes!("../../../tests/data/mapfile/more");
    let files = MemoryFiles::new()
        .file("/map/patterns", patterns)
        .file("/map/literals", literals)
        .file("/map/more", more);
    let verdicts = include_str!("../../../tests/data/mapfile/verdicts");
    let mut count = 0;
    for line in verdicts.lines().filter(|line| !line.starts_with('#')) {
        let mut fields = line.split('\t');
        let mut next = || fields.next().unwrap();
        let (map, name, identity) = (next(), next(), next());
        let path = format!("/map/{map}");
        let domain = "mapfile.sailplane.test";
        let reading = MapFile::read(&files, &path, map == "literals", domain).unwrap();
        let ours = reading.map.map(AuthMethod::ClaimToBe, name);
        // What is not mapped stays as it was claimed.
        assert_eq!(ours.as_deref().unwrap_or(name), identity, "{map} {name}");
        count += 1;
    }
    assert_eq!(count, 37);
}

#[test]
fn the_fuzz_corpus_does_no_harm() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/pool_mapfile");
    let mut count = 0;
    for entry in std::fs::read_dir(corpus).unwrap() {
        fuzzing::fuzz_pool_mapfile(&std::fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count >= 3);
}

proptest::proptest! {
    #[test]
    fn no_text_does_harm(
        bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
        words in proptest::collection::vec(r#"(SSL|CLAIMTOBE|@include|map|dir|#|"|/|/iU|\\\\|[()|*+?.a\[\]{}^$]|\\1| |\t|\n)"#, 0..60),
    ) {
        fuzzing::fuzz_pool_mapfile(&bytes);
        fuzzing::fuzz_pool_mapfile(words.concat().as_bytes());
    }
}
