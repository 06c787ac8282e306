//! The templates of `use CATEGORY : NAME`, and their arguments.
//!
//! What each sets is HTCondor's (`htcondor:src/condor_utils/param_info.in`, 23.9.6). Only templates that matter to an
//! execute node are here. Any other one is an error at its line, because ignoring it could leave a node less strict
//! than its configuration says.

use crate::error::ErrorKind;
use crate::line::is_space;

/// One template.
#[derive(Debug)]
pub(crate) struct Template {
    pub(crate) category: &'static str,
    pub(crate) name: &'static str,
    pub(crate) text: &'static str,
}

const fn template(category: &'static str, name: &'static str, text: &'static str) -> Template {
    Template {
        category,
        name,
        text,
    }
}

/// The categories that exist.
const CATEGORIES: [&str; 6] = [
    "ROLE",
    "SECURITY",
    "FEATURE",
    "POLICY",
    "UPGRADE",
    "EXPERIMENTAL",
];

static TEMPLATES: &[Template] = &[
    template(
        "ROLE",
        "Personal",
        "CONDOR_HOST = 127.0.0.1\n\
         COLLECTOR_HOST = $(CONDOR_HOST):0\n\
         DAEMON_LIST = MASTER COLLECTOR NEGOTIATOR STARTD SCHEDD\n\
         RunBenchmarks = 0\n",
    ),
    template("ROLE", "Execute", "DAEMON_LIST = $(DAEMON_LIST) STARTD\n"),
    template("ROLE", "Submit", "DAEMON_LIST = $(DAEMON_LIST) SCHEDD\n"),
    template(
        "ROLE",
        "CentralManager",
        "DAEMON_LIST = $(DAEMON_LIST) COLLECTOR NEGOTIATOR\n",
    ),
    template(
        "ROLE",
        "get_htcondor_execute",
        "use SECURITY : get_htcondor_idtokens\nuse ROLE : Execute\n",
    ),
    template(
        "SECURITY",
        "HOST_BASED",
        "ALLOW_ADMINISTRATOR = $(CONDOR_HOST)\n\
         ALLOW_READ = *\n\
         ALLOW_WRITE = $(FULL_HOSTNAME) $(IPV4_ADDRESS) $(IPV6_ADDRESS)\n\
         ALLOW_DAEMON = $(FULL_HOSTNAME) $(IPV4_ADDRESS) $(IPV6_ADDRESS)\n\
         ALLOW_NEGOTIATOR = $(CONDOR_HOST)\n\
         ALLOW_NEGOTIATOR_SCHEDD = $(ALLOW_NEGOTIATOR) $(FLOCK_NEGOTIATOR_HOSTS)\n\
         ALLOW_WRITE_COLLECTOR = $(ALLOW_WRITE) $(FLOCK_FROM)\n\
         ALLOW_WRITE_STARTD = $(ALLOW_WRITE) $(FLOCK_FROM)\n\
         ALLOW_READ_COLLECTOR = $(ALLOW_READ) $(FLOCK_FROM)\n\
         ALLOW_READ_STARTD = $(ALLOW_READ) $(FLOCK_FROM)\n\
         LEGACY_ALLOW_SEMANTICS = TRUE\n",
    ),
    template(
        "SECURITY",
        "USER_BASED",
        "if $(CondorIsAdmin)\n\
         authuser = condor\n\
         else\n\
         authuser = $(USERNAME)\n\
         endif\n\
         ALLOW_ADMINISTRATOR = $(authuser)@$(CONDOR_HOST)\n\
         ALLOW_READ = *\n\
         ALLOW_WRITE = $(authuser)@$(FULL_HOSTNAME) $(authuser)@$(IP_ADDRESS)\n\
         ALLOW_DAEMON = $(authuser)@$(FULL_HOSTNAME) $(authuser)@$(IP_ADDRESS)\n\
         ALLOW_NEGOTIATOR = $(authuser)@$(CONDOR_HOST)\n\
         ALLOW_NEGOTIATOR_SCHEDD = $(ALLOW_NEGOTIATOR) $(FLOCK_NEGOTIATOR_HOSTS)\n\
         ALLOW_WRITE_COLLECTOR = $(ALLOW_WRITE) $(FLOCK_FROM)\n\
         ALLOW_WRITE_STARTD = $(ALLOW_WRITE) $(FLOCK_FROM)\n\
         ALLOW_READ_COLLECTOR = $(ALLOW_READ) $(FLOCK_FROM)\n\
         ALLOW_READ_STARTD = $(ALLOW_READ) $(FLOCK_FROM)\n\
         use SECURITY : WITH_AUTHENTICATION\n",
    ),
    template(
        "SECURITY",
        "WITH_AUTHENTICATION",
        "SEC_DEFAULT_AUTHENTICATION = required\nSEC_DEFAULT_INTEGRITY = required\n",
    ),
    template(
        "SECURITY",
        "STRONG",
        "SEC_DEFAULT_ENCRYPTION = required\n\
         SEC_DEFAULT_INTEGRITY = required\n\
         SEC_DEFAULT_AUTHENTICATION = required\n",
    ),
    template(
        "SECURITY",
        "recommended_v9_0",
        "SECURITY_MODEL = 9.0\n\
         use SECURITY : STRONG\n\
         SEC_READ_AUTHENTICATION = OPTIONAL\n\
         SEC_READ_ENCRYPTION = OPTIONAL\n\
         SEC_READ_INTEGRITY = OPTIONAL\n\
         ALLOW_ADMINISTRATOR = $(1:condor)@* condor_pool@* $(2:root@*) $(3+)\n\
         ALLOW_DAEMON = $(1:condor)@*  condor_pool@*\n\
         ALLOW_NEGOTIATOR = $(1:condor)@* condor_pool@*\n\
         ALLOW_WRITE = *\n\
         ALLOW_READ = *\n",
    ),
    template(
        "SECURITY",
        "get_htcondor_idtokens",
        "use SECURITY : STRONG\n\
         SEC_DEFAULT_AUTHENTICATION_METHODS = IDTOKENS, FS\n\
         SEC_READ_AUTHENTICATION_METHODS = IDTOKENS, FS, ANONYMOUS\n\
         SEC_CLIENT_AUTHENTICATION_METHODS = IDTOKENS, FS, ANONYMOUS\n\
         TRUST_DOMAIN = $(CONDOR_HOST)\n\
         ALLOW_READ = *\n\
         ALLOW_ADMINISTRATOR = root@* condor@$(TRUST_DOMAIN)\n\
         ALLOW_WRITE = condor@$(TRUST_DOMAIN)\n\
         ALLOW_DAEMON = condor@$(TRUST_DOMAIN)\n\
         ALLOW_NEGOTIATOR = condor@$(TRUST_DOMAIN)\n",
    ),
    template(
        "SECURITY",
        "FIPS",
        "FIPS = True\nuse SECURITY : STRONG\nSEC_DEFAULT_CRYPTO_METHODS = AES,3DES\n",
    ),
    template(
        "POLICY",
        "ALWAYS_RUN_JOBS",
        "WANT_SUSPEND = False\n\
         WANT_VACATE = True\n\
         SUSPEND = False\n\
         CONTINUE = True\n\
         PREEMPT = False\n\
         START = True\n\
         KILL = False\n\
         PREEMPTION_REQUIREMENTS = False\n\
         NEGOTIATOR_CONSIDER_PREEMPTION = False\n\
         MaxJobRetirementTime = 2147483647\n\
         CLAIM_WORKLIFE = 1200\n",
    ),
];

