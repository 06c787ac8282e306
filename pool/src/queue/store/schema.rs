//! Tables, and reading them.

use std::path::Path;

use cedar::ClaimId;
use classad::ClassAd;
use rusqlite::{Connection, OpenFlags, params};

use crate::JobId;
use crate::queue::OpenError;
use crate::queue::run::{LeftClaim, RunRecord};
use crate::user_log::{Entry, Log};

/// Format of the file. Raise it with every change of the tables, and convert older ones in [`open`].
const VERSION: i64 = 3;

/// What each format has in addition to the one before it.
const FORMATS: [&str; 3] = [FIRST, SECOND, THIRD];

const FIRST: &str = "
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE notes (name TEXT PRIMARY KEY, ad TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE clusters (cluster INTEGER PRIMARY KEY, ad TEXT NOT NULL);
CREATE TABLE jobs (cluster INTEGER, proc INTEGER, ad TEXT NOT NULL, PRIMARY KEY (cluster, proc)) WITHOUT ROWID;
CREATE TABLE runs (cluster INTEGER, proc INTEGER, claim TEXT NOT NULL, slot TEXT NOT NULL, startd TEXT NOT NULL,
    slot_ad TEXT NOT NULL, PRIMARY KEY (cluster, proc)) WITHOUT ROWID;
CREATE TABLE history (number INTEGER PRIMARY KEY AUTOINCREMENT, cluster INTEGER, proc INTEGER, owner TEXT, ad TEXT NOT NULL);
CREATE INDEX history_by_job ON history (cluster, proc);
CREATE INDEX history_by_owner ON history (owner);
";

const SECOND: &str = "
CREATE TABLE events (number INTEGER PRIMARY KEY, owner TEXT NOT NULL, log TEXT NOT NULL, text TEXT NOT NULL);
";

const THIRD: &str = "
CREATE TABLE claims (claim TEXT PRIMARY KEY, slot TEXT NOT NULL, startd TEXT NOT NULL) WITHOUT ROWID;
";

/// Everything that was in the file.
#[derive(Debug, Default)]
pub(in crate::queue) struct Loaded {
    pub(in crate::queue) next_cluster: i32,
    pub(in crate::queue) clusters: Vec<(i32, ClassAd)>,
    pub(in crate::queue) jobs: Vec<(JobId, ClassAd)>,
    pub(in crate::queue) runs: Vec<(JobId, RunRecord)>,
    /// Events that may not be in their logs yet, in order.
    pub(in crate::queue) events: Vec<(i64, Entry)>,
    /// Claims whose last run is over, and that were not given back.
    pub(in crate::queue) claims: Vec<LeftClaim>,
}

/// Opens the data base for writing, made or converted if necessary.
pub(in crate::queue) fn open(file: &Path) -> Result<Connection, OpenError> {
    let failed = |source| OpenError::Database {
        file: file.to_owned(),
        source,
    };
    let connection = Connection::open(file).map_err(failed)?;
    prepare(&connection).map_err(failed)?;
    let found: i64 = connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(failed)?;
    let known = usize::try_from(found)
        .ok()
        .and_then(|found| FORMATS.get(found..));
    let missing = match known {
        Some([]) => return Ok(connection),
        Some(missing) => missing.concat(),
        None => {
            return Err(OpenError::TooNew {
                file: file.to_owned(),
                found,
                known: VERSION,
            });
        }
    };
    connection
        .execute_batch(&format!(
            "BEGIN IMMEDIATE; {missing} PRAGMA user_version = {VERSION}; COMMIT;"
        ))
        .map_err(failed)?;
    Ok(connection)
}

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    // WAL: readers of the history are not in the way of the writer. FULL: a commit is on the disk when it returns.
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(())
}

/// A second connection, for reading only.
pub(in crate::queue) fn reader(file: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(file, flags)
}

/// Reads everything but the history.
pub(in crate::queue) fn load(connection: &Connection, file: &Path) -> Result<Loaded, OpenError> {
    rows(connection).map_err(|problem| match problem {
        Problem::Database(source) => OpenError::Database {
            file: file.to_owned(),
            source,
        },
        Problem::Damaged(what) => OpenError::Damaged {
            file: file.to_owned(),
            what,
        },
    })
}

enum Problem {
    Database(rusqlite::Error),
    Damaged(String),
}

