//! What the operating system is called: the `OpSys*` family of the slot ad, from `/etc/os-release` and `uname`.
//!
//! Users write requirements against these values, so they follow what HTCondor's startd publishes for the same system
//! (`htcondor:src/condor_sysapi/arch.cpp`): `Debian13`, `AlmaLinux9`, `Ubuntu22`.

use std::collections::BTreeMap;

/// The names and numbers of the distribution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OsFacts {
    /// `OpSysName` and `OpSysShortName`: one word, `Debian`.
    pub name: String,
    /// `OpSysLongName`.
    pub long_name: String,
    /// `OpSysMajorVer`; 0 when the system does not say.
    pub major: i64,
    /// Second number of the version; 0 when there is none.
    pub minor: i64,
}

impl OsFacts {
    /// Reads the text of an `os-release` file. Unknown or missing fields never fail: a pilot must start on a system
    /// nobody has heard of.
    #[must_use]
    pub fn parse(os_release: &str) -> Self {
        let fields = fields(os_release);
        let get = |name: &str| fields.get(name).map_or("", String::as_str);
        let mut version = get("VERSION_ID")
            .split('.')
            .map(|part| part.parse::<i64>().unwrap_or(0));
        let name = short_name(get("ID"), get("NAME"));
        let long_name = [get("PRETTY_NAME"), get("NAME"), "Linux"]
            .into_iter()
            .find(|text| !text.is_empty())
            .unwrap_or("Linux")
            .to_owned();
        Self {
            name,
            long_name,
            major: version.next().unwrap_or(0),
            minor: version.next().unwrap_or(0),
        }
    }

    /// `OpSysAndVer`.
    #[must_use]
    pub fn and_version(&self) -> String {
        format!("{}{}", self.name, self.major)
    }

    /// `OpSysVer`: major and minor version as one number, 1300 for Debian 13, 2204 for Ubuntu 22.04.
    #[must_use]
    pub fn version_number(&self) -> i64 {
        self.major
            .saturating_mul(100)
            .saturating_add(self.minor.min(99))
    }
}

fn short_name(id: &str, name: &str) -> String {
    let known = match id {
        "debian" => "Debian",
        "ubuntu" => "Ubuntu",
        "almalinux" => "AlmaLinux",
        "rocky" => "Rocky",
        "centos" => "CentOS",
        "rhel" => "RedHat",
        "fedora" => "Fedora",
        "scientific" => "SL",
        "amzn" => "AmazonLinux",
        "opensuse" | "opensuse-leap" | "opensuse-tumbleweed" => "openSUSE",
        _ => "",
    };
    if !known.is_empty() {
        return known.to_owned();
    }
    let word: String = name
        .split_whitespace()
        .next()
        .unwrap_or("")
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .collect();
    if word.is_empty() {
        "Linux".to_owned()
    } else {
        word
    }
}

fn fields(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter_map(|line| line.trim().split_once('='))
        .filter(|(name, _)| !name.starts_with('#'))
        .map(|(name, value)| (name.trim().to_owned(), unquote(value.trim())))
        .collect()
}

fn unquote(value: &str) -> String {
    let inner = ['"', '\'']
        .iter()
        .find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
    inner.unwrap_or(value).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_is_named_as_htcondor_names_it() {
        let facts = OsFacts::parse(
            "PRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\nID=debian\nVERSION_ID=\"13\"\n",
        );
        assert_eq!(facts.and_version(), "Debian13");
        assert_eq!(facts.version_number(), 1300);
        assert_eq!(facts.long_name, "Debian GNU/Linux 13 (trixie)");
    }

    #[test]
    fn ubuntu_keeps_its_month() {
        let facts = OsFacts::parse("NAME='Ubuntu'\nID=ubuntu\nVERSION_ID='22.04'");
        assert_eq!(
            (facts.and_version().as_str(), facts.version_number()),
            ("Ubuntu22", 2204)
        );
    }

    #[test]
    fn an_unknown_system_still_has_a_name() {
        assert_eq!(OsFacts::parse("").and_version(), "Linux0");
        assert_eq!(OsFacts::parse("NAME=\"Guix System\"\nID=guix").name, "Guix");
    }
}