/// Finds a template, in any case.
pub(crate) fn find(category: &str, name: &str) -> Result<&'static Template, ErrorKind> {
    if !CATEGORIES
        .iter()
        .any(|known| known.eq_ignore_ascii_case(category))
    {
        return Err(ErrorKind::UnknownCategory {
            category: category.to_owned(),
        });
    }
    let known = TEMPLATES
        .iter()
        .filter(|template| template.category.eq_ignore_ascii_case(category));
    known
        .clone()
        .find(|template| template.name.eq_ignore_ascii_case(name))
        .ok_or_else(|| {
            let known: Vec<_> = known.map(|template| template.name).collect();
            ErrorKind::UnknownTemplate {
                category: category.to_ascii_uppercase(),
                name: name.to_owned(),
                known: if known.is_empty() {
                    "none of this category".to_owned()
                } else {
                    known.join(", ")
                },
            }
        })
}

/// Whether `if defined use CATEGORY` or `if defined use CATEGORY:NAME` holds. HTCondor may know more than we do.
pub(crate) fn is_known(category: &str, name: &str) -> bool {
    if name.is_empty() {
        return CATEGORIES
            .iter()
            .any(|known| known.eq_ignore_ascii_case(category));
    }
    find(category, name).is_ok()
}

/// One `NAME` or `NAME(args)` of the list after `use CATEGORY :`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Use<'a> {
    pub(crate) name: &'a str,
    pub(crate) args: &'a str,
}

