//! Where names are looked up.

use std::rc::Rc;

use super::{Evaluated, List, Machine, Val};
use crate::expr::{Expr, Reference};
use crate::{AttrName, ClassAd};

/// The ad an expression stands in, if any.
#[derive(Debug, Clone)]
pub(crate) struct Scope(pub(crate) Option<Rc<Frame>>);

/// An ad and the scope around it.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) ad: ClassAd,
    parent: Scope,
    side: Side,
}

/// Which of the two matched ads an outermost frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    My,
    Target,
    /// An ad made during the evaluation or nested in another.
    Neither,
}

impl Frame {
    pub(crate) fn root(ad: ClassAd, side: Side) -> Rc<Self> {
        Rc::new(Self {
            ad,
            parent: Scope(None),
            side,
        })
    }

    pub(crate) fn nested(ad: ClassAd, parent: Scope) -> Rc<Self> {
        Rc::new(Self {
            ad,
            parent,
            side: Side::Neither,
        })
    }

    /// The same ad, from which names without scope are also looked up in the other ad of the match, as they are from
    /// the ad around it (`htcondor:src/condor_utils/compat_classad.cpp`, evaluateInContext).
    pub(crate) fn seeing_the_other_side(frame: &Rc<Self>) -> Rc<Self> {
        Rc::new(Self {
            ad: frame.ad.clone(),
            parent: frame.parent.clone(),
            side: frame.outermost().side,
        })
    }

    /// The outermost frame around this one.
    fn outermost(self: &Rc<Self>) -> &Rc<Self> {
        let mut frame = self;
        while let Some(parent) = &frame.parent.0 {
            frame = parent;
        }
        frame
    }
}

/// What a name stands for.
enum Found {
    /// An attribute of the ad in the frame.
    Attribute(Rc<Frame>),
    /// An ad itself.
    Ad(Rc<Frame>),
    Clock,
    Nothing,
}

impl Machine {
    pub(crate) fn reference(&mut self, reference: &Reference, scope: &Scope) -> Evaluated<Val> {
        let found = match &reference.base {
            None if reference.absolute => self.absolute(&reference.name, scope),
            None => self.unscoped(&reference.name, scope),
            Some(base) => match self.eval(base, scope)? {
                Val::Ad(frame) => self.search(&reference.name, &frame),
                Val::List(list) => return self.project(&list, &reference.name),
                Val::Undefined => return Ok(Val::Undefined),
                _ => return Ok(Val::Error),
            },
        };
        match found {
            Found::Nothing => Ok(Val::Undefined),
            Found::Ad(frame) => Ok(Val::Ad(frame)),
            Found::Clock => Ok(self.now.map_or(Val::Error, Val::Integer)),
            Found::Attribute(frame) => {
                let inside = Scope(Some(Rc::clone(&frame)));
                match frame.ad.get_name(&reference.name) {
                    Some(expr) => self.eval(expr, &inside),
                    None => Ok(Val::Undefined),
                }
            }
        }
    }

    /// The expression a plain reference stands for and its scope, without evaluating it. `None` if there is none or
    /// it is not an attribute.
    pub(crate) fn dereference(
        &mut self,
        reference: &Reference,
        scope: &Scope,
    ) -> Evaluated<Option<(Expr, Scope)>> {
        let found = match &reference.base {
            None if reference.absolute => self.absolute(&reference.name, scope),
            None => self.unscoped(&reference.name, scope),
            Some(base) => match self.eval(base, scope)? {
                Val::Ad(frame) => self.search(&reference.name, &frame),
                _ => Found::Nothing,
            },
        };
        Ok(match found {
            Found::Attribute(frame) => {
                let expr = frame.ad.get_name(&reference.name).cloned();
                expr.map(|expr| (expr, Scope(Some(frame))))
            }
            Found::Ad(frame) => Some((Expr::from(frame.ad.clone()), frame.parent.clone())),
            Found::Clock | Found::Nothing => None,
        })
    }

    /// The scope in which `name` is an attribute, among the ads around the expression only.
    pub(crate) fn own(&self, name: &AttrName, scope: &Scope, absolute: bool) -> Option<Scope> {
        let found = if absolute {
            self.absolute(name, scope)
        } else {
            self.search(name, scope.0.as_ref()?)
        };
        match found {
            Found::Attribute(frame) => Some(Scope(Some(frame))),
            Found::Ad(_) | Found::Clock => Some(Scope(None)),
            Found::Nothing => None,
        }
    }

