//! What came of a check.

use std::fmt;
use std::time::Duration;

use classad::Expr;
use serde::{Deserialize, Serialize};

use crate::check::{Check, Severity};

/// What came of one run of a check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Passed, skipped or failed.
    pub status: Status,
    /// A failure is not graver than this, however grave the check's are: one expired list among many is not worth what
    /// all of them are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<Severity>,
    /// What was measured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<Metric>,
    /// For the slot ad.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<Attribute>,
    /// For the environment of every job, in addition to `STARTER_JOB_ENVIRONMENT`: name and value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub environment: Vec<(String, String)>,
    /// For the pilot's configuration, as if given by `--set`: knob and value. Only before the pilot joins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub knobs: Vec<(String, String)>,
    /// More for people: what a script said, what was found where. Any number of lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// How long it took; the engine measures it.
    #[serde(with = "crate::findings::seconds")]
    pub elapsed: Duration,
}

/// Whether the check passed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It did.
    Passed,
    /// It was not run, or there was nothing to look at.
    Skipped {
        /// One sentence.
        why: String,
    },
    /// It did not.
    Failed(Failure),
}

/// Why a check failed, and who can help.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// One sentence that names the file, knob or service.
    pub why: String,
    /// Whose it is to mend.
    pub whose: Whose,
    /// What to do about it: one sentence, or a command.
    pub hint: String,
    /// Whether another attempt later may succeed without anybody's doing.
    pub transient: bool,
    /// A word for machines: `WN_Resource`, `Network`, `Config`, `VO_Config`, `Corruption`, `VO_Proxy` of
    /// [glideinWMS](https://glideinwms.fnal.gov) and OSG, or a check's own. Empty: it follows from `whose`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
}

/// Who can mend a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Whose {
    /// The site: node, network, helper.
    Site,
    /// The factory: configuration of entries, what was sent along.
    Factory,
    /// The frontend (the VO): its policy, its credentials, its checks.
    Frontend,
    /// Whoever runs the pool.
    Pool,
    /// Us.
    Pilot,
}

impl Whose {
    /// One word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Site => "site",
            Self::Factory => "factory",
            Self::Frontend => "frontend",
            Self::Pool => "pool",
            Self::Pilot => "pilot",
        }
    }
}

impl fmt::Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl Failure {
    /// A failure that will stay until somebody acts.
    #[must_use]
    pub fn new(whose: Whose, why: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            whose,
            hint: hint.into(),
            transient: false,
            kind: String::new(),
        }
    }

    /// The site's.
    #[must_use]
    pub fn site(why: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(Whose::Site, why, hint)
    }

    /// One that may pass.
    #[must_use]
    pub const fn transient(mut self) -> Self {
        self.transient = true;
        self
    }

    /// With a word for machines.
    #[must_use]
    pub fn kind(mut self, kind: impl Into<String>) -> Self {
        self.kind = kind.into();
        self
    }
}

/// Something measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// Its name: small letters, digits, `_`.
    pub name: String,
    /// What was measured.
    pub value: MetricValue,
    /// Its unit (`MiB`, `s`, ...); empty for a count or a text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub unit: String,
    /// What it has to be, if anything is asked of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<Threshold>,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum MetricValue {
    /// A number, finite.
    Number(f64),
    /// Anything else.
    Text(String),
}

impl fmt::Display for MetricValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// What a metric has to be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Threshold {
    /// Not less.
    AtLeast(f64),
    /// Not more.
    AtMost(f64),
}

/// An attribute of the slot ad.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "AttributeText", into = "AttributeText")]
pub struct Attribute {
    name: String,
    value: Expr,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct AttributeText {
    name: String,
    value: String,
}

/// Text that is no attribute.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BadAttribute {
    /// Its name.
    #[error(
        "{0:?} cannot name an attribute: use letters, digits and _, not beginning with a digit"
    )]
    Name(String),
    /// Its value.
    #[error("the value {text:?} of the attribute {name} is no ClassAd expression: {cause}")]
    Value {
        /// The attribute.
        name: String,
        /// Its value.
        text: String,
        /// Why not.
        cause: String,
    },
}

