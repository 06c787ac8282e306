use std::fmt;

use crate::Sinful;
use crate::sinful::SinfulError;

/// Longest contact accepted, in bytes.
const MAX_LEN: usize = 1024;

/// A broker's answer is no contact.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContactError {
    /// It is too long.
    #[error("a CCB contact of {0} bytes is longer than {MAX_LEN}")]
    TooLong(usize),
    /// There is no number after a `#`.
    #[error("a CCB contact does not end with # and a number")]
    NoNumber,
    /// What stands before it is no address.
    #[error("a CCB contact has no address")]
    Address(#[from] SinfulError),
}

/// Where a broker can be asked for a registered daemon: `host:port?parameters#number`, without angle brackets.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Contact {
    text: String,
}

impl Contact {
    /// Reads what a broker has answered.
    ///
    /// # Errors
    ///
    /// [`ContactError`].
    pub fn parse(text: &str) -> Result<Self, ContactError> {
        if text.len() > MAX_LEN {
            return Err(ContactError::TooLong(text.len()));
        }
        let (address, number) = text.rsplit_once('#').ok_or(ContactError::NoNumber)?;
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(ContactError::NoNumber);
        }
        // Checks also that there is no blank, which separates several contacts.
        Sinful::parse(&format!("<{address}>"))?;
        Ok(Self {
            text: text.to_owned(),
        })
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Contact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Contact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Contact({})", self.text)
    }
}

/// The value of `CCBID` for an address that several brokers know; `None` when none does.
pub fn contacts<'a>(known: impl IntoIterator<Item = &'a Contact>) -> Option<String> {
    let list: Vec<&str> = known.into_iter().map(Contact::as_str).collect();
    (!list.is_empty()).then(|| list.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contacts_of_a_real_broker_go_into_an_address_and_come_out_again() {
        let one = Contact::parse("127.0.0.1:22618?addrs=127.0.0.1-22618&alias=vm#1").unwrap();
        let other = Contact::parse("[::1]:9618?addrs=[--1]-9618&sock=collector#20").unwrap();
        let list = contacts([&one, &other]).unwrap();
        let sinful = Sinful::new("10.0.0.1".parse().unwrap(), 22692)
            .with("CCBID", Some(&list))
            .no_udp();
        let text = sinful.to_string();
        assert!(
            text.starts_with(
                "<10.0.0.1:22692?CCBID=127.0.0.1:22618%3faddrs%3d127.0.0.1-22618%26alias%3dvm#1%20[::1]"
            ),
            "{text}"
        );
        let read = Sinful::parse(&text).unwrap();
        assert_eq!(read.ccb_contacts(), Some(list.as_str()));
        assert_eq!(contacts([]), None);
    }

    #[test]
    fn what_is_no_contact_is_refused() {
        for text in [
            "",
            "127.0.0.1:1",
            "127.0.0.1:1#",
            "127.0.0.1:1#x",
            "127.0.0.1:1#-1",
            "#1",
            "127.0.0.1#1",
            "127.0.0.1:1 127.0.0.1:2#1",
            "127.0.0.1:1?a= b#1",
            "<127.0.0.1:1>#1",
            "127.0.0.1:1>#1",
            "127.0.0.1:1\n#1",
        ] {
            assert!(Contact::parse(text).is_err(), "{text:?}");
        }
        let long = format!("127.0.0.1:1?a={}#1", "x".repeat(2000));
        assert!(matches!(
            Contact::parse(&long),
            Err(ContactError::TooLong(_))
        ));
    }
}
