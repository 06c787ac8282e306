//! The ad: an insertion-ordered table from attribute names to expressions.

use std::fmt;
use std::sync::Arc;

use crate::name::folded_hash;
use crate::value::real_to_int;
use crate::{AttrName, EvalContext, Expr, ParseError, Value};

/// A set of named expressions.
///
/// Names are case-insensitive; the order of insertion is kept. Clones share their storage until one is changed.
#[derive(Clone, Default)]
pub struct ClassAd {
    table: Arc<Table>,
}

#[derive(Clone, Default)]
struct Table {
    entries: Vec<(AttrName, Expr)>,
    /// Open-addressing index: 0 = free, else entry number + 1. Empty while there are few entries.
    index: Vec<u32>,
}

/// Up to this many entries a scan is faster than an index.
const SCAN_LIMIT: usize = 8;

impl ClassAd {
    /// An ad without attributes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of attributes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.entries.len()
    }

    /// Whether there is no attribute.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.entries.is_empty()
    }

    /// Whether the attribute exists (it may still evaluate to undefined).
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The expression of an attribute.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Expr> {
        self.lookup(name, folded_hash(name))
    }

    /// [`ClassAd::get`] for a name whose hash is known.
    pub(crate) fn get_name(&self, name: &AttrName) -> Option<&Expr> {
        self.lookup(name.as_str(), name.folded_hash())
    }

    fn lookup(&self, name: &str, hash: u32) -> Option<&Expr> {
        let at = self.table.find(name, hash)?;
        self.table.entries.get(at).map(|(_, expr)| expr)
    }

    /// Sets an attribute. An attribute of that name is replaced and keeps its place and spelling.
    pub fn insert(&mut self, name: impl Into<AttrName>, expr: impl Into<Expr>) {
        Arc::make_mut(&mut self.table).insert(name.into(), expr.into());
    }

    /// Sets an attribute from the text of an expression in old syntax.
    ///
    /// # Errors
    /// The text does not parse; the ad is unchanged then.
    pub fn insert_expr(&mut self, name: impl Into<AttrName>, text: &str) -> Result<(), ParseError> {
        let expr = Expr::parse_old(text)?;
        self.insert(name, expr);
        Ok(())
    }

    /// Removes an attribute and returns its expression. Costs time proportional to the size of the ad.
    pub fn remove(&mut self, name: &str) -> Option<Expr> {
        let at = self.table.find(name, folded_hash(name))?;
        Some(Arc::make_mut(&mut self.table).remove(at))
    }

    /// Copies all attributes of `other` into this ad.
    pub fn update(&mut self, other: &Self) {
        for (name, expr) in other.iter() {
            self.insert(name, expr.clone());
        }
    }

    /// All attributes in the order of insertion.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&AttrName, &Expr)> {
        self.table.entries.iter().map(|(name, expr)| (name, expr))
    }

    /// Evaluates an attribute with this ad as `MY`, without `TARGET` and without a clock (`time()` is an error).
    #[must_use]
    pub fn eval(&self, name: &str) -> Value {
        EvalContext::new().my(self).eval_attr(name)
    }

    /// The integer an attribute evaluates to; `None` for undefined, error and other types.
    ///
    /// As HTCondor's look-up does, a real is cut to its integer part and a boolean counts as 0 or 1
    /// (`htcondor:src/classad/classad.cpp`, `EvaluateAttrNumber`).
    #[must_use]
    pub fn int(&self, name: &str) -> Option<i64> {
        match self.eval(name) {
            Value::Integer(i) => Some(i),
            Value::Real(r) => Some(real_to_int(r)),
            Value::Boolean(b) => Some(i64::from(b)),
            _ => None,
        }
    }

    /// The number an attribute evaluates to; integers widen, a boolean counts as 0 or 1.
    #[must_use]
    pub fn real(&self, name: &str) -> Option<f64> {
        match self.eval(name) {
            Value::Boolean(b) => Some(f64::from(u8::from(b))),
            value => value.as_real(),
        }
    }

    /// The truth value an attribute evaluates to; numbers count as true unless zero.
    #[must_use]
    pub fn bool(&self, name: &str) -> Option<bool> {
        self.eval(name).as_bool()
    }

    /// The string an attribute evaluates to.
    #[must_use]
    pub fn string(&self, name: &str) -> Option<String> {
        match self.eval(name) {
            Value::String(s) => Some(s),
            _ => None,
        }
    }
}

