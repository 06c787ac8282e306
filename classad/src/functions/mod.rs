//! Built-in functions. What they do is taken from `htcondor:src/classad/fnCall.cpp` and
//! `htcondor:src/condor_utils/compat_classad.cpp`, and checked against recorded answers of the real library
//! (`tests/reference`).

mod arguments;
mod context;
mod convert;
mod environment;
mod lists;
mod math;
mod patterns;
mod random;
mod string_lists;
mod strings;
mod time;
mod types;
mod versions;

use crate::eval::{Evaluated, Machine, Scope, Val};
use crate::expr::Call;

pub(crate) use patterns::PatternCache;
pub(crate) use random::Random;

/// A built-in function.
#[derive(Debug)]
pub(crate) struct Function {
    name: &'static str,
    pub(crate) body: Body,
}

type Body = fn(&mut Machine, &Call, &Scope) -> Evaluated<Val>;

/// Finds a function by name, without regard to case.
pub(crate) fn find(name: &str) -> Option<&'static Function> {
    TABLE.iter().find(|f| f.name.eq_ignore_ascii_case(name))
}

const fn function(name: &'static str, body: Body) -> Function {
    Function { name, body }
}

static TABLE: [Function; 94] = [
    // the most used first: the table is searched from the front, at parse time
    function("ifThenElse", context::if_then_else),
    function("isUndefined", types::is_undefined),
    function("time", time::time),
    function("strcat", strings::strcat),
    function("stringListMember", string_lists::member),
    function("stringListIMember", string_lists::member_ignoring_case),
    function("regexp", patterns::regexp),
    function("int", convert::int),
    function("real", convert::real),
    function("string", convert::string),
    function("bool", convert::bool),
    function("absTime", convert::abs_time),
    function("relTime", convert::rel_time),
    function("isError", types::is_error),
    function("isString", types::is_string),
    function("isInteger", types::is_integer),
    function("isReal", types::is_real),
    function("isList", types::is_list),
    function("isClassAd", types::is_classad),
    function("isBoolean", types::is_boolean),
    function("isAbsTime", types::is_abs_time),
    function("isRelTime", types::is_rel_time),
    function("member", lists::member),
    function("identicalMember", lists::identical_member),
    function("size", lists::size),
    function("sum", lists::sum),
    function("avg", lists::avg),
    function("min", lists::min),
    function("max", lists::max),
    function("anyCompare", lists::any_compare),
    function("allCompare", lists::all_compare),
    function("currentTime", time::current_time),
    function("timeZoneOffset", time::time_zone_offset),
    function("dayTime", time::day_time),
    function("getYear", time::get_year),
    function("getMonth", time::get_month),
    function("getDayOfYear", time::get_day_of_year),
    function("getDayOfMonth", time::get_day_of_month),
    function("getDayOfWeek", time::get_day_of_week),
    function("getDays", time::get_days),
    function("getHours", time::get_hours),
    function("getMinutes", time::get_minutes),
    function("getSeconds", time::get_seconds),
    function("splitTime", time::split_time),
    function("formatTime", time::format_time),
    function("interval", time::interval),
    function("join", strings::join),
    function("toUpper", strings::to_upper),
    function("toLower", strings::to_lower),
    function("substr", strings::substr),
    function("strcmp", strings::strcmp),
    function("stricmp", strings::stricmp),
    function("split", strings::split),
    function("splitUserName", strings::split_user_name),
    function("splitSlotName", strings::split_slot_name),
    function("versioncmp", versions::cmp),
    function("versionLE", versions::le),
    function("versionLT", versions::lt),
    function("versionGE", versions::ge),
    function("versionGT", versions::gt),
    function("versionEQ", versions::eq),
    function("version_in_range", versions::in_range),
    function("regexpMember", patterns::regexp_member),
    function("regexps", patterns::regexps),
    function("replace", patterns::replace),
    function("replaceAll", patterns::replace_all),
    function("stringList_regexpMember", patterns::string_list_member),
    function("unparse", context::unparse),
    function("unresolved", context::unresolved),
    function("eval", context::eval),
    function("debug", context::debug),
    function("evalInEachContext", context::eval_in_each_context),
    function("countMatches", context::count_matches),
    function("floor", math::floor),
    function("ceil", math::ceiling),
    function("ceiling", math::ceiling),
    function("round", math::round),
    function("pow", math::pow),
    function("quantize", math::quantize),
    function("random", math::random),
    function("stringListSize", string_lists::size),
    function("stringListSum", string_lists::sum),
    function("stringListAvg", string_lists::avg),
    function("stringListMin", string_lists::min),
    function("stringListMax", string_lists::max),
    function("stringListSubsetMatch", string_lists::subset),
    function("stringListISubsetMatch", string_lists::subset_ignoring_case),
    function("stringListsIntersect", string_lists::intersect),
    function("envV1ToV2", environment::env_v1_to_v2),
    function("mergeEnvironment", environment::merge_environment),
    function("listToArgs", environment::list_to_args),
    function("argsToList", environment::args_to_list),
    function("userHome", environment::user_home),
    function("userMap", environment::user_map),
];
