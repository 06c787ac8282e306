//! The page, looked at in a real browser: on a phone, on a desk, in the dark, on paper.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde::Deserialize;

use super::{html, testing};
use crate::Report;

/// What `measure.js` found in one frame.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Measured {
    frame: String,
    width: f64,
    scroll: f64,
    /// Texts that stick out of the page.
    beyond: Vec<String>,
    /// Texts with a contrast below 4.5 (WCAG AA).
    pale: Vec<String>,
    small: Vec<String>,
    texts: usize,
    headings: Vec<u8>,
    first: String,
    verdict_ends: f64,
    landmarks: Vec<String>,
    nameless: usize,
    headless: usize,
    language: String,
    fetched: usize,
    ink: String,
    paper: String,
}

/// Where a browser is. CI has one (`site-tests/setup` installs it).
fn browser() -> Option<PathBuf> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .flat_map(|folder| names.map(|name| folder.join(name)))
        .find(|program| program.exists());
    assert!(
        found.is_some() || std::env::var_os("CI").is_none(),
        "CI has no browser"
    );
    found
}

/// A frame of this width; in place of asking the browser to be dark, or to print, the rules for that are made to hold.
fn frame(title: &str, width: u32, page: &str, rule: &str) -> String {
    let page = page.replace(rule, "@media all");
    let page = page.replace('&', "&amp;").replace('"', "&quot;");
    format!(
        "<iframe title=\"{title}\" width=\"{width}\" height=\"900\" srcdoc=\"{page}\"></iframe>\n"
    )
}

fn measure(report: &Report) -> Option<Vec<Measured>> {
    const DARK: &str = "@media (prefers-color-scheme: dark)";
    let Some(browser) = browser() else {
        eprintln!("the page was not looked at: no chromium here");
        return None;
    };
    let page = html(report);
    assert!(page.contains(DARK) && page.contains("@media print"));
    let frames = [
        frame("phone", 360, &page, "@media none"),
        frame("small phone in the dark", 320, &page, DARK),
        frame("desk", 1200, &page, "@media none"),
        frame("desk in the dark", 1200, &page, DARK),
        frame("paper", 700, &page, "@media print"),
    ];
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("frames.html");
    let script = include_str!("measure.js");
    let text = format!(
        "<!DOCTYPE html><meta charset=\"utf-8\"><script>{script}</script><body>{}",
        frames.concat()
    );
    fs::write(&file, text).unwrap();
    let output = Command::new(browser)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--window-size=1400,1000",
            "--dump-dom",
        ])
        .arg(format!(
            "--user-data-dir={}",
            folder.path().join("profile").display()
        ))
        .arg(format!("file://{}", file.display()))
        .env("HOME", folder.path())
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    let measured = shown
        .split_once("<pre id=\"measured\">")
        .and_then(|(_, rest)| rest.split_once("</pre>"))
        .unwrap_or_else(|| {
            panic!(
                "nothing was measured: {shown}\n{}",
                String::from_utf8_lossy(&output.stderr)
            )
        });
    let json = measured
        .0
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&nbsp;", " ")
        .replace("&amp;", "&");
    Some(serde_json::from_str(&json).unwrap())
}

#[test]
fn it_can_be_read_on_a_phone_at_a_desk_in_the_dark_and_on_paper() {
    for (report, texts) in [
        (testing::broken(), 60),
        (testing::healthy(), 20),
        (testing::empty(), 10),
    ] {
        let Some(all) = measure(&report) else {
            return;
        };
        assert_eq!(all.len(), 5);
        for one in &all {
            let name = &one.frame;
            assert!(one.texts >= texts, "{name}: only {} texts", one.texts);
            assert!(
                one.scroll <= one.width,
                "{name}: {} wide in {}",
                one.scroll,
                one.width
            );
            assert!(
                one.beyond.is_empty(),
                "{name}: out of the page: {:?}",
                one.beyond
            );
            assert!(one.pale.is_empty(), "{name}: too pale: {:?}", one.pale);
            assert!(one.small.is_empty(), "{name}: too small: {:?}", one.small);
            assert!(
                one.verdict_ends < 160.0,
                "{name}: the verdict ends at {}",
                one.verdict_ends
            );
            assert_eq!(one.fetched, 0, "{name}: something was fetched");
        }
        let paper = |name: &str| {
            all.iter()
                .find(|one| one.frame == name)
                .map(|one| (&*one.paper, &*one.ink))
                .unwrap()
        };
        assert_eq!(paper("paper"), ("rgb(255, 255, 255)", "rgb(0, 0, 0)"));
        assert_ne!(paper("desk"), paper("desk in the dark"));
    }
}

#[test]
fn a_screen_reader_finds_its_way() {
    let Some(all) = measure(&testing::broken()) else {
        return;
    };
    for one in &all {
        assert_eq!(one.landmarks, ["header", "main", "footer"]);
        assert_eq!(one.headings.first(), Some(&1));
        assert_eq!(one.headings.iter().filter(|level| **level == 1).count(), 1);
        let steps = one.headings.windows(2);
        assert!(
            steps.clone().all(|pair| pair[1] <= pair[0] + 1),
            "{:?}",
            one.headings
        );
        assert_eq!(
            (one.nameless, one.headless),
            (0, 0),
            "sections without a name, heads without a scope"
        );
        assert_eq!(one.language, "en");
        assert!(
            one.first.ends_with("Not fit for jobs: the site has to act"),
            "{}",
            one.first
        );
    }
}
