//! Which attributes an expression refers to.

use crate::expr::{Expr, Node, Reference};
use crate::{AttrName, ClassAd};

/// The attributes an expression refers to by name, each once, in the order of their first mention.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct References {
    /// Without scope: of the ad itself or, if it has none of that name, of the other ad of the match.
    pub unscoped: Vec<AttrName>,
    /// Of the ad itself (`MY.Name`).
    pub my: Vec<AttrName>,
    /// Of the other ad of a match (`TARGET.Name`).
    pub target: Vec<AttrName>,
}

impl Expr {
    /// The attributes this expression refers to. Attributes that these refer to in turn are not followed, names that an
    /// ad inside the expression defines are listed as well, and names computed at evaluation (`eval("...")`) are unknown.
    #[must_use]
    pub fn references(&self) -> References {
        let mut found = References::default();
        collect(self, &mut found);
        found
    }
}

impl ClassAd {
    /// Every attribute of this ad that `names` refer to, directly or through each other, `names` included, and every
    /// attribute of the other ad of a match that is referred to on the way.
    ///
    /// Of a name without scope that is not in this ad the answer says that it belongs to the other one.
    #[must_use]
    pub fn reference_closure(&self, names: &[&str]) -> References {
        let mut closure = References::default();
        let mut open: Vec<AttrName> = names.iter().map(|name| AttrName::from(*name)).collect();
        while let Some(name) = open.pop() {
            if closure.my.contains(&name) {
                continue;
            }
            let Some(expr) = self.get(name.as_str()) else {
                continue;
            };
            closure.my.push(name);
            let found = expr.references();
            for name in found.unscoped.into_iter().chain(found.my) {
                if self.contains(name.as_str()) {
                    open.push(name);
                } else {
                    add(&mut closure.target, &name);
                }
            }
            for name in &found.target {
                add(&mut closure.target, name);
            }
        }
        closure
    }
}

fn add(list: &mut Vec<AttrName>, name: &AttrName) {
    if !list.contains(name) {
        list.push(name.clone());
    }
}

fn collect(expr: &Expr, found: &mut References) {
    match expr.node() {
        Node::Literal(_) => {}
        Node::Reference(reference) => named(reference, found),
        Node::Unary(_, inner) | Node::Paren(inner) => collect(inner, found),
        Node::Chain(first, rest) => {
            collect(first, found);
            rest.iter().for_each(|(_, operand)| collect(operand, found));
        }
        Node::Conditional(condition, yes, no) => {
            [condition, no]
                .into_iter()
                .chain(yes)
                .for_each(|part| collect(part, found));
        }
        Node::Subscript(list, index) => [list, index]
            .into_iter()
            .for_each(|part| collect(part, found)),
        Node::Call(call) => call.args.iter().for_each(|arg| collect(arg, found)),
        Node::List(items) => items.iter().for_each(|item| collect(item, found)),
        Node::Ad(ad) => ad.iter().for_each(|(_, value)| collect(value, found)),
    }
}

fn named(reference: &Reference, found: &mut References) {
    let Some(base) = &reference.base else {
        let list = if reference.absolute {
            &mut found.my
        } else {
            &mut found.unscoped
        };
        add(list, &reference.name);
        return;
    };
    if let Node::Reference(scope) = base.node()
        && scope.base.is_none()
    {
        let scope = &scope.name;
        if ["MY", "SELF"].iter().any(|name| scope.matches(name)) {
            return add(&mut found.my, &reference.name);
        }
        if ["TARGET", "OTHER"].iter().any(|name| scope.matches(name)) {
            return add(&mut found.target, &reference.name);
        }
    }
    collect(base, found);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[AttrName]) -> Vec<&str> {
        list.iter().map(AttrName::as_str).collect()
    }

    #[test]
    fn each_name_is_listed_once_under_its_scope() {
        let text = "TARGET.Memory > my.RequestMemory && (cpus >= Cpus ? foo[bar] : !baz) \
                    && stringListMember(OpSys, {x, y.z}) && target.memory > 1";
        let found = Expr::parse_old(text).unwrap().references();
        assert_eq!(names(&found.target), ["Memory"]);
        assert_eq!(names(&found.my), ["RequestMemory"]);
        let mut unscoped = names(&found.unscoped);
        unscoped.sort_unstable();
        assert_eq!(unscoped, ["OpSys", "bar", "baz", "cpus", "foo", "x", "y"]);
    }

    #[test]
    fn the_closure_follows_own_attributes_and_ends_in_circles() {
        let ad = ClassAd::parse_old(
            "Requirements = A && TARGET.Arch == \"X\" && OpSys == 1\nA = B\nB = A || Limit > 1\nLimit = 2\nUnused = 3",
        )
        .unwrap();
        let closure = ad.reference_closure(&["Requirements", "Rank"]);
        let mut my = names(&closure.my);
        my.sort_unstable();
        assert_eq!(my, ["A", "B", "Limit", "Requirements"]);
        let mut target = names(&closure.target);
        target.sort_unstable();
        assert_eq!(target, ["Arch", "OpSys"]);
    }
}