impl Table {
    fn find(&self, name: &str, hash: u32) -> Option<usize> {
        if self.index.is_empty() {
            return self
                .entries
                .iter()
                .position(|(n, _)| n.folded_hash() == hash && n.matches(name));
        }
        let mask = self.index.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let slot = *self.index.get(at)? as usize;
            let number = slot.checked_sub(1)?;
            let (candidate, _) = self.entries.get(number)?;
            if candidate.folded_hash() == hash && candidate.matches(name) {
                return Some(number);
            }
            at = (at + 1) & mask;
        }
    }

    fn insert(&mut self, name: AttrName, expr: Expr) {
        if let Some(at) = self.find(name.as_str(), name.folded_hash()) {
            if let Some(entry) = self.entries.get_mut(at) {
                entry.1 = expr;
            }
            return;
        }
        let hash = name.folded_hash();
        self.entries.push((name, expr));
        let count = self.entries.len();
        if count > SCAN_LIMIT {
            if self.index.len() < count * 2 {
                self.rebuild();
            } else {
                self.link(hash, count);
            }
        }
    }

    fn remove(&mut self, at: usize) -> Expr {
        let (_, expr) = self.entries.remove(at);
        self.rebuild();
        expr
    }

    fn rebuild(&mut self) {
        self.index.clear();
        if self.entries.len() <= SCAN_LIMIT {
            return;
        }
        self.index
            .resize((self.entries.len() * 4).next_power_of_two(), 0);
        for number in 0..self.entries.len() {
            if let Some((name, _)) = self.entries.get(number) {
                let hash = name.folded_hash();
                self.link(hash, number + 1);
            }
        }
    }

    /// Stores entry number + 1 in the first free slot; the index is never more than half full.
    fn link(&mut self, hash: u32, slot: usize) {
        let mask = self.index.len() - 1;
        let mut at = hash as usize & mask;
        while let Some(place) = self.index.get_mut(at) {
            if *place == 0 {
                *place = u32::try_from(slot).unwrap_or(0);
                return;
            }
            at = (at + 1) & mask;
        }
    }
}

impl PartialEq for ClassAd {
    /// Same names with structurally equal expressions, in any order.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.table, &other.table)
            || (self.len() == other.len()
                && self
                    .iter()
                    .all(|(name, expr)| other.get_name(name) == Some(expr)))
    }
}

impl fmt::Debug for ClassAd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<N: Into<AttrName>, E: Into<Expr>> Extend<(N, E)> for ClassAd {
    fn extend<T: IntoIterator<Item = (N, E)>>(&mut self, attributes: T) {
        for (name, expr) in attributes {
            self.insert(name, expr);
        }
    }
}

impl<N: Into<AttrName>, E: Into<Expr>> FromIterator<(N, E)> for ClassAd {
    fn from_iter<T: IntoIterator<Item = (N, E)>>(attributes: T) -> Self {
        let mut ad = Self::new();
        ad.extend(attributes);
        ad
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_attributes_are_found_after_insertion_and_removal() {
        let mut ad = ClassAd::new();
        for i in 0..300_i64 {
            ad.insert(format!("Attr{i}"), i);
        }
        assert_eq!(ad.len(), 300);
        for i in (0..300).step_by(2) {
            assert!(ad.remove(&format!("ATTR{i}")).is_some());
        }
        assert_eq!(ad.int("attr299"), Some(299));
        assert_eq!(ad.get("Attr298"), None);
        assert_eq!(ad.len(), 150);
    }

    #[test]
    fn replacing_keeps_the_place_and_a_clone_is_independent() {
        let mut ad: ClassAd = [("A", 1), ("B", 2)].into_iter().collect();
        let copy = ad.clone();
        ad.insert("a", 3);
        assert_eq!(
            ad.iter().map(|(n, _)| n.to_string()).collect::<Vec<_>>(),
            ["A", "B"]
        );
        assert_eq!((ad.int("A"), copy.int("A")), (Some(3), Some(1)));
    }
}