    /// `name`: the ads around the expression from the inside out, then the other ad of the match, if the expression
    /// stands directly in one of the two.
    fn unscoped(&self, name: &AttrName, scope: &Scope) -> Found {
        let Some(frame) = &scope.0 else {
            return Found::Nothing;
        };
        match self.search(name, frame) {
            Found::Nothing => match self.opposite(frame.side) {
                Some(other) => self.search(name, other),
                None => Found::Nothing,
            },
            found => found,
        }
    }

    /// `.name`: the outermost ad. In a match that is the pair of ads, which has only a few names.
    fn absolute(&self, name: &AttrName, scope: &Scope) -> Found {
        let Some(frame) = &scope.0 else {
            return Found::Nothing;
        };
        let root = frame.outermost();
        if self.opposite(root.side).is_some() {
            return self.pair(name);
        }
        self.search(name, root)
    }

    /// Looks a name up in an ad and the ads around it (`htcondor:src/classad/classad.cpp`, LookupInScope).
    fn search(&self, name: &AttrName, start: &Rc<Frame>) -> Found {
        let mut frame = start;
        if frame.ad.get_name(name).is_none() {
            if let Some(found) = special(name, frame) {
                return found;
            }
            while let Some(parent) = &frame.parent.0 {
                frame = parent;
                if frame.ad.get_name(name).is_some() {
                    return Found::Attribute(Rc::clone(frame));
                }
            }
            return self.beyond(name, frame.side);
        }
        Found::Attribute(Rc::clone(frame))
    }

    /// Names that a match puts around its two ads (`htcondor:src/classad/matchClassad.cpp`).
    fn beyond(&self, name: &AttrName, side: Side) -> Found {
        let Some(other) = self.opposite(side) else {
            return Found::Nothing;
        };
        let own = match side {
            Side::Target => self.target.as_ref(),
            Side::My | Side::Neither => self.my.as_ref(),
        };
        if name.matches("TARGET") || name.matches("OTHER") {
            Found::Ad(Rc::clone(other))
        } else if name.matches("AD") {
            own.map_or(Found::Nothing, |own| Found::Ad(Rc::clone(own)))
        } else {
            self.pair(name)
        }
    }

    fn pair(&self, name: &AttrName) -> Found {
        let ad = if name.matches("LEFT") {
            &self.my
        } else if name.matches("RIGHT") {
            &self.target
        } else {
            &None
        };
        ad.as_ref()
            .map_or(Found::Nothing, |ad| Found::Ad(Rc::clone(ad)))
    }

    fn opposite(&self, side: Side) -> Option<&Rc<Frame>> {
        match side {
            Side::My => self.target.as_ref(),
            Side::Target => self.my.as_ref(),
            Side::Neither => None,
        }
    }

    /// `list.name`: the attribute of every element.
    fn project(&mut self, list: &List, name: &AttrName) -> Evaluated<Val> {
        let mut items = Vec::with_capacity(list.len());
        while let Some(item) = self.element(list, items.len())? {
            let found = match item {
                Val::Ad(frame) => self.search(name, &frame),
                Val::List(inner) => {
                    items.push(self.project(&inner, name)?);
                    continue;
                }
                Val::Undefined => Found::Nothing,
                _ => {
                    items.push(Val::Error);
                    continue;
                }
            };
            items.push(match found {
                Found::Attribute(frame) => match frame.ad.get_name(name) {
                    Some(expr) => self.eval(expr, &Scope(Some(Rc::clone(&frame))))?,
                    None => Val::Undefined,
                },
                Found::Ad(frame) => Val::Ad(frame),
                Found::Clock => self.now.map_or(Val::Error, Val::Integer),
                Found::Nothing => Val::Undefined,
            });
        }
        self.made(items)
    }
}

/// Names that every ad answers to unless it has such an attribute.
fn special(name: &AttrName, frame: &Rc<Frame>) -> Option<Found> {
    if name.matches("MY") || name.matches("SELF") {
        Some(Found::Ad(Rc::clone(frame)))
    } else if name.matches("PARENT") {
        let parent = frame.parent.0.as_ref();
        Some(parent.map_or(Found::Nothing, |parent| Found::Ad(Rc::clone(parent))))
    } else if name.matches("TOPLEVEL") || name.matches("ROOT") {
        Some(Found::Ad(Rc::clone(frame.outermost())))
    } else if name.matches("CurrentTime") {
        Some(Found::Clock)
    } else {
        None
    }
}
