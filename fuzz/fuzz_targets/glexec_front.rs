#![no_main]
//! What a caller of gLExec writes: its words, variables, and a wrapped environment.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use libfuzzer_sys::fuzz_target;
use sailplane_glexec::{environment, settings::Settings, variables, words, wrap};

fuzz_target!(|data: &[u8]| {
    let Some((kind, rest)) = data.split_first() else {
        return;
    };
    let parts = || {
        rest.split(|byte| *byte == 0)
            .map(|part| OsStr::from_bytes(part).to_owned())
    };
    match kind % 4 {
        0 => {
            if let Ok(mut found) = wrap::unwrap(rest, &[]) {
                // A wrapped environment is not wrapped again.
                found.retain(|(name, _)| name != "GLEXEC_ENV");
                // What comes out goes in again.
                let pairs = found
                    .iter()
                    .map(|(name, value)| (name.as_os_str(), value.as_os_str()));
                let again = wrap::wrap(pairs, &[]).expect("memory");
                let twice = wrap::unwrap(again.as_bytes(), &[]).expect("our own");
                assert_eq!(twice, found);
            }
        }
        1 => {
            let _ = words::read(&parts().collect::<Vec<_>>());
        }
        2 => {
            let list: Vec<OsString> = parts().collect();
            let pairs: Vec<_> = list
                .chunks(2)
                .map(|pair| (pair[0].clone(), pair.last().expect("one").clone()))
                .collect();
            let _ = variables::read(&pairs);
            for (name, _) in &pairs {
                let bytes = name.as_bytes();
                if environment::may_pass(name) {
                    assert!(
                        !bytes.starts_with(b"LD_")
                            && !bytes.contains(&b'=')
                            && bytes != b"IFS"
                            && bytes != b"BASH_ENV"
                    );
                }
            }
        }
        _ => {
            let text = String::from_utf8_lossy(rest).into_owned();
            let lines: Vec<String> = text.lines().map(str::to_owned).collect();
            let (keep, own) = lines.split_at(lines.len() / 2);
            let _ = Settings::parse(true, keep, own);
        }
    }
});
