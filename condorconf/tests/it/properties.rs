//! Properties that hold for any input.

use condorconf::{Loader, MemoryFiles, fuzzing};
use proptest::prelude::*;

/// Text in which the language's own words and characters are frequent.
fn soup() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        4 => "[A-C]",
        2 => Just("$(A)".to_owned()),
        2 => Just("$(B:".to_owned()),
        2 => prop::sample::select(vec![
            "$INT(", "$REAL(", "$SUBSTR(", "$CHOICE(", "$Fpnq(", "$ENV(", "$RANDOM_INTEGER(", "$EVAL(", "$STRING(", "$$(",
            "$(DOLLAR)", "$(", ")", ",", "\\", "#", "@", "@=", "\"", "'", "/", ".", "%", "%5d", "1", "-2", "9e9",
        ]).prop_map(str::to_owned),
        3 => prop::sample::select(vec![" ", "\n", "\n", " = ", " : "]).prop_map(str::to_owned),
        1 => prop::sample::select(vec![
            "if ", "elif ", "else\n", "endif\n", "defined ", "version >= 8.9\n", "include : self\n", "use SECURITY : Strong\n",
            "STARTD.", "local.", "error : ", "warning : ", "LOCAL_CONFIG_DIR = dir\n", "#opt:oldcomment\n", "@end\n",
        ]).prop_map(str::to_owned),
        1 => "[äß€\\x01-\\x1f]",
    ];
    prop::collection::vec(word, 0..60).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn nothing_panics_and_everything_ends(text in soup()) {
        fuzzing::fuzz_condor_config(text.as_bytes());
    }

    #[test]
    fn a_plain_value_is_kept(name in "[A-Za-z_][A-Za-z0-9_.]{0,20}", value in "[!#-?A-\\[\\]-~][ -#%-?A-\\[\\]-~]{0,40}") {
        let lower = name.to_ascii_lowercase();
        prop_assume!(!["if", "elif", "else", "endif"].contains(&lower.as_str()));
        let value = value.replace('$', "s");
        let files = MemoryFiles::new();
        let text = format!("{name} = {value}\n");
        let config = Loader::new(&files).read_text("test", &text).finish().unwrap();
        let expected = value.trim();
        prop_assert_eq!(config.get(&lower).unwrap().unwrap_or_default(), expected);
    }

    #[test]
    fn continuation_joins_what_was_cut(parts in prop::collection::vec("[a-z]{1,8}", 1..6)) {
        let files = MemoryFiles::new();
        let text = format!("A = {}\n", parts.join("\\\n   "));
        let config = Loader::new(&files).read_text("test", &text).finish().unwrap();
        prop_assert_eq!(config.get("A").unwrap().unwrap(), parts.concat());
    }

    #[test]
    fn a_reference_is_its_value_wherever_it_stands(before in "[a-z ]{0,5}", value in "[a-z]{1,9}", after in "[a-z]{0,5}") {
        let files = MemoryFiles::new();
        let text = format!("A = x{before}$(V){after}\nB = x$(NONE:{value}){after}\nV = {value}\n");
        let config = Loader::new(&files).read_text("test", &text).finish().unwrap();
        prop_assert_eq!(config.get("A").unwrap().unwrap(), format!("x{before}{value}{after}"));
        prop_assert_eq!(config.get("B").unwrap().unwrap(), format!("x{value}{after}"));
    }
}

#[test]
fn the_corpus_of_the_fuzzer_is_read() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/condor_config");
    let mut count = 0;
    for entry in std::fs::read_dir(corpus).unwrap() {
        fuzzing::fuzz_condor_config(&std::fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count > 0);
}
