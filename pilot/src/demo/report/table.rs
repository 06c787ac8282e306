//! The table at the end, for a terminal.

use super::{Job, Report, seconds};

const HEADS: [&str; 7] = ["JOB", "NAME", "USER", "ACCOUNT", "WAITED", "RAN", "RESULT"];

/// One line for each job, then what was to be shown.
pub(in crate::demo) fn table(report: &Report) -> String {
    let rows: Vec<[String; 7]> = report.jobs.iter().map(row).collect();
    let mut widths = HEADS.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = line(&HEADS.map(str::to_owned), &widths);
    for row in &rows {
        text.push_str(&line(row, &widths));
    }
    for job in &report.jobs {
        if let Some(reason) = &job.reason {
            text.push_str(&format!(
                "\n{} {} of {}: {reason}\n",
                job.id, job.name, job.user
            ));
        }
    }
    text.push('\n');
    for check in &report.checks {
        let mark = if check.seen { "yes" } else { "NO " };
        text.push_str(&format!("{mark}  {}", check.what));
        if !check.detail.is_empty() {
            text.push_str(&format!(": {}", check.detail));
        }
        text.push('\n');
    }
    if let Some(why) = &report.not_shown {
        text.push_str(&format!(
            "not shown: each user's jobs under an account of their own: {why}\n"
        ));
    }
    text
}

fn row(job: &Job) -> [String; 7] {
    let time = |time: Option<u64>| time.map_or_else(|| "-".to_owned(), seconds);
    let result = if job.as_meant {
        job.result.clone()
    } else {
        format!("{} (not as it should)", job.result)
    };
    [
        job.id.clone(),
        job.name.clone(),
        job.user.clone(),
        job.account.clone().unwrap_or_else(|| "-".to_owned()),
        time(job.waited()),
        time(job.ran()),
        result,
    ]
}

fn line(cells: &[String; 7], widths: &[usize; 7]) -> String {
    let mut text = String::new();
    for ((index, cell), width) in cells.iter().enumerate().zip(widths) {
        match index {
            // Times stand right; the last column needs no blanks after it.
            4 | 5 => text.push_str(&format!("{cell:>width$}  ")),
            6 => text.push_str(cell),
            _ => text.push_str(&format!("{cell:<width$}  ")),
        }
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::super::example;
    use super::*;

    #[test]
    fn a_person_finds_every_job_and_what_went_wrong() {
        let text = table(&example());
        assert_eq!(
            text.lines().filter(|line| line.contains("grid-")).count(),
            13
        );
        assert_eq!(text.matches("not as it should").count(), 1);
        assert!(text.contains("NO   nothing is left: a process is"));
        let first = text.lines().nth(1).unwrap();
        assert!(
            first.contains("1.5 s") && first.contains("2.4 s"),
            "{first}"
        );
    }
}
