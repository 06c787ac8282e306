//! Which good tokens are not accepted all the same: `SEC_TOKEN_REVOCATION_EXPR` and `SEC_TOKEN_MAX_AGE`.

use cedar::security::token::{TokenClaims, TokenRule};
use classad::{ClassAd, EvalContext, Expr, Value};

use super::error::Problem;
use super::knobs::Knobs;

/// The checks beyond signature, dates and issuer.
#[derive(Debug, Clone, Default)]
pub(super) struct Revocation {
    expression: Option<Expr>,
    max_age: Option<i64>,
}

impl Revocation {
    pub(super) fn load(knobs: &mut Knobs<'_>) -> Self {
        let found = knobs.first(&["SEC_TOKEN_REVOCATION_EXPR", "SEC_TOKEN_BLACKLIST_EXPR"]);
        let expression = found.and_then(|found| match Expr::parse_old(&found.value) {
            Ok(expression) => Some(expression),
            Err(cause) => {
                let text = found.value.clone();
                knobs.fail(&found, Problem::Expression { text, cause });
                None
            }
        });
        Self {
            expression,
            // -1 is HTCondor's way to say that age does not matter.
            max_age: knobs
                .integer("SEC_TOKEN_MAX_AGE", -1..=i64::from(i32::MAX))
                .filter(|age| *age >= 0),
        }
    }
}

impl TokenRule for Revocation {
    fn check(&self, claims: &TokenClaims, now: i64) -> Result<(), String> {
        if let (Some(max), Some(issued)) = (self.max_age, claims.issued_at) {
            let age = now.saturating_sub(issued);
            if age > max {
                return Err(format!(
                    "the token is {age} s old, and SEC_TOKEN_MAX_AGE is {max}"
                ));
            }
        }
        let Some(expression) = &self.expression else {
            return Ok(());
        };
        let revoked = match EvalContext::new()
            .my(&as_ad(claims))
            .now(now)
            .eval(expression)
        {
            Value::Boolean(revoked) => revoked,
            Value::Integer(number) => number != 0,
            Value::Real(number) => number != 0.0,
            // What cannot be decided is better refused (`htcondor:src/condor_io/condor_auth_passwd.cpp`,
            // `isTokenRevoked`).
            other => {
                let other = Expr::literal(other).to_new();
                return Err(format!(
                    "SEC_TOKEN_REVOCATION_EXPR is {other} for the token {}, which counts as revoked",
                    name(claims)
                ));
            }
        };
        if revoked {
            return Err(format!(
                "the token {} is revoked by SEC_TOKEN_REVOCATION_EXPR",
                name(claims)
            ));
        }
        Ok(())
    }
}

fn name(claims: &TokenClaims) -> String {
    claims.id.as_ref().map_or_else(
        || format!("of {}", claims.subject),
        |id| format!("{id} of {}", claims.subject),
    )
}

/// The claims as attributes, under their own names.
fn as_ad(claims: &TokenClaims) -> ClassAd {
    let mut ad = ClassAd::new();
    ad.insert("iss", claims.issuer.as_str());
    ad.insert("sub", claims.subject.as_str());
    if let Some(id) = &claims.id {
        ad.insert("jti", id.as_str());
    }
    if let Some(scopes) = &claims.scopes {
        ad.insert("scope", scopes.as_str());
    }
    let dates = [
        ("iat", claims.issued_at),
        ("nbf", claims.not_before),
        ("exp", claims.expires),
    ];
    for (name, date) in dates {
        if let Some(date) = date {
            ad.insert(name, date);
        }
    }
    ad
}

#[cfg(test)]
mod tests {
    use cedar::security::token::Token;
    use condorconf::{Loader, MemoryFiles};

    use super::*;

    fn rule(text: &str) -> Revocation {
        let files = MemoryFiles::new();
        let config = Loader::new(&files)
            .read_text("pool.conf", text)
            .finish()
            .unwrap();
        let mut knobs = Knobs::new(&config);
        let rule = Revocation::load(&mut knobs);
        knobs.finish().unwrap();
        rule
    }

    fn claims() -> TokenClaims {
        let mut keys = cedar::security::token::SigningKeys::new();
        keys.add_file("POOL", b"key").unwrap();
        let payload = r#"{"iss":"x.org","sub":"alice@x.org","iat":1000,"jti":"abc"}"#;
        let token = keys.issue("POOL", payload).unwrap().unwrap();
        Token::parse(&token).unwrap().claims().clone()
    }

    #[test]
    fn the_expression_sees_the_claims_and_doubt_means_revoked() {
        let cases = [
            ("", true),
            ("jti == \"abc\"", false),
            ("jti == \"abd\"", true),
            ("sub == \"alice@x.org\" && iat <= 1000", false),
            ("sub == \"alice@x.org\" && iat < 1000", true),
            ("exp < 5", false),
            ("exp =?= undefined", false),
            ("isUndefined(jti)", true),
            ("\"yes\"", false),
            ("0", true),
            ("1", false),
        ];
        for (expression, good) in cases {
            let rule = rule(&format!("SEC_TOKEN_REVOCATION_EXPR = {expression}"));
            assert_eq!(rule.check(&claims(), 2000).is_ok(), good, "{expression}");
        }
    }

    #[test]
    fn old_tokens_are_refused_if_age_matters() {
        let rule = rule("SEC_TOKEN_MAX_AGE = 500");
        assert!(rule.check(&claims(), 1500).is_ok());
        let why = rule.check(&claims(), 1501).unwrap_err();
        assert!(
            why.contains("501 s") && why.contains("SEC_TOKEN_MAX_AGE"),
            "{why}"
        );
        assert!(Revocation::default().check(&claims(), i64::MAX).is_ok());
    }
}
