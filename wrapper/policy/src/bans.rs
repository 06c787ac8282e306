//! Ban lists: who may not run anything, whatever the maps say.
//!
//! A line is a word and a pattern: `dn "/DC=org/CN=Eve*"`, `fqan "/vo/Role=*"`, `ca "/DC=org/CN=CA"`,
//! `token "https://issuer,subject"` (or `"https://issuer,/group"`), `issuer "https://issuer"`. A line
//! that is only a name is a `dn`. Where there is a doubt, the ban counts.

use launch_protocol::policy::{CredentialKind, Party};

use crate::dn::{Likeness, Name};
use crate::fqan::{FqanPattern, spellings};
use crate::lines::{self, LineError};
use crate::pattern::Pattern;

/// A ban list, taken apart.
#[derive(Debug)]
pub(crate) struct Bans(Vec<Rule>);

#[derive(Debug)]
struct Rule {
    line: usize,
    whom: Whom,
}

#[derive(Debug)]
enum Whom {
    Dn(Name, Pattern),
    Ca(Name, Pattern),
    Fqan(FqanPattern),
    Token(Pattern),
    Issuer(Pattern),
}

/// Which line bans somebody, and by what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ban {
    pub(crate) line: usize,
    pub(crate) by: &'static str,
}

impl Bans {
    /// Reads a whole file.
    ///
    /// # Errors
    /// The first line that is not understood.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, LineError> {
        lines::lines(text)
            .map(|line| rule(&line?))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The ban that somebody is under, if any.
    pub(crate) fn find(&self, party: &Party) -> Option<Ban> {
        if self.0.is_empty() {
            return None;
        }
        let who = Subject::new(party);
        let hit = self.0.iter().find(|rule| who.is_meant(&rule.whom))?;
        let by = match hit.whom {
            Whom::Dn(..) => "dn",
            Whom::Ca(..) => "ca",
            Whom::Fqan(_) => "fqan",
            Whom::Token(_) => "token",
            Whom::Issuer(_) => "issuer",
        };
        Some(Ban { line: hit.line, by })
    }
}

fn rule(line: &lines::Line<'_>) -> Result<Rule, LineError> {
    let unclosed = || line.fail("the closing quote is missing");
    let (kind, rest) = if line.text.starts_with(['"', '/']) {
        ("dn".to_owned(), line.text)
    } else {
        lines::first_word(line.text).ok_or_else(unclosed)?
    };
    let (text, rest) = if rest.starts_with('"') {
        lines::first_word(rest).ok_or_else(unclosed)?
    } else {
        // Names without quotes go to the end of the line.
        (rest.to_owned(), "")
    };
    if text.is_empty() || !rest.is_empty() {
        return Err(line.fail("a line is a word and one name or pattern, in quotes"));
    }
    let pattern =
        || Pattern::parse(&text).ok_or_else(|| line.fail("the pattern has a set without its end"));
    let whom = match kind.to_ascii_lowercase().as_str() {
        "dn" => Whom::Dn(Name::new(&text), pattern()?),
        "ca" => Whom::Ca(Name::new(&text), pattern()?),
        "fqan" => Whom::Fqan(FqanPattern::parse(&text, line)?),
        "token" => Whom::Token(pattern()?),
        "issuer" => Whom::Issuer(pattern()?),
        _ => return Err(line.fail("the first word must be dn, fqan, ca, token or issuer")),
    };
    Ok(Rule {
        line: line.number,
        whom,
    })
}

/// A name and its spellings.
type Spelled = (Name, Vec<String>);

/// Somebody, with all spellings made once.
struct Subject<'a> {
    party: &'a Party,
    name: Spelled,
    issuers: Vec<Spelled>,
    fqans: Vec<Vec<String>>,
}

impl<'a> Subject<'a> {
    fn new(party: &'a Party) -> Self {
        let spelled = |text: &String| {
            let name = Name::new(text);
            let spellings = name.spellings();
            (name, spellings)
        };
        Self {
            party,
            name: spelled(&party.identity),
            issuers: party.issuers.iter().map(spelled).collect(),
            fqans: party.fqans.iter().map(|fqan| spellings(fqan)).collect(),
        }
    }

