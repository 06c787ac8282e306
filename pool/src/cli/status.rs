//! `sailplane pool status`: what `condor_status` shows.

mod show;

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use cedar::WireError;
use classad::{ClassAd, Expr, Value};

use self::show::View;
use super::ads::AdOutput;
use super::connect::{self, Pool, Target, ToolError};

/// Longest answer taken, in bytes: some hundred thousand slots.
const LONGEST: usize = 1 << 30;

/// Show slots and daemons of the pool
///
/// HTCondor's spellings with one dash (-constraint, -af, -schedd, ...) are understood as well.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Example:\n  sailplane pool status --constraint 'Cpus > 4' --autoformat Name RemoteUser"
)]
pub struct Status {
    /// Which pool.
    #[command(flatten)]
    pub target: Target,
    /// What is shown.
    #[command(flatten)]
    pub what: What,
    /// How ads are printed.
    #[command(flatten)]
    pub output: AdOutput,
    /// Only ads for which this expression is true; may be given more than once
    #[arg(long, value_name = "EXPRESSION", value_parser = constraint, allow_hyphen_values = true)]
    pub constraint: Vec<Expr>,
    /// No more ads than this
    #[arg(long, value_name = "NUMBER")]
    pub limit: Option<u32>,
    /// Only the totals
    #[arg(long)]
    pub totals: bool,
    /// Only slots or daemons of these names or machines
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
}

/// What is shown instead of all slots.
#[derive(Debug, Clone, Default, clap::Args)]
#[group(multiple = false)]
pub struct What {
    /// One line for each machine
    #[arg(long)]
    pub compact: bool,
    /// Slots in use, and by whom
    #[arg(long)]
    pub claimed: bool,
    /// Slots that are free
    #[arg(long)]
    pub available: bool,
    /// Job queues
    #[arg(long)]
    pub schedd: bool,
    /// Users with jobs
    #[arg(long)]
    pub submitters: bool,
    /// Masters
    #[arg(long)]
    pub master: bool,
    /// Negotiators
    #[arg(long)]
    pub negotiator: bool,
    /// Collectors
    #[arg(long)]
    pub collector: bool,
    /// Ads of any type
    #[arg(long)]
    pub any: bool,
    /// Ads of this type, such as Defrag
    #[arg(long, value_name = "TYPE")]
    pub subsystem: Option<String>,
}

fn constraint(text: &str) -> Result<Expr, String> {
    Expr::parse_old(text).map_err(|error| format!("not a ClassAd expression: {error}"))
}

/// Runs it.
pub fn run(status: Status) -> ExitCode {
    connect::run(async move {
        let view = View::of(&status.what);
        let pool = status.target.open()?;
        let ads = ask(&pool, &view, &query(&status, &view)).await?;
        match print(&status, &view, &ads) {
            // Whoever reads us has had enough.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(ToolError::Local {
                what: "cannot write the answer".to_owned(),
                source: error,
            }),
            _ => Ok(ExitCode::SUCCESS),
        }
    })
}

/// The query ad.
fn query(status: &Status, view: &View) -> ClassAd {
    let mut ad = ClassAd::new();
    ad.insert("MyType", "Query");
    ad.insert("TargetType", view.target_type());
    let mut conditions: Vec<String> = status
        .constraint
        .iter()
        .map(|expr| format!("({})", expr.to_old()))
        .collect();
    conditions.extend(view.condition().map(str::to_owned));
    if !status.names.is_empty() {
        let names: Vec<String> = status.names.iter().map(|name| is_named(name)).collect();
        conditions.push(format!("({})", names.join(" || ")));
    }
    let text = if conditions.is_empty() {
        "true".to_owned()
    } else {
        conditions.join(" && ")
    };
    // Made of expressions, it is one.
    let expr = Expr::parse_old(&text).unwrap_or_else(|_| Expr::from(false));
    ad.insert("Requirements", expr);
    let projection = if status.output.is_table() {
        view.attributes()
    } else {
        status.output.projection()
    };
    if !projection.is_empty() {
        ad.insert("Projection", projection.join(" "));
    }
    if let Some(limit) = status.limit {
        ad.insert("LimitResults", limit);
    }
    ad
}

fn is_named(name: &str) -> String {
    let quoted = Expr::literal(Value::String(name.to_owned())).to_old();
    format!("Name == {quoted} || Machine == {quoted}")
}

async fn ask(pool: &Pool, view: &View, query: &ClassAd) -> Result<Vec<Arc<ClassAd>>, ToolError> {
    const WHAT: &str = "the query";
    let mut stream = pool.start(view.command(), WHAT).await?;
    stream.set_max_message(LONGEST);
    let mut message = stream.message();
    message.ad(query);
    let failed = |error| pool.failed(WHAT, error);
    stream.send(message).await.map_err(failed)?;
    let answer = stream.recv().await.map_err(failed)?;
    let read = || {
        let mut reader = answer.reader();
        let mut ads = Vec::new();
        while reader.int()? != 0 {
            ads.push(Arc::new(reader.ad()?));
        }
        Ok::<_, WireError>(ads)
    };
    let mut ads = read().map_err(|error| pool.malformed(error))?;
    ads.sort_by_cached_key(|ad| (ad.string("Machine"), show::slot_order(ad)));
    Ok(ads)
}

fn print(status: &Status, view: &View, ads: &[Arc<ClassAd>]) -> io::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    if status.output.is_table() {
        let text = view.table(ads, super::table::terminal_width(), status.totals);
        out.write_all(text.as_bytes())?;
    } else {
        status.output.print(ads, &mut out)?;
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        status: Status,
    }

    fn query_of(arguments: &[&str]) -> ClassAd {
        let all = std::iter::once(&"status").chain(arguments);
        let status = Program::try_parse_from(all).unwrap().status;
        query(&status, &View::of(&status.what))
    }

    #[test]
    fn the_query_says_what_was_asked() {
        let ad = query_of(&[
            "--constraint",
            "Cpus > 1",
            "--constraint",
            "A || B",
            "--claimed",
            "slot1@\"x",
        ]);
        assert_eq!(
            ad.get("Requirements").unwrap().to_old(),
            "(Cpus > 1) && (A || B) && State == \"Claimed\" && (Name == \"slot1@\\\"x\" || Machine == \"slot1@\\\"x\")"
        );
        assert!(ad.string("Projection").unwrap().contains("RemoteUser"));
        let ad = query_of(&["--long", "--limit", "3"]);
        assert_eq!(
            (ad.int("LimitResults"), ad.contains("Projection")),
            (Some(3), false)
        );
        assert_eq!(ad.string("TargetType").as_deref(), Some("Machine"));
        assert_eq!(
            query_of(&["--subsystem", "Defrag"])
                .string("TargetType")
                .as_deref(),
            Some("Defrag")
        );
    }

    #[test]
    fn only_one_thing_is_shown_at_a_time() {
        assert!(Program::try_parse_from(["status", "--schedd", "--any"]).is_err());
        assert!(Program::try_parse_from(["status", "--constraint", "A ="]).is_err());
    }
}
