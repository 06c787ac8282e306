//! Values: what an expression evaluates to.

use crate::ClassAd;

/// A point in time with the offset from UTC in which it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbsoluteTime {
    /// Seconds since 1970-01-01T00:00:00Z.
    pub seconds: i64,
    /// Seconds east of UTC, for printing.
    pub offset: i32,
}

/// The result of an evaluation.
///
/// `PartialEq` compares structure; it is not the `==` of the language. Reals are equal if their bits are.
#[derive(Debug, Clone, Default)]
pub enum Value {
    /// No such attribute, or computed from one.
    #[default]
    Undefined,
    /// A type error, a failed function or an exceeded limit.
    Error,
    /// `true` or `false`.
    Boolean(bool),
    /// A 64-bit integer.
    Integer(i64),
    /// A double-precision number.
    Real(f64),
    /// A string.
    String(String),
    /// A point in time.
    AbsoluteTime(AbsoluteTime),
    /// A span of time in seconds.
    RelativeTime(f64),
    /// A list, its elements evaluated.
    List(Vec<Self>),
    /// A nested ad, its attributes not evaluated.
    ClassAd(Box<ClassAd>),
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Undefined, Self::Undefined) | (Self::Error, Self::Error) => true,
            (Self::Boolean(a), Self::Boolean(b)) => a == b,
            (Self::Integer(a), Self::Integer(b)) => a == b,
            (Self::Real(a), Self::Real(b)) | (Self::RelativeTime(a), Self::RelativeTime(b)) => {
                a.to_bits() == b.to_bits()
            }
            (Self::String(a), Self::String(b)) => a == b,
            (Self::AbsoluteTime(a), Self::AbsoluteTime(b)) => a == b,
            (Self::List(a), Self::List(b)) => a == b,
            (Self::ClassAd(a), Self::ClassAd(b)) => a == b,
            _ => false,
        }
    }
}

impl Value {
    /// The integer, if it is one.
    #[must_use]
    pub const fn as_int(&self) -> Option<i64> {
        match self {
            Self::Integer(i) => Some(*i),
            _ => None,
        }
    }

    /// The number as a real; integers widen.
    #[must_use]
    pub const fn as_real(&self) -> Option<f64> {
        match self {
            Self::Real(r) => Some(*r),
            Self::Integer(i) => Some(int_to_real(*i)),
            _ => None,
        }
    }

    /// The truth value; a number counts as true unless it is zero, as where HTCondor expects a condition.
    #[must_use]
    pub const fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Boolean(b) => Some(*b),
            Self::Integer(i) => Some(*i != 0),
            Self::Real(r) => Some(*r != 0.0),
            _ => None,
        }
    }

    /// The string, if it is one.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(s) => Some(s),
            _ => None,
        }
    }

    /// The list elements, if it is a list.
    #[must_use]
    pub fn as_list(&self) -> Option<&[Self]> {
        match self {
            Self::List(items) => Some(items),
            _ => None,
        }
    }

    /// The nested ad, if it is one.
    #[must_use]
    pub fn as_ad(&self) -> Option<&ClassAd> {
        match self {
            Self::ClassAd(ad) => Some(ad),
            _ => None,
        }
    }

    /// Whether it is [`Value::Undefined`].
    #[must_use]
    pub const fn is_undefined(&self) -> bool {
        matches!(self, Self::Undefined)
    }

    /// Whether it is [`Value::Error`].
    #[must_use]
    pub const fn is_error(&self) -> bool {
        matches!(self, Self::Error)
    }
}

/// The nearest real of an integer.
#[expect(
    clippy::cast_precision_loss,
    reason = "the language widens integers to doubles"
)]
pub(crate) const fn int_to_real(i: i64) -> f64 {
    i as f64
}

/// The integer part of a real, clamped to the range; NaN gives the smallest integer, as on the machines HTCondor runs on.
#[expect(
    clippy::cast_possible_truncation,
    reason = "saturating, which is what the caller documents"
)]
pub(crate) fn real_to_int(r: f64) -> i64 {
    if r.is_nan() || r >= 9_223_372_036_854_775_808.0 {
        // what cvttsd2si gives for everything out of range
        i64::MIN
    } else {
        r as i64
    }
}
