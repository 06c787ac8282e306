//! What the set-uid program hands to `sailplane-glexec` when it becomes that: words and variables of the one-shot
//! form.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

/// Has the set-uid program been called by gLExec's name, or with a command? Then this form is meant.
pub fn is_meant(words: &[OsString]) -> bool {
    let name = words.first().map(Path::new).and_then(Path::file_name);
    name.is_some_and(|name| name == "glexec") || has_command(words)
}

/// Is there a command among the words?
pub fn has_command(words: &[OsString]) -> bool {
    let words: Vec<_> = words.iter().map(|word| word.as_bytes()).collect();
    matches!(words.as_slice(), [_, b"--", _, ..])
        || matches!(words.as_slice(), [_, word, ..] if !word.starts_with(b"-"))
}

/// The command line: its name, the state ("broker" and nothing, or a stable code and a sentence that says why there can
/// be none), then the caller's own words.
pub fn words((state, sentence): (&str, &str), callers: &[OsString]) -> Vec<OsString> {
    let own = ["sailplane-glexec", state, sentence].map(OsString::from);
    own.into_iter().chain(callers.iter().cloned()).collect()
}

/// Variables with which loader, C library or runtime would do more than run the front.
const DANGEROUS: [&[u8]; 5] = [
    b"LD_",
    b"MALLOC_",
    b"GCONV_PATH",
    b"GLIBC_TUNABLES",
    b"RUST_",
];

/// The caller's environment without those, `NAME=value` each.
pub fn harmless(environment: &[(OsString, OsString)]) -> impl Iterator<Item = OsString> {
    environment.iter().filter_map(|(name, value)| {
        let bytes = name.as_bytes();
        let harmless = !DANGEROUS.iter().any(|bad| bytes.starts_with(bad));
        harmless.then(|| OsString::from_vec([bytes, b"=", value.as_bytes()].concat()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g1_a_command_is_told_from_an_option() {
        let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        for (line, meant, command) in [
            ("/usr/sbin/glexec", true, false),
            ("glexec -V", true, false),
            ("glexec /bin/id", true, true),
            ("sailplane-switch /bin/id", true, true),
            ("sailplane-switch -- -x", true, true),
            ("sailplane-switch --", false, false),
            ("sailplane-switch --broker", false, false),
            ("sailplane-switch", false, false),
        ] {
            assert_eq!(is_meant(&words(line)), meant, "{line}");
            assert_eq!(has_command(&words(line)), command, "{line}");
        }
        assert!(!is_meant(&[]) && !has_command(&[]));
    }

    #[test]
    fn the_callers_words_stay_behind_ours() {
        let callers = ["glexec".into(), "broker".into()];
        let all = words(("startup.setuid", "it must"), &callers);
        let wanted = [
            "sailplane-glexec",
            "startup.setuid",
            "it must",
            "glexec",
            "broker",
        ];
        assert_eq!(all, wanted);
    }

    #[test]
    fn s1_what_the_loader_would_read_stays_behind() {
        let names = [
            "LD_PRELOAD",
            "MALLOC_CHECK_",
            "GCONV_PATH",
            "GLIBC_TUNABLES",
            "RUST_BACKTRACE",
        ];
        let mut environment: Vec<_> = names.map(|name| (name.into(), "x".into())).into();
        environment.push(("GLEXEC_CLIENT_CERT".into(), "/a=b".into()));
        let kept: Vec<_> = harmless(&environment).collect();
        assert_eq!(kept, ["GLEXEC_CLIENT_CERT=/a=b"]);
    }
}
