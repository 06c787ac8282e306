//! Entry for the fuzzer.

use std::collections::BTreeMap;
use std::io;

use super::{Banner, FileStat, SubmitContext, SubmitFiles, parse};

/// A world with one file.
struct OneFile;

impl SubmitFiles for OneFile {
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        match path {
            "/home/items" => Ok(b"a 1\nb, 2\n\n# c\n".to_vec()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }
    fn head(&self, path: &str, bytes: usize) -> io::Result<Vec<u8>> {
        let mut content = self.read(path)?;
        content.truncate(bytes);
        Ok(content)
    }
    fn run(&self, _argv: &[String]) -> io::Result<Vec<u8>> {
        Ok(b"x = 1\ny\n".to_vec())
    }
    fn list(&self, _path: &str) -> io::Result<Vec<(String, bool)>> {
        Ok(vec![("items".to_owned(), false), ("d".to_owned(), true)])
    }
    fn stat(&self, path: &str) -> io::Result<FileStat> {
        Ok(FileStat {
            size: 10,
            is_dir: path.ends_with("/d"),
            executable: true,
            readable: true,
        })
    }
}

/// Reads `data` as a submit file; the ads that come out can be printed and read again.
pub fn fuzz_submit(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let mut knobs = SubmitContext::default_knobs();
    knobs.insert("SUBMIT_MAX_PROCS_IN_CLUSTER".to_owned(), "20".to_owned());
    let context = SubmitContext {
        cluster: 7,
        cwd: "/home".to_owned(),
        owner: "alice".to_owned(),
        uid: 1000,
        uid_domain: "example.org".to_owned(),
        environment: BTreeMap::from([("HOME".to_owned(), "/home".to_owned())]),
        now: 1_790_000_000,
        utc_offset: 3600,
        seed: 1,
        banner: Banner {
            version: "$CondorVersion: 23.9.6 x $".to_owned(),
            platform: "$CondorPlatform: x $".to_owned(),
        },
        knobs,
        assignments: Vec::new(),
        appended: Vec::new(),
        queue: None,
        check_files: true,
    };
    match parse(text, "fuzz.sub", &context, &OneFile) {
        Ok(submission) => {
            assert!(!submission.procs.is_empty());
            let printed = submission.cluster.to_old();
            assert!(
                classad::ClassAd::parse_old(&printed).is_ok(),
                "the ad cannot be read again:\n{printed}"
            );
        }
        Err(errors) => assert!(!errors.0.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_corpus_of_the_fuzzer_is_read() {
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/pool_submit");
        let mut seen = 0;
        for entry in std::fs::read_dir(corpus).unwrap() {
            super::fuzz_submit(&std::fs::read(entry.unwrap().path()).unwrap());
            seen += 1;
        }
        assert!(seen >= 30, "{seen}");
    }

    /// Pieces of all seeds thrown together, the same ones each time.
    #[test]
    fn seeds_cut_and_mixed_are_read() {
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/pool_submit");
        let mut seeds: Vec<Vec<u8>> = std::fs::read_dir(corpus)
            .unwrap()
            .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
            .collect();
        seeds.sort();
        let mut state = 1_u64;
        let mut next = |below: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            usize::try_from(state >> 33).unwrap() % below.max(1)
        };
        for _ in 0..1500 {
            let mut text = Vec::new();
            for _ in 0..=next(4) {
                let seed = &seeds[next(seeds.len())];
                let from = next(seed.len());
                let to = from + next(seed.len() - from + 1);
                text.extend_from_slice(&seed[from..to]);
                if next(3) == 0 {
                    let odd = b"$()[]{}\"'\\:=@#\n,|*?";
                    text.push(odd[next(odd.len())]);
                }
            }
            super::fuzz_submit(&text);
        }
    }
}
