//! What the configuration and the files it names say: what `sailplane-policy check` finds, and what it cannot know,
//! because it asks no name service.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use sailplane_policy::config::{Config, FileKind};
use validation::{Failure, Outcome};

use super::ground::{self, Account, Ground};
use super::results::{Found, Results, check, warning};

/// Longest time for `sailplane-policy check`.
const CHECK_LIMIT: Duration = Duration::from_secs(20);

/// All of it.
pub(super) fn examine(results: &mut Results, ground: &Ground) {
    let said = check_policy(ground);
    results.run(
        check("policy-check", "what sailplane-policy check finds wrong")
            .needs("helper-programs")
            .needs("helper-config"),
        || errors(&said, ground),
    );
    results.run(
        warning("policy-advice", "what sailplane-policy check warns of")
            .needs("helper-programs")
            .needs("helper-config"),
        || warnings(&said),
    );
    let Ok(config) = &ground.config else {
        return;
    };
    results.run(
        warning(
            "map-targets",
            "accounts in the map files exist, and the helper may switch to them",
        )
        .needs("helper-config"),
        || targets(config, ground),
    );
    results.run(
        check("dynamic-uids", "the numbers for payloads belong to nobody").needs("helper-config"),
        || dynamic_uids(config),
    );
    results.run(
        check("trust-anchors", "the folder of certification authorities").needs("helper-config"),
        || anchors(config),
    );
}

type Checked = Result<String, Failure>;

fn check_policy(ground: &Ground) -> Checked {
    let program = ground.programs.join("sailplane-policy");
    let mut command = Command::new(&program);
    command.arg("check").arg(&ground.config_path);
    let said = ground::run(&mut command, CHECK_LIMIT).map_err(|error| {
        Failure::site(
            format!(
                "{} cannot be run: {}",
                program.display(),
                ground::words(&error)
            ),
            "install it again",
        )
    })?;
    match said.status {
        Some(0 | 1) => Ok(said.text),
        _ => Err(Failure::site(
            format!(
                "{} check did not end as it should: {}",
                program.display(),
                said.text.trim()
            ),
            "run it by hand",
        )),
    }
}

fn marked<'a>(text: &'a str, mark: &str) -> Vec<&'a str> {
    text.lines()
        .filter_map(|line| line.strip_prefix(mark))
        .collect()
}

fn errors(said: &Checked, ground: &Ground) -> Found {
    let text = said.as_ref().map_err(Clone::clone)?;
    let errors = marked(text, "error: ");
    let Some(first) = errors.first() else {
        return Ok(Outcome::passed());
    };
    if !ground.is_root
        && errors
            .iter()
            .all(|error| error.contains("Permission denied"))
    {
        return Ok(Outcome::skipped(format!(
            "only root can read all of it: {first}"
        )));
    }
    let more = match errors.len() {
        1 => String::new(),
        count => format!(" (and {} more)", count - 1),
    };
    let failure = Failure::site(
        format!("{first}{more}"),
        format!(
            "mend what is named, until sailplane-policy check {} finds nothing",
            ground.config_path.display()
        ),
    );
    Ok(Outcome::failed(failure).detail(errors.join("\n")))
}

fn warnings(said: &Checked) -> Found {
    let text = said.as_ref().map_err(Clone::clone)?;
    let warnings = marked(text, "warning: ");
    let Some(first) = warnings.first() else {
        return Ok(Outcome::passed());
    };
    let failure = Failure::site((*first).to_owned(), "look whether it is meant so");
    Ok(Outcome::failed(failure).detail(warnings.join("\n")))
}

/// The lines of map files whose account the helper will refuse, or cannot find.
fn targets(config: &Config, ground: &Ground) -> Found {
    let mut bad = String::new();
    let (mut lines, mut wrong) = (0_u32, 0_u32);
    for (kind, path) in config.policy_files() {
        if !matches!(
            kind,
            FileKind::Gridmap | FileKind::Vomsmap | FileKind::Tokenmap
        ) {
            continue;
        }
        for (number, name) in accounts_in(path) {
            lines += 1;
            if let Some(why) = unfit(&name, config, ground.caller_uid()) {
                wrong += 1;
                let _ = writeln!(bad, "{}:{number}: {why}", path.display());
            }
        }
    }
    if lines == 0 {
        return Ok(Outcome::skipped("no map file names an account"));
    }
    let outcome = match bad.lines().next() {
        None => Outcome::passed(),
        Some(first) => Outcome::failed(Failure::site(
            first.to_owned(),
            "make the account, or map to one that target_uid_min, target_uid_max, account_prefixes and forbidden_accounts allow",
        ))
        .detail(bad.trim_end()),
    };
    Ok(outcome.number("lines", f64::from(lines), "", None).number(
        "wrong",
        f64::from(wrong),
        "",
        None,
    ))
}