impl From<rusqlite::Error> for Problem {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

fn rows(connection: &Connection) -> Result<Loaded, Problem> {
    let mut loaded = Loaded {
        next_cluster: 1,
        ..Loaded::default()
    };
    let next = connection.query_row(
        "SELECT value FROM meta WHERE name = 'next_cluster'",
        [],
        |row| row.get(0),
    );
    match next {
        Ok(next) => loaded.next_cluster = next,
        Err(rusqlite::Error::QueryReturnedNoRows) => {}
        Err(error) => return Err(error.into()),
    }
    let mut query = connection.prepare("SELECT cluster, ad FROM clusters ORDER BY cluster")?;
    let mut found = query.query([])?;
    while let Some(row) = found.next()? {
        let cluster: i32 = row.get(0)?;
        let ad = parse(&row.get::<_, String>(1)?, || format!("cluster {cluster}"))?;
        loaded.next_cluster = loaded.next_cluster.max(cluster.saturating_add(1));
        loaded.clusters.push((cluster, ad));
    }
    let mut query =
        connection.prepare("SELECT cluster, proc, ad FROM jobs ORDER BY cluster, proc")?;
    let mut found = query.query([])?;
    while let Some(row) = found.next()? {
        let job = JobId::new(row.get(0)?, row.get(1)?);
        let ad = parse(&row.get::<_, String>(2)?, || format!("job {job}"))?;
        loaded.jobs.push((job, ad));
    }
    let mut query =
        connection.prepare("SELECT cluster, proc, claim, slot, startd, slot_ad FROM runs")?;
    let mut found = query.query([])?;
    while let Some(row) = found.next()? {
        let job = JobId::new(row.get(0)?, row.get(1)?);
        let what = || format!("the run of job {job}");
        let run = RunRecord {
            claim_id: claim(&row.get::<_, String>(2)?, what)?,
            slot: row.get(3)?,
            startd: row.get(4)?,
            slot_ad: parse(&row.get::<_, String>(5)?, what)?,
        };
        loaded.runs.push((job, run));
    }
    let mut query =
        connection.prepare("SELECT number, owner, log, text FROM events ORDER BY number")?;
    let mut found = query.query([])?;
    while let Some(row) = found.next()? {
        let log = Log {
            owner: row.get(1)?,
            path: row.get::<_, String>(2)?.into(),
        };
        let text = row.get(3)?;
        loaded.events.push((row.get(0)?, Entry { log, text }));
    }
    let mut query = connection.prepare("SELECT claim, slot, startd FROM claims")?;
    let mut found = query.query([])?;
    while let Some(row) = found.next()? {
        let slot: String = row.get(1)?;
        let claim_id = claim(&row.get::<_, String>(0)?, || format!("a claim on {slot}"))?;
        let startd = row.get(2)?;
        loaded.claims.push(LeftClaim {
            claim_id,
            slot,
            startd,
        });
    }
    Ok(loaded)
}

fn claim(text: &str, what: impl Fn() -> String) -> Result<ClaimId, Problem> {
    ClaimId::parse(text).map_err(|error| Problem::Damaged(format!("{}: {error}", what())))
}

fn parse(text: &str, what: impl Fn() -> String) -> Result<ClassAd, Problem> {
    ClassAd::parse_new(text).map_err(|error| Problem::Damaged(format!("{}: {error}", what())))
}

/// An ad that another part of the pool keeps here.
pub(in crate::queue) fn note(
    connection: &Connection,
    name: &str,
) -> rusqlite::Result<Option<ClassAd>> {
    let found = connection.query_row("SELECT ad FROM notes WHERE name = ?1", [name], |row| {
        row.get::<_, String>(0)
    });
    match found {
        Ok(text) => Ok(ClassAd::parse_new(&text).ok()),
        Err(rusqlite::Error::QueryReturnedNoRows) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Which part of the history to read, newest first.
#[derive(Debug, Clone, Default)]
pub(in crate::queue) struct HistoryQuery {
    /// Only this cluster.
    pub(in crate::queue) cluster: Option<i32>,
    /// Only this job of the cluster.
    pub(in crate::queue) proc: Option<i32>,
    /// Only this user's jobs.
    pub(in crate::queue) owner: Option<String>,
    /// Oldest first.
    pub(in crate::queue) forwards: bool,
}

impl HistoryQuery {
    /// Calls `each` with ad after ad until it says that it has enough.
    pub(in crate::queue) fn run(
        &self,
        connection: &Connection,
        mut each: impl FnMut(ClassAd) -> bool,
    ) -> rusqlite::Result<()> {
        let order = if self.forwards { "ASC" } else { "DESC" };
        let mut query = connection.prepare(&format!(
            "SELECT ad FROM history WHERE (?1 IS NULL OR cluster = ?1) AND (?2 IS NULL OR proc = ?2)
             AND (?3 IS NULL OR owner = ?3) ORDER BY number {order}"
        ))?;
        let mut found = query.query(params![self.cluster, self.proc, self.owner])?;
        while let Some(row) = found.next()? {
            // A row that does not parse is somebody's doing outside of this program; the others are still good.
            if let Ok(ad) = ClassAd::parse_new(&row.get::<_, String>(0)?)
                && !each(ad)
            {
                break;
            }
        }
        Ok(())
    }
}

/// A file as the first version of this program made it.
#[cfg(test)]
pub(in crate::queue) fn first_format(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(&format!("{FIRST} PRAGMA user_version = 1;"))
}
