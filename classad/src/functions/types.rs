//! `isUndefined()` and its like: what type a value has. They never fail for one argument, whatever its value.

use super::arguments::exactly;
use crate::eval::{Evaluated, Machine, Scope, Val};
use crate::expr::Call;

macro_rules! type_predicates {
    ($($name:ident => $pattern:pat),+ $(,)?) => {
        $(
            pub(crate) fn $name(m: &mut Machine, call: &Call, scope: &Scope) -> Evaluated<Val> {
                Ok(match exactly(m, call, scope)? {
                    Some([val]) => Val::Boolean(matches!(val, $pattern)),
                    None => Val::Error,
                })
            }
        )+
    };
}

type_predicates! {
    is_undefined => Val::Undefined,
    is_error => Val::Error,
    is_string => Val::String(_),
    is_integer => Val::Integer(_),
    is_real => Val::Real(_),
    is_boolean => Val::Boolean(_),
    is_list => Val::List(_),
    is_classad => Val::Ad(_),
    is_abs_time => Val::AbsoluteTime(_),
    is_rel_time => Val::RelativeTime(_),
}
