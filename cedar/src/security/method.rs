//! Authentication methods, their list names and their bits (protocol 01 section 5.1).

use std::fmt;

/// An authentication method. Those that this crate cannot run are known by name, for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AuthMethod {
    /// The peer says who it is and is believed. No security value.
    ClaimToBe,
    /// Proof by creating a directory on a shared machine.
    Fs,
    /// As FS, over a shared file system. Not implemented here.
    FsRemote,
    /// Kerberos. Not implemented here.
    Kerberos,
    /// Nobody in particular.
    Anonymous,
    /// TLS certificates.
    Ssl,
    /// The pool password.
    Password,
    /// MUNGE credentials. Not implemented here.
    Munge,
    /// HTCondor's id tokens.
    Token,
    /// SciTokens, shown through TLS. As a client only.
    SciTokens,
}

impl AuthMethod {
    const ALL: [Self; 10] = [
        Self::ClaimToBe,
        Self::Fs,
        Self::FsRemote,
        Self::Kerberos,
        Self::Anonymous,
        Self::Ssl,
        Self::Password,
        Self::Munge,
        Self::Token,
        Self::SciTokens,
    ];

    /// The method of a name in a method list; aliases and any case are understood.
    pub fn from_name(name: &str) -> Option<Self> {
        let name = name.trim();
        if ["IDTOKENS", "IDTOKEN", "TOKENS"]
            .iter()
            .any(|alias| alias.eq_ignore_ascii_case(name))
        {
            return Some(Self::Token);
        }
        if name.eq_ignore_ascii_case("SCITOKEN") {
            return Some(Self::SciTokens);
        }
        Self::ALL
            .into_iter()
            .find(|method| method.name().eq_ignore_ascii_case(name))
    }

    /// The method of a single bit.
    pub fn from_bit(bit: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.bit() == bit)
    }

    /// The name in method lists.
    pub fn name(self) -> &'static str {
        match self {
            Self::ClaimToBe => "CLAIMTOBE",
            Self::Fs => "FS",
            Self::FsRemote => "FS_REMOTE",
            Self::Kerberos => "KERBEROS",
            Self::Anonymous => "ANONYMOUS",
            Self::Ssl => "SSL",
            Self::Password => "PASSWORD",
            Self::Munge => "MUNGE",
            Self::Token => "TOKEN",
            Self::SciTokens => "SCITOKENS",
        }
    }

    /// The bit in the method loop.
    pub fn bit(self) -> i64 {
        match self {
            Self::ClaimToBe => 2,
            Self::Fs => 4,
            Self::FsRemote => 8,
            Self::Kerberos => 64,
            Self::Anonymous => 128,
            Self::Ssl => 256,
            Self::Password => 512,
            Self::Munge => 1024,
            Self::Token => 2048,
            Self::SciTokens => 4096,
        }
    }

    /// True if this crate can run the method.
    pub fn is_implemented(self) -> bool {
        matches!(
            self,
            Self::ClaimToBe
                | Self::Fs
                | Self::Anonymous
                | Self::Token
                | Self::Password
                | Self::Ssl
                | Self::SciTokens
        )
    }
}

impl fmt::Display for AuthMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Writes a method list as it stands in a security ad.
pub(crate) fn join(methods: &[AuthMethod]) -> String {
    let names: Vec<_> = methods.iter().map(|method| method.name()).collect();
    names.join(",")
}

/// Reads a method list; names nobody knows are left out, doubles too.
pub(crate) fn split(list: &str) -> Vec<AuthMethod> {
    let mut methods = Vec::new();
    for method in list.split([',', ' ']).filter_map(AuthMethod::from_name) {
        if !methods.contains(&method) {
            methods.push(method);
        }
    }
    methods
}
