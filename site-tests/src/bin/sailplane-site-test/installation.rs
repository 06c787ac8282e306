//! How the helper is installed: programs, modes, owners, file systems.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::statvfs::{FsFlags, statvfs};
use validation::{Failure, Outcome};

use super::ground::{self, Ground};
use super::results::{Found, Results, check, warning};

/// The programs that the helper starts.
const PROGRAMS: [&str; 7] = [
    "sailplane-broker",
    "sailplane-admin",
    "sailplane-verify",
    "sailplane-policy",
    "sailplane-names",
    "sailplane-names-nss",
    "sailplane-job",
];

/// All of it.
pub(super) fn examine(results: &mut Results, ground: &Ground) {
    results.run(
        check(
            "helper-installed",
            "the helper is there, is root's, and is set-uid",
        ),
        || helper(&ground.helper),
    );
    results.run(
        check(
            "helper-filesystem",
            "its file system lets a set-uid program become root",
        )
        .needs("helper-installed"),
        || filesystem(&ground.helper),
    );
    results.run(
        check("helper-programs", "the programs that the helper starts"),
        || programs(ground),
    );
    results.run(
        warning(
            "helper-version",
            "helper, policy service and this program are of one release",
        )
        .needs("helper-installed")
        .needs("helper-programs"),
        || versions(ground),
    );
    results.run(
        check(
            "helper-config",
            "the configuration is there, and nobody but root can change it",
        ),
        || config(ground),
    );
    results.run(check("caller", "the account that calls the helper"), || {
        caller(ground)
    });
    results.run(
        check("execute-dirs", "the folders for sandboxes").needs("helper-config"),
        || execute_dirs(ground),
    );
}

fn helper(path: &Path) -> Found {
    let shown = path.display();
    let install = "install it with examples/site/install, or name it with --helper";
    let facts = fs::metadata(path)
        .map_err(|error| Failure::site(format!("{shown}: {}", ground::words(&error)), install))?;
    if !facts.is_file() {
        return Err(Failure::site(format!("{shown} is no file"), install));
    }
    let mode = facts.mode() & 0o7777;
    let mend = format!("chown root:root {shown} && chmod 4755 {shown}");
    if facts.uid() != 0 {
        let owner = ground::uid_name(facts.uid()).unwrap_or_else(|| facts.uid().to_string());
        return Err(Failure::site(
            format!("{shown} belongs to {owner}; it must belong to root"),
            mend,
        ));
    }
    if mode & 0o4000 == 0 {
        return Err(Failure::site(
            format!(
                "{shown} has mode {mode:04o} without the set-uid bit, so it cannot become root"
            ),
            mend,
        ));
    }
    if let Some(why) = ground::distrust(path) {
        return Err(Failure::site(
            why,
            "take the right to write away: whoever can change the helper is root",
        ));
    }
    if mode & 0o011 == 0 {
        return Err(Failure::site(
            format!("{shown} has mode {mode:04o}; the pilots cannot execute it"),
            mend,
        ));
    }
    Ok(Outcome::passed().text("mode", format!("{mode:04o}")))
}

fn filesystem(path: &Path) -> Found {
    let facts = statvfs(path).map_err(|errno| {
        Failure::site(
            format!("{}: {}", path.display(), errno.desc()),
            "look at the mount",
        )
    })?;
    for (flag, word) in [
        (FsFlags::ST_NOSUID, "nosuid"),
        (FsFlags::ST_NOEXEC, "noexec"),
    ] {
        if facts.flags().contains(flag) {
            return Err(Failure::site(
                format!(
                    "{} lies on a file system that is mounted {word}",
                    path.display()
                ),
                format!(
                    "mount it without {word} (mount -o remount), or install the helper elsewhere (--prefix)"
                ),
            ));
        }
    }
    Ok(Outcome::passed())
}

fn programs(ground: &Ground) -> Found {
    for name in PROGRAMS {
        let path = ground.programs.join(name);
        let shown = path.display();
        let mend = format!("install {shown} again with examples/site/install");
        let facts = fs::metadata(&path).map_err(|error| {
            Failure::site(format!("{shown}: {}", ground::words(&error)), mend.clone())
        })?;
        if !facts.is_file() || facts.mode() & 0o001 == 0 {
            let mode = facts.mode() & 0o7777;
            return Err(Failure::site(
                format!("{shown} has mode {mode:04o}; it must be executable by everybody"),
                format!("chmod 755 {shown}"),
            ));
        }
        if let Some(why) = ground::distrust(&path) {
            return Err(Failure::site(why, mend));
        }
        if statvfs(&path).is_ok_and(|facts| facts.flags().contains(FsFlags::ST_NOEXEC)) {
            return Err(Failure::site(
                format!("{shown} lies on a file system that is mounted noexec"),
                "mount it without noexec, or install the helper elsewhere",
            ));
        }
    }
    Ok(Outcome::passed())
}

/// How long a program may take to say its version.
const WORD: Duration = Duration::from_secs(5);