impl Attribute {
    /// An attribute with a value.
    ///
    /// # Errors
    /// [`BadAttribute::Name`].
    pub fn new(name: &str, value: impl Into<Expr>) -> Result<Self, BadAttribute> {
        let good = !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !good {
            return Err(BadAttribute::Name(name.to_owned()));
        }
        Ok(Self {
            name: name.to_owned(),
            value: value.into(),
        })
    }

    /// An attribute with an expression.
    ///
    /// # Errors
    /// [`BadAttribute`].
    pub fn parse(name: &str, expression: &str) -> Result<Self, BadAttribute> {
        let value = Expr::parse_old(expression).map_err(|cause| BadAttribute::Value {
            name: name.to_owned(),
            text: expression.to_owned(),
            cause: cause.to_string(),
        })?;
        Self::new(name, value)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its value.
    #[must_use]
    pub const fn value(&self) -> &Expr {
        &self.value
    }
}

impl TryFrom<AttributeText> for Attribute {
    type Error = BadAttribute;

    fn try_from(text: AttributeText) -> Result<Self, BadAttribute> {
        Self::parse(&text.name, &text.value)
    }
}

impl From<Attribute> for AttributeText {
    fn from(attribute: Attribute) -> Self {
        Self {
            value: attribute.value.to_old(),
            name: attribute.name,
        }
    }
}

impl Outcome {
    /// An outcome with nothing but its status.
    #[must_use]
    pub const fn of(status: Status) -> Self {
        Self {
            status,
            at_most: None,
            metrics: Vec::new(),
            attributes: Vec::new(),
            environment: Vec::new(),
            knobs: Vec::new(),
            detail: None,
            elapsed: Duration::ZERO,
        }
    }

    /// It passed.
    #[must_use]
    pub const fn passed() -> Self {
        Self::of(Status::Passed)
    }

    /// There was nothing to look at.
    #[must_use]
    pub fn skipped(why: impl Into<String>) -> Self {
        Self::of(Status::Skipped { why: why.into() })
    }

    /// It failed.
    #[must_use]
    pub const fn failed(failure: Failure) -> Self {
        Self::of(Status::Failed(failure))
    }

    /// With a number measured; one that is not finite is left out.
    #[must_use]
    pub fn number(self, name: &str, value: f64, unit: &str, threshold: Option<Threshold>) -> Self {
        if !value.is_finite() {
            return self;
        }
        self.metric(Metric {
            name: name.to_owned(),
            value: MetricValue::Number(value),
            unit: unit.to_owned(),
            threshold,
        })
    }

    /// With a text found out.
    #[must_use]
    pub fn text(self, name: &str, value: impl Into<String>) -> Self {
        self.metric(Metric {
            name: name.to_owned(),
            value: MetricValue::Text(value.into()),
            unit: String::new(),
            threshold: None,
        })
    }

    /// With a metric.
    #[must_use]
    pub fn metric(mut self, metric: Metric) -> Self {
        self.metrics.push(metric);
        self
    }

    /// With an attribute for the slot ad. A name that cannot be one is left out, with a word in the log; names of
    /// ours are constants.
    #[must_use]
    pub fn attribute(mut self, name: &str, value: impl Into<Expr>) -> Self {
        match Attribute::new(name, value) {
            Ok(attribute) => self.attributes.push(attribute),
            Err(error) => tracing::warn!("not published: {error}"),
        }
        self
    }

    /// With more for people.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Not graver than this.
    #[must_use]
    pub const fn at_most(mut self, severity: Severity) -> Self {
        self.at_most = Some(severity);
        self
    }

    /// How grave it is, as an outcome of `check`.
    #[must_use]
    pub fn severity(&self, check: &Check) -> Severity {
        self.at_most
            .map_or(check.severity, |most| most.min(check.severity))
    }

    /// Whether it passed.
    #[must_use]
    pub const fn is_passed(&self) -> bool {
        matches!(self.status, Status::Passed)
    }

    /// Why it failed, if it did.
    #[must_use]
    pub const fn failure(&self) -> Option<&Failure> {
        match &self.status {
            Status::Failed(failure) => Some(failure),
            Status::Passed | Status::Skipped { .. } => None,
        }
    }
}
