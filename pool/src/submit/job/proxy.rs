//! The user's proxy certificate and token.

use openssl::nid::Nid;
use openssl::x509::{X509, X509NameRef};

use super::Job;
use crate::submit::path::absolute;

/// What a job ad tells of a proxy.
#[derive(Debug, PartialEq, Eq)]
struct Facts {
    /// When the first of its certificates ends, seconds since 1970.
    ends: i64,
    /// Whose it is: the subject of the certificate below the proxies, `/C=../CN=..`.
    subject: String,
    /// The mail address in that certificate.
    email: Option<String>,
}

impl Job<'_, '_> {
    pub(super) fn proxy(&mut self) {
        let name = self.present("x509userproxy", "X509UserProxy");
        let mut file = self.get(name);
        if file.is_none() && self.flag("use_x509userproxy", None, false) {
            let context = self.context();
            file = Some(
                context
                    .environment
                    .get("X509_USER_PROXY")
                    .cloned()
                    .unwrap_or_else(|| format!("/tmp/x509up_u{}", context.uid)),
            );
        }
        if let Some(file) = file {
            let path = self.full_path(&file);
            if self.context().check_files {
                self.read_proxy(name, &path);
            }
            self.set("x509userproxy", path.as_str());
        }
        if let Some(seconds) = self.integer(
            "delegate_job_gsi_credentials_lifetime",
            "DelegateJobGSICredentialsLifetime",
        ) {
            self.set("DelegateJobGSICredentialsLifetime", seconds);
        }
        self.token();
    }

    fn read_proxy(&mut self, name: &'static str, path: &str) {
        let facts = self
            .reader
            .files
            .read(path)
            .map_err(|error| error.to_string())
            .and_then(|pem| facts(&pem));
        let facts = match facts {
            Ok(facts) => facts,
            Err(why) => {
                self.fail(
                    name,
                    format!("{name}: expected a proxy certificate at {path}: {why}"),
                );
                return;
            }
        };
        let left = facts.ends.saturating_sub(self.context().now);
        let least = self
            .context()
            .knob("CRED_MIN_TIME_LEFT")
            .and_then(|text| self.macros().integer(text))
            .unwrap_or(0);
        if left < 0 {
            self.fail(
                name,
                format!("{name}: the proxy at {path} has ended; make a new one with grid-proxy-init or voms-proxy-init"),
            );
        } else if left < least {
            self.fail(
                name,
                format!("{name}: the proxy at {path} ends in {left} s, expected at least {least} s (CRED_MIN_TIME_LEFT)"),
            );
        }
        self.set("x509UserProxyExpiration", facts.ends);
        self.set("x509userproxysubject", facts.subject.as_str());
        if let Some(email) = &facts.email {
            self.set("x509UserProxyEmail", email.as_str());
        }
    }

    /// `scitokens_file` and `use_scitokens`.
    fn token(&mut self) {
        let name = self.present("use_scitokens", "use_scitoken");
        let file_name = self.present("scitokens_file", "ScitokensFile");
        let file = self.get(file_name);
        let around = self
            .context()
            .environment
            .get("BEARER_TOKEN_FILE")
            .filter(|file| !file.is_empty())
            .cloned();
        let wanted = match self.get(name) {
            None => file.is_some(),
            Some(text) if text.eq_ignore_ascii_case("auto") => file.is_some() || around.is_some(),
            Some(text) => match self.macros().boolean(&text) {
                Some(wanted) => wanted,
                None => {
                    self.fail(
                        name,
                        format!("{name} = {text}: expected true, false or auto"),
                    );
                    return;
                }
            },
        };
        if !wanted {
            return;
        }
        match file.or(around) {
            Some(file) => {
                let path = absolute(&self.iwd, &file);
                self.set("ScitokensFile", path.as_str());
            }
            None => self.fail(
                name,
                format!("{name}: expected scitokens_file = FILE, or BEARER_TOKEN_FILE in the environment"),
            ),
        }
    }
}

/// Reads a proxy in PEM, without checking a signature: the schedd and the execute side verify it.
fn facts(pem: &[u8]) -> Result<Facts, String> {
    let ends = credential::earliest_end(pem).map_err(|error| error.to_string())?;
    let chain = X509::stack_from_pem(pem).map_err(|_| "it holds no certificate".to_owned())?;
    let names: Vec<(String, String)> = chain
        .iter()
        .map(|cert| (slashed(cert.subject_name()), slashed(cert.issuer_name())))
        .collect();
    // A proxy's name is its issuer's with one more CN; the first certificate that is not made so is the user's.
    let user = names
        .iter()
        .position(|(subject, issuer)| {
            !subject
                .strip_prefix(issuer.as_str())
                .is_some_and(|more| more.starts_with("/CN="))
        })
        .or_else(|| names.len().checked_sub(1))
        .ok_or("it holds no certificate")?;
    let subject = match names.get(user) {
        Some((subject, _)) => subject.clone(),
        None => return Err("it holds no certificate".to_owned()),
    };
    let email = chain.get(user).and_then(mail);
    Ok(Facts {
        ends,
        subject,
        email,
    })
}

/// The address in the certificate's name, else in its alternative names.
fn mail(cert: &X509) -> Option<String> {
    let named = cert
        .subject_name()
        .entries_by_nid(Nid::PKCS9_EMAILADDRESS)
        .next()
        .and_then(|entry| entry.data().to_string().ok());
    named.or_else(|| {
        cert.subject_alt_names()?
            .iter()
            .find_map(|name| name.email().map(str::to_owned))
    })
}

/// A name as grid software writes it.
fn slashed(name: &X509NameRef) -> String {
    let mut text = String::new();
    for entry in name.entries() {
        let label = entry.object().nid().short_name().unwrap_or("UNKNOWN");
        let value = entry.data().to_string().unwrap_or_default();
        text.push_str(&format!("/{label}={value}"));
    }
    text
}