fn versions(ground: &Ground) -> Found {
    let ours = env!("CARGO_PKG_VERSION");
    let mut outcome = Outcome::passed();
    let mut others: Vec<PathBuf> = vec![ground.helper.clone()];
    others.push(ground.programs.join("sailplane-policy"));
    for path in others {
        let said = ground::run(Command::new(&path).arg("--version"), WORD).map_err(|error| {
            Failure::site(
                format!(
                    "{} cannot be run: {}",
                    path.display(),
                    ground::words(&error)
                ),
                "install it again for this machine",
            )
        })?;
        let version = said
            .text
            .split_whitespace()
            .last()
            .unwrap_or_default()
            .to_owned();
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        if version != ours {
            return Err(Failure::site(
                format!("{name} is of version {version:?}, this program of {ours}"),
                "install all programs of one release (examples/site/build, then install)",
            ));
        }
        outcome = outcome.text(&name.replace('-', "_"), version);
    }
    Ok(outcome)
}

fn config(ground: &Ground) -> Found {
    let path = &ground.config_path;
    if let Some(why) = ground::distrust(path) {
        let mend = if path.exists() {
            format!(
                "chown root:root and chmod go-w what is named; {} itself should have mode 0644",
                path.display()
            )
        } else {
            "write it from examples/site/switch.conf, or let examples/site/install do that"
                .to_owned()
        };
        return Err(Failure::site(why, mend));
    }
    // What it says is for sailplane-policy to judge.
    fs::File::open(path).map_err(|error| {
        Failure::site(
            format!("{}: {}", path.display(), ground::words(&error)),
            format!("chmod 644 {}: nothing in it is secret", path.display()),
        )
    })?;
    Ok(Outcome::passed())
}

fn caller(ground: &Ground) -> Found {
    if let (Err(why), Err(_)) = (&ground.config, &ground.caller) {
        return Ok(Outcome::skipped(format!(
            "{why}; or say with --as who calls the helper"
        )));
    }
    let account = ground.caller.as_ref().map_err(|why| {
        Failure::site(
            why.clone(),
            "name the pilots' account in user_white_list, and make it if it is not there",
        )
    })?;
    if account.uid == 0 {
        return Err(Failure::site(
            "root is no pilot: payloads and pilots need separate accounts without privileges",
            "make an account for pilots and name it in user_white_list",
        ));
    }
    Ok(Outcome::passed()
        .text("account", account.name.clone())
        .number("uid", f64::from(account.uid), "", None))
}

fn execute_dirs(ground: &Ground) -> Found {
    let Ok(config) = &ground.config else {
        return Ok(Outcome::skipped("the configuration cannot be read"));
    };
    let mut outcome = Outcome::passed();
    let mut dirs = config.settings.execute_dirs.clone();
    if dirs.is_empty() {
        return Err(Failure::site(
            "execute_dirs names no folder, so no payload can have a sandbox",
            format!("set execute_dirs in {}", ground.config_path.display()),
        ));
    }
    dirs.extend(
        ground
            .execute
            .iter()
            .filter(|dir| !config.settings.execute_dirs.contains(dir))
            .cloned(),
    );
    for dir in dirs {
        let free = execute_dir(&dir, ground.caller_uid())?;
        // `free_var_lib_sailplane_execute`: one for each.
        let name = validation::CheckName::from_words(&format!("free {}", dir.display()));
        let name = name.as_str().replace('-', "_");
        outcome = outcome.number(&name, free.floor(), "MiB", None);
    }
    Ok(outcome)
}

fn execute_dir(dir: &Path, caller: Option<u32>) -> Result<f64, Failure> {
    let shown = dir.display();
    let make = format!("install -d -o root -g root -m 1777 {shown}");
    let facts = fs::symlink_metadata(dir).map_err(|error| {
        Failure::site(format!("{shown}: {}", ground::words(&error)), make.clone())
    })?;
    if !facts.is_dir() {
        return Err(Failure::site(
            format!("{shown} is no folder of its own"),
            "name the real path in execute_dirs",
        ));
    }
    for part in dir.ancestors() {
        let mode = fs::metadata(part).map_or(0o777, |facts| facts.mode());
        if mode & 0o001 == 0 {
            return Err(Failure::site(
                format!(
                    "{} has mode {:04o}; payloads must be able to pass through it",
                    part.display(),
                    mode & 0o7777
                ),
                format!("chmod o+x {}", part.display()),
            ));
        }
    }
    let (mode, owner) = (facts.mode() & 0o7777, facts.uid());
    if mode & 0o022 != 0 && mode & 0o1000 == 0 {
        return Err(Failure::site(
            format!("{shown} has mode {mode:04o}; others can write it and it is not sticky"),
            format!("chmod 1777 {shown}"),
        ));
    }
    if mode & 0o002 == 0 && caller.is_some_and(|uid| uid != owner) {
        return Err(Failure::site(
            format!(
                "{shown} has mode {mode:04o} and belongs to uid {owner}; pilots cannot make a folder there"
            ),
            format!("chmod 1777 {shown}, or give it to the pilots' account"),
        ));
    }
    let system = statvfs(dir).map_err(|errno| {
        Failure::site(format!("{shown}: {}", errno.desc()), "look at the mount")
    })?;
    if system.flags().contains(FsFlags::ST_NOEXEC) {
        return Err(Failure::site(
            format!(
                "{shown} lies on a file system that is mounted noexec; jobs bring programs along"
            ),
            "mount it without noexec, or name another folder in execute_dirs",
        ));
    }
    #[expect(
        clippy::cast_precision_loss,
        reason = "for people; no disk has 2^53 blocks"
    )]
    let free = system.blocks_available() as f64 * system.fragment_size() as f64 / 1_048_576.0;
    Ok(free)
}