/// Accounts, not pools, with their lines; as far as they can be told without reading the names.
fn accounts_in(path: &Path) -> Vec<(usize, String)> {
    let text = fs::read_to_string(path).unwrap_or_default();
    (1..)
        .zip(text.lines())
        .filter(|(_, line)| !line.trim_start().starts_with('#'))
        .filter_map(|(number, line)| {
            let target = line.split_whitespace().last()?;
            let name = target.split(',').next()?;
            let is_account = !name.starts_with('.') && !name.ends_with('"');
            is_account.then(|| (number, name.to_owned()))
        })
        .collect()
}

/// Why the helper would not switch to an account.
fn unfit(name: &str, config: &Config, caller: Option<u32>) -> Option<String> {
    let targets = &config.settings.targets;
    let Account { uid, .. } = match ground::account(name) {
        Ok(account) => account,
        Err(why) => return Some(why),
    };
    if uid == 0 {
        return Some(format!("{name} is root"));
    }
    if caller == Some(uid) {
        return Some(format!("{name} is the pilots' own account"));
    }
    if uid < targets.uid_min || uid > targets.uid_max {
        return Some(format!(
            "{name} has the number {uid}, outside of target_uid_min to target_uid_max ({} to {})",
            targets.uid_min, targets.uid_max
        ));
    }
    if targets.forbidden.iter().any(|one| one == name) {
        return Some(format!("{name} is in forbidden_accounts"));
    }
    if !targets.prefixes.is_empty()
        && !targets
            .prefixes
            .iter()
            .any(|prefix| name.starts_with(prefix))
    {
        return Some(format!("account_prefixes does not allow {name}"));
    }
    None
}

fn dynamic_uids(config: &Config) -> Found {
    let Some((first, last)) = config.settings.targets.dynamic_uids else {
        return Ok(Outcome::skipped("dynamic_uids is not set"));
    };
    let range = first..=last;
    let size = u64::from(last.saturating_sub(first)) + 1;
    // The name service itself is asked for the ends only: a range may hold millions.
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let taken = passwd.lines().find_map(|line| {
        let mut parts = line.split(':');
        let name = parts.next()?;
        let uid: u32 = parts.nth(1)?.parse().ok()?;
        range.contains(&uid).then(|| format!("{name} ({uid})"))
    });
    let asked = [first, last]
        .into_iter()
        .find_map(|uid| Some(format!("{} ({uid})", ground::uid_name(uid)?)));
    if let Some(who) = taken.or(asked) {
        return Err(Failure::site(
            format!("dynamic_uids = {first}-{last} holds the number of the account {who}"),
            "choose numbers that belong to nobody, on this node and in its directory",
        ));
    }
    for file in ["/etc/subuid", "/etc/subgid"] {
        let text = fs::read_to_string(file).unwrap_or_default();
        let overlap = text.lines().find(|line| {
            let mut numbers = line
                .split(':')
                .skip(1)
                .filter_map(|word| word.parse::<u64>().ok());
            match (numbers.next(), numbers.next()) {
                (Some(start), Some(count)) => {
                    start <= u64::from(last) && start + count > u64::from(first)
                }
                _ => false,
            }
        });
        if let Some(line) = overlap {
            return Err(Failure::site(
                format!(
                    "dynamic_uids = {first}-{last} overlaps with {line:?} of {file}, the numbers of somebody's containers"
                ),
                "choose numbers outside of /etc/subuid and /etc/subgid",
            ));
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "at most 2^32")]
    let size = size as f64;
    Ok(Outcome::passed().number("numbers", size, "", None))
}

fn anchors(config: &Config) -> Found {
    let mut outcome = Outcome::passed();
    for dir in &config.settings.verifier.directories {
        let names = fs::read_dir(dir).map_err(|error| {
            Failure::site(
                format!("{}: {}", dir.display(), ground::words(&error)),
                "install the CA files of your grid (IGTF), or correct certdir and vomsdir",
            )
        })?;
        let mut found = (0_u32, 0_u32);
        for name in names
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
        {
            let Some((stem, end)) = name.rsplit_once('.') else {
                continue;
            };
            let is_hash = stem.len() == 8 && stem.bytes().all(|byte| byte.is_ascii_hexdigit());
            let is_number =
                |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            match end.strip_prefix('r') {
                _ if !is_hash => {}
                Some(number) if is_number(number) => found.1 += 1,
                _ if is_number(end) => found.0 += 1,
                _ => {}
            }
        }
        // The other one is of VOMS servers.
        let is_certdir = config.settings.verifier.directories.first() == Some(dir);
        if is_certdir && found.0 == 0 {
            return Err(Failure::site(
                format!("{} holds no CA certificate (HASH.0)", dir.display()),
                "install the CA files of your grid (IGTF), or correct certdir",
            ));
        }
        if is_certdir {
            outcome = outcome
                .number("authorities", f64::from(found.0), "", None)
                .number("revocation_lists", f64::from(found.1), "", None);
        }
    }
    Ok(outcome)
}
