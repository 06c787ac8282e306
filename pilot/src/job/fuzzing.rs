//! Entry points for the fuzzer: texts that a job's owner wrote, and what a shadow sends.

use cedar::{Coding, MessageReader};
use classad::ClassAd;

use super::arguments::{
    environment_quoted, environment_v1, environment_v2, join_v2, split_v1, split_v2,
};
use super::service_credentials::{self, Sent};

/// Arguments and environment in all their forms.
///
/// # Panics
/// When joining and splitting are not inverse to each other: that is what the fuzzer looks for.
pub fn fuzz_job_args_env(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(tokens) = split_v2(&text) {
        assert_eq!(split_v2(&join_v2(&tokens)), Ok(tokens));
    }
    if let Ok(tokens) = split_v1(&text) {
        assert!(tokens.iter().all(|token| !token.is_empty()));
    }
    if let Ok(variables) = environment_v2(&text) {
        let joined = join_v2(
            variables
                .iter()
                .map(|(name, value)| format!("{name}={value}")),
        );
        assert_eq!(environment_v2(&joined), Ok(variables));
    }
    for delimiter in [';', '|'] {
        if let Ok(variables) = environment_v1(&text, delimiter) {
            assert!(variables.iter().all(|(name, _)| !name.is_empty()));
        }
    }
    if let Ok(variables) = environment_quoted(&text) {
        assert!(
            variables
                .iter()
                .all(|(name, _)| !name.is_empty() && !name.contains('='))
        );
    }
}

/// `OAuthServicesNeeded`, and the shadow's answer to the request for the credentials it names.
///
/// # Panics
/// When a service's file is not beneath the directory of credentials.
pub fn fuzz_service_credentials(data: &[u8]) {
    let mut ad = ClassAd::new();
    ad.insert(
        "OAuthServicesNeeded",
        String::from_utf8_lossy(data).as_ref(),
    );
    if let Ok(services) = service_credentials::needed(&ad) {
        for service in services {
            let path = service.file();
            assert!(path.starts_with(service_credentials::DIRECTORY));
            assert_eq!(path.components().count(), 2, "{}", path.display());
        }
    }
    for coding in [Coding::Plain, Coding::Encrypted] {
        if let Ok(Sent::Credentials(sent)) =
            service_credentials::read(MessageReader::new(coding, data))
        {
            assert!(sent.iter().all(|credential| !credential.content.is_empty()));
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::Path;

    /// Runs an entry point over the seeds kept beside the fuzz targets.
    pub(crate) fn for_each_seed(target: &str, run: fn(&[u8])) {
        let seeds = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../fuzz/corpus")
            .join(target);
        let mut count = 0;
        for seed in
            std::fs::read_dir(&seeds).unwrap_or_else(|error| panic!("{}: {error}", seeds.display()))
        {
            run(&std::fs::read(seed.unwrap().path()).unwrap());
            count += 1;
        }
        assert!(count > 0, "no seeds in {}", seeds.display());
    }

    #[test]
    fn the_corpus_passes() {
        for_each_seed("job_args_env", super::fuzz_job_args_env);
        for_each_seed("service_credentials", super::fuzz_service_credentials);
    }
}