    fn is_meant(&self, whom: &Whom) -> bool {
        let party = self.party;
        let is_token = party.kind == CredentialKind::Token;
        match whom {
            Whom::Dn(name, pattern) => !is_token && is_name(&self.name, name, pattern),
            Whom::Ca(name, pattern) => {
                let is_one = |issuer| is_name(issuer, name, pattern);
                !is_token && self.issuers.iter().any(is_one)
            }
            Whom::Fqan(pattern) => !is_token && self.fqans.iter().any(|fqan| pattern.matches(fqan)),
            Whom::Token(pattern) => {
                let mut names = std::iter::once(&party.identity).chain(&party.fqans);
                is_token && names.any(|name| pattern.matches(name))
            }
            Whom::Issuer(pattern) => {
                is_token && party.issuers.iter().any(|issuer| pattern.matches(issuer))
            }
        }
    }
}

fn is_name((who, spellings): &Spelled, name: &Name, pattern: &Pattern) -> bool {
    name.likeness(who) != Likeness::Different
        || spellings.iter().any(|spelling| pattern.matches(spelling))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = r#"
# who may not
"/DC=org/CN=Eve"
dn "/DC=org/O=Bad/*"
dn /DC=org/CN=Old Style
fqan "/vo/banned/*"
FQAN "/vo/Role=evil"
ca "/DC=net/CN=Broken CA ?"
token "https://a.example,mallory"
token "https://a.example,/bad/*"
issuer "https://bad.example*"
dn "/CN=x/y=z"
dn "/CN=M/Email=m@[ab].example"
"#;

    fn ban(
        kind: CredentialKind,
        identity: &str,
        fqans: &[&str],
        issuers: &[&str],
    ) -> Option<usize> {
        let owned = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect();
        let party = Party {
            kind,
            identity: identity.into(),
            fqans: owned(fqans),
            issuers: owned(issuers),
            limited: false,
            not_after: 0,
        };
        let list = Bans::parse(LIST.as_bytes()).expect("readable");
        list.find(&party).map(|ban| ban.line)
    }

    #[test]
    fn m1_bans_by_name_attribute_and_authority() {
        use CredentialKind::Proxy;
        let good = "/DC=org/CN=Alice";
        let null = "/vo/banned/Role=NULL/Capability=NULL";
        for (identity, fqans, issuers, wanted) in [
            (good, &["/vo"][..], &["/DC=net/CN=CA"][..], None),
            ("/DC=org/CN=Eve", &[], &[], Some(3)),
            ("/DC=org/CN=Eve2", &[], &[], None),
            ("/DC=org/O=Bad/CN=x", &[], &[], Some(4)),
            ("/DC=org/CN=Old Style", &[], &[], Some(5)),
            (good, &["/vo", null], &[], Some(6)),
            (good, &["/vo/banned/x"], &[], Some(6)),
            (good, &["/vo/Role=evil/Capability=NULL"], &[], Some(7)),
            (good, &[], &["/CN=Sub", "/DC=net/CN=Broken CA 2"], Some(8)),
            // A line with two readings bans both.
            ("/CN=x\\/y=z", &[], &[], Some(12)),
            ("/CN=M/emailAddress=m@a.example", &[], &[], Some(13)),
        ] {
            let got = ban(Proxy, identity, fqans, issuers);
            assert_eq!(got, wanted, "{identity} {fqans:?}");
        }
    }

    #[test]
    fn t4_bans_of_tokens_and_of_certificates_do_not_mix() {
        use CredentialKind::{Proxy, Token};
        let a = "https://a.example";
        let subject = |name: &str| format!("{a},{name}");
        assert_eq!(ban(Token, &subject("mallory"), &[], &[a]), Some(9));
        assert_eq!(
            ban(Token, &subject("x"), &[&subject("/bad/x")], &[]),
            Some(10)
        );
        let bad = "https://bad.example/x";
        assert_eq!(ban(Token, &format!("{bad},y"), &[], &[bad]), Some(11));
        let ca = "/DC=net/CN=Broken CA 1";
        assert_eq!(ban(Token, &subject("x"), &["/vo/banned/x"], &[ca]), None);
        assert_eq!(ban(Proxy, &subject("mallory"), &[], &[]), None);
    }

    #[test]
    fn m1_a_line_that_is_not_understood_spoils_the_list() {
        for bad in [
            "user \"/CN=x\"",
            "dn",
            "dn \"/CN=x",
            "dn \"/CN=x\" y",
            "dn \"\"",
            "dn \"/CN=[x\"",
            "\"/CN=x\" alice",
        ] {
            assert!(Bans::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(Bans::parse(b"").is_ok());
    }
}