/// Takes the list after the colon apart; names are separated by blanks or commas.
pub(crate) fn uses(list: &str) -> Vec<Use<'_>> {
    let separator = |c: char| is_space(c) || c == ',';
    let mut uses = Vec::new();
    let mut rest = list.trim_start_matches(separator);
    while !rest.is_empty() {
        let end = rest
            .find(|c| separator(c) || c == '(')
            .unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        if name.is_empty() {
            break;
        }
        let after = after.trim_start_matches(is_space);
        let (args, after) = match after.starts_with('(').then(|| closing(after)).flatten() {
            Some(close) => (
                after.get(1..close).unwrap_or(""),
                after.get(close + 1..).unwrap_or(""),
            ),
            None => ("", after.strip_prefix('(').unwrap_or(after)),
        };
        uses.push(Use { name, args });
        rest = after.trim_start_matches(separator);
    }
    uses
}

/// Offset of the parenthesis that closes the first one; brackets nest.
fn closing(text: &str) -> Option<usize> {
    let mut open = Vec::new();
    for (at, c) in text.char_indices() {
        match c {
            '(' => open.push(')'),
            '[' => open.push(']'),
            ')' | ']' if open.last() == Some(&c) => {
                open.pop();
                if open.is_empty() {
                    return Some(at);
                }
            }
            _ => {}
        }
        if open.len() > 25 {
            return None;
        }
    }
    None
}

/// Puts the arguments in: `$(0)` all, `$(1)` the first, `$(1:x)` with a default, `$(1?)` 1 or 0 for given or not,
/// `$(2+)` the second and all after it, `$(0#)` how many.
pub(crate) fn with_arguments(text: &str, args: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("$(") {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        match argument(from, args) {
            Some((value, after)) => {
                out.push_str(value.trim_matches(is_space));
                rest = after;
            }
            None => {
                out.push_str("$(");
                rest = from.get(2..).unwrap_or("");
            }
        }
    }
    out.push_str(rest);
    out
}

/// The value of the argument reference that `from` begins with, and what follows it.
fn argument<'a>(from: &'a str, args: &str) -> Option<(String, &'a str)> {
    let (body, after) = from.strip_prefix("$(")?.split_once(')')?;
    let digits = body.bytes().take_while(u8::is_ascii_digit).count();
    let (index, suffix) = body.split_at(digits);
    let index: usize = index.parse().ok()?;
    let (mark, default) = match suffix.split_once(':') {
        Some((mark, default)) => (mark, default),
        None => (suffix, ""),
    };
    let given: Vec<&str> = args
        .split(',')
        .map(|arg| arg.trim_matches(is_space))
        .filter(|arg| !arg.is_empty())
        .collect();
    let one = match index {
        0 => args.to_owned(),
        _ => given
            .get(index - 1)
            .map_or_else(|| default.to_owned(), |&arg| arg.to_owned()),
    };
    let value = match mark {
        "" => one,
        "?" => (if one.trim().is_empty() { "0" } else { "1" }).to_owned(),
        "#" | "+" if index == 0 => given.len().to_string(),
        "#" | "+" => match args
            .split(',')
            .skip(index - 1)
            .collect::<Vec<_>>()
            .join(",")
        {
            rest if rest.is_empty() => default.to_owned(),
            rest => rest,
        },
        _ => return None,
    };
    Some((value, after))
}
