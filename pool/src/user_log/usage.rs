//! The table of resources in events 4 and 5 (`htcondor:src/condor_utils/condor_event.cpp`, `setEventUsageAd` and
//! `formatUsageAd`).

use std::collections::BTreeMap;

use classad::{ClassAd, Expr, Value};

/// What was asked for, given and used of each resource, as events 4 and 5 tell it: taken from a job's ad.
#[must_use]
pub fn usage_ad(job: &ClassAd) -> Option<ClassAd> {
    let resources = job
        .string("ProvisionedResources")
        .unwrap_or_else(|| "Cpus, Disk, Memory".to_owned());
    let mut usage = ClassAd::new();
    for resource in resources
        .split(|c: char| c == ',' || c.is_whitespace())
        .filter(|resource| !resource.is_empty())
    {
        let mut copy = |from: &str, to: &str| {
            let value = job.eval(from);
            if matches!(
                value,
                Value::Error | Value::Boolean(_) | Value::Integer(_) | Value::Real(_)
            ) {
                usage.insert(to, Expr::literal(value));
            }
        };
        copy(&format!("{resource}Provisioned"), resource);
        for name in [
            format!("Request{resource}"),
            format!("{resource}Usage"),
            format!("{resource}AverageUsage"),
            format!("{resource}MemoryUsage"),
            format!("{resource}MemoryAverageUsage"),
        ] {
            copy(&name, &name);
        }
        let assigned = format!("Assigned{resource}");
        if let Some(expr) = job.get(&assigned) {
            usage.insert(assigned, expr.clone());
        }
    }
    for (from, to) in [
        ("ActivationExecutionDuration", "TimeExecuteUsage"),
        ("ActivationDuration", "TimeSlotBusyUsage"),
    ] {
        if let Some(seconds) = job.int(from) {
            usage.insert(to, seconds);
        }
    }
    (!usage.is_empty()).then_some(usage)
}

/// One line of the table.
#[derive(Default)]
struct Row {
    label: String,
    usage: String,
    request: String,
    allocated: String,
    assigned: String,
}

/// Which columns hold fractions; whole numbers are then moved to stand under each other.
#[derive(Default)]
struct Fractions {
    usage: bool,
    request: bool,
    allocated: bool,
    assigned: bool,
}

/// The table as text; empty if there is nothing to tell.
pub(super) fn table(usage: &ClassAd) -> String {
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    let mut fractions = Fractions::default();
    for (name, expr) in usage.iter() {
        let (value, fraction) = shown(expr);
        let name = name.as_str();
        let (resource, column) = if let Some(resource) = name.strip_prefix("Request") {
            (resource, 1)
        } else if let Some(resource) = name.strip_prefix("Assigned") {
            (resource, 3)
        } else if let Some(resource) = name
            .strip_suffix("AverageUsage")
            .or_else(|| name.strip_suffix("Usage"))
        {
            (resource, 0)
        } else {
            (name, 2)
        };
        if resource.is_empty() {
            continue;
        }
        let row = rows.entry(resource.to_ascii_lowercase()).or_default();
        if row.label.is_empty() || column == 2 {
            row.label = resource.to_owned();
        }
        let (cell, any) = match column {
            0 => (&mut row.usage, &mut fractions.usage),
            1 => (&mut row.request, &mut fractions.request),
            2 => (&mut row.allocated, &mut fractions.allocated),
            _ => (&mut row.assigned, &mut fractions.assigned),
        };
        *cell = value;
        *any |= fraction;
    }
    if rows.is_empty() {
        return String::new();
    }
    print(rows.into_values().collect(), &fractions)
}

fn print(mut rows: Vec<Row>, fractions: &Fractions) -> String {
    for row in &mut rows {
        for (cell, any) in [
            (&mut row.usage, fractions.usage),
            (&mut row.request, fractions.request),
            (&mut row.allocated, fractions.allocated),
            (&mut row.assigned, fractions.assigned),
        ] {
            let digits = cell.strip_prefix('-').unwrap_or(cell);
            if any && !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
                cell.push_str("   ");
            }
        }
    }
    let widest = |cell: fn(&Row) -> &String, least: usize| {
        rows.iter()
            .map(|row| cell(row).len())
            .max()
            .unwrap_or(0)
            .max(least)
    };
    // HTCondor counts the end of its text too.
    let label = widest(|row| &row.label, "Memory (MB)".len() + 1) + 8;
    let usage = widest(|row| &row.usage, 8);
    let request = widest(|row| &row.request, 8);
    let allocated = widest(|row| &row.allocated, 0);
    let assigned = widest(|row| &row.assigned, 0);
    let title = |width: usize, text: &'static str| if width > 0 { text } else { "" };
    let mut text = format!(
        "\tPartitionable Resources : {:>usage$} {:>request$} {:>given$} {}\n",
        "Usage",
        "Request",
        title(allocated, "Allocated"),
        title(assigned, "Assigned"),
        given = allocated.max(9)
    );
    for row in &rows {
        let unit = match row.label.to_ascii_lowercase().as_str() {
            "memory" | "gpusmemory" => " (MB)",
            "disk" => " (KB)",
            "timeexecute" | "timeslotbusy" => " (s)",
            // Only in this spelling, as in HTCondor.
            _ if row.label == "Gpus" => " (Average)",
            _ => "",
        };
        let name = format!("{}{unit}", row.label);
        text.push_str(&format!(
            "\t   {name:<label$} : {:>usage$} {:>request$} {:>given$} {}\n",
            row.usage,
            row.request,
            row.allocated,
            row.assigned,
            given = allocated.max(9)
        ));
    }
    text
}

/// A value as it stands in the table, and whether it has a fraction.
fn shown(expr: &Expr) -> (String, bool) {
    match expr.as_literal() {
        Some(Value::Real(number)) if number.fract() > 0.0 => (format!("{number:.2}"), true),
        Some(Value::Real(number)) => (format!("{:.0}", number.trunc()), false),
        _ => (expr.to_old(), false),
    }
}
