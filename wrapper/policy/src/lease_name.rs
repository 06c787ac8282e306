//! File names of leases in a gridmapdir (requirement M5): what every program that shares the
//! directory computes from an identity.

use launch_protocol::policy::{Groups, is_lease_name};

/// Small letters and digits stay, every other byte becomes `%xx`; group names follow behind colons.
/// `None`: longer than a file name can be.
pub(crate) fn lease_name(identity: &str, groups: Option<&Groups>) -> Option<String> {
    let mut name = String::with_capacity(identity.len() * 2);
    for byte in identity.bytes() {
        match byte.to_ascii_lowercase() {
            small @ (b'a'..=b'z' | b'0'..=b'9') => name.push(char::from(small)),
            other => name.push_str(&format!("%{other:02x}")),
        }
    }
    let named = |groups: &'_ Groups| {
        let all = groups.primary.iter().chain(&groups.secondary);
        all.map(|group| format!(":{group}")).collect::<String>()
    };
    name.extend(groups.map(named));
    is_lease_name(&name).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m5_names_are_those_of_existing_directories() {
        assert_eq!(
            lease_name("/DC=org/DC=terena/O=Nikhef/CN=Oscar K. O o@x.nl", None).as_deref(),
            Some("%2fdc%3dorg%2fdc%3dterena%2fo%3dnikhef%2fcn%3doscar%20k%2e%20o%20o%40x%2enl")
        );
        let groups = Groups {
            primary: Some("atlasprd".into()),
            secondary: vec!["atlas".into(), "lhc".into()],
        };
        assert_eq!(
            lease_name("/CN=A", Some(&groups)).as_deref(),
            Some("%2fcn%3da:atlasprd:atlas:lhc")
        );
        assert_eq!(lease_name(&"/".repeat(86), None), None);
        assert_eq!(lease_name("alice", None), None);
    }
}
