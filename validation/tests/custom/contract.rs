//! What scripts of the field rely on, and what the pilot makes of what they leave.

use std::fs;
use std::time::Duration;

use serde_json::json;

use super::support::{Pilot, Ran, Sender};

async fn run(senders: &[&Sender]) -> Ran {
    Pilot::new().gets(senders).run().await
}

/// How scripts of the field begin.
const SOURCES: &str = r#"
glidein_config="$1"
condor_vars_file=$(grep -i "^CONDOR_VARS_FILE " "$glidein_config" | cut -d ' ' -f 2-)
add_config_line_source=$(grep -m1 '^ADD_CONFIG_LINE_SOURCE ' "$glidein_config" | cut -d ' ' -f 2-)
. "$add_config_line_source"
error_gen=$(gconfig_get ERROR_GEN_PATH "$glidein_config")
"#;

#[tokio::test]
async fn a_script_finds_what_it_expects() {
    let body = r#"
        [ "$1" = glidein_config ] || exit 11
        [ "$2" = main ] || exit 12
        case "$PWD" in */glide_[A-Za-z0-9]*) ;; *) exit 13 ;; esac
        [ -z "$(cat)" ] || exit 14
        [ "$LANG" = C ] || exit 15
        case "$PATH" in "$PWD/.gwms.d/bin:"?*) ;; *) exit 16 ;; esac
        [ -n "$GLIDEIN_UUID" ] && [ -n "$GLIDEIN_Name" ] || exit 17
        [ -z "$GLIDEIN_PERIODIC_SCRIPT" ] || exit 18
        [ -f ./add_config_line.source ] && [ -f ./main/condor_vars.lst ] && [ -d ./condor_config.d ] || exit 19
        [ "$(umask)" = 0022 ] || exit 20
        [ "$(head -c 1 otrb_output.xml)" = "" ] || exit 21
        . ./add_config_line.source
        [ "$(gconfig_get GLIDEIN_WORK_DIR)" = "" ] && exit 22
        [ "$(gconfig_get SPEED)" = "very fast" ] || exit 23
        [ -x "$0" ]"#
        .replace(". ./add_config_line.source", "glidein_config=$1; . ./add_config_line.source");
    let factory = Sender::factory()
        .says("constants", json!({"SPEED": "very fast"}))
        .check("look.sh", &body);
    run(&[&factory]).await.passed();
}

#[tokio::test]
async fn attributes_knobs_and_variables_come_out() {
    let body = format!(
        r#"{SOURCES}
        add_config_line HAS_X "it's \"here\""
        add_condor_vars_line HAS_X S - + Y Y +
        gconfig_add Frac 0.5
        add_condor_vars_line Frac C - Fraction N Y -
        gconfig_add RESERVED_DISK 2048
        add_condor_vars_line RESERVED_DISK C - + N N -
        gconfig_add FILETRANSFER_PLUGINS '$(FILETRANSFER_PLUGINS),/x/stash'
        add_condor_vars_line FILETRANSFER_PLUGINS C - + N N -
        "$error_gen" -ok look.sh free_mb 812 kind "a b"
        "#
    );
    let factory = Sender::factory().check("look.sh", &body);
    let frontend = Sender::frontend()
        .says(
            "constants",
            json!({"GLIDECLIENT_Start": "TARGET.Owner != \"x\""}),
        )
        .file(
            "condor_vars.lst",
            "GLIDECLIENT_Start C True + N N -\n",
            json!({"kind": "vars"}),
        )
        .says(
            "publish",
            json!([{"key": "VO", "default": "cms", "job": true}]),
        );
    let ran = run(&[&factory, &frontend]).await.passed();
    let look = ran.outcome("factory-look");
    assert_eq!(look.metrics.len(), 2, "{look:?}");
    assert_eq!(
        ran.attributes("custom-attributes"),
        [
            "VO = \"cms\"",
            "HAS_X = \"it's \\\"here\\\"\"",
            "Fraction = 0.5"
        ]
    );
    let all = ran.outcome("custom-attributes");
    assert_eq!(
        all.environment,
        [
            ("VO".to_owned(), "cms".to_owned()),
            ("HAS_X".to_owned(), "it's \"here\"".to_owned())
        ]
    );
    assert_eq!(
        all.knobs,
        [
            ("RESERVED_DISK".to_owned(), "2048".to_owned()),
            ("START".to_owned(), "(TARGET.Owner != \"x\")".to_owned()),
        ]
    );
    assert!(all.detail.unwrap().contains("FILETRANSFER_PLUGINS"));
    assert_eq!(ran.value("GLIDEIN_INITIALIZED").as_deref(), Some("1"));
}

#[tokio::test]
async fn scopes_come_in_their_order_and_know_who_they_are() {
    let note = |word: &str| {
        format!(
            "glidein_config=$1; . ./add_config_line.source\ngconfig_add ORDER \"$(gconfig_get ORDER){word}:$2 \""
        )
    };
    let factory = Sender::factory()
        .check("one.sh", &note("1"))
        .file(
            "last.sh",
            &format!("#!/bin/sh\n{}\n", note("9")),
            json!({"stage": "last"}),
        )
        .scope("entry", "CE 1")
        .check("entry.sh", &note("4"))
        .file("data.txt", "x", json!({"kind": "data", "path_key": "DATA"}));
    let frontend = Sender::frontend()
        .check("normal.sh", &note("6"))
        .file(
            "pre.sh",
            &format!("#!/bin/sh\n{}\n", note("2")),
            json!({"stage": "before-entry"}),
        )
        .scope("group", "g")
        .check("group.sh", &note("7"));
    let ran = run(&[&factory, &frontend]).await.passed();
    assert_eq!(
        ran.value("ORDER").unwrap(),
        "1:main 2:client 4:entry 6:client 7:client_group 9:main "
    );
    assert!(
        ran.value("ENTRY_DATA")
            .unwrap()
            .ends_with("/entry_CE_1/data.txt")
    );
    assert_eq!(ran.value("GLIDEIN_Entry_Name").as_deref(), Some("CE 1"));
    assert_eq!(ran.value("GLIDECLIENT_Group").as_deref(), Some("g"));
}

#[tokio::test]
async fn a_failure_ends_the_chain_and_says_whose_it_is() {
    let body = format!(
        "{SOURCES}\n\"$error_gen\" -error scratch.sh WN_Resource 'Only 3 < 5 GB.' free 3\nexit 17"
    );
    let factory = Sender::factory()
        .check("first.sh", "exit 0")
        .check("scratch.sh", &body)
        .check("next.sh", "touch ran");
    let ran = run(&[&factory]).await;
    let words = ran.words();
    assert!(
        words.contains("factory-scratch failed: main/scratch.sh failed (exit status 17): Only 3 < 5 GB. (site, WN_Resource)"),
        "{words}"
    );
    assert!(
        words.contains("factory-next skipped: main/scratch.sh failed before it"),
        "{words}"
    );
    assert!(words.contains("custom-attributes skipped"), "{words}");
    assert!(!ran.area().join("ran").exists());
    let list = fs::read_to_string(ran.area().join("otr_outlist.list")).unwrap();
    assert_eq!(list.matches("<OSGTestResult id=").count(), 2);
    assert!(
        list.contains("id=\"main/scratch.sh\"") && list.contains("Only 3 &lt; 5 GB."),
        "{list}"
    );
}

#[tokio::test]
async fn the_exit_status_decides_over_what_is_written() {
    let liar = |status: &str, exit: u8| format!("{SOURCES}\n\"$error_gen\" {status}\nexit {exit}");
    let warn = json!({"severity": "warn"});
    let script = |body: String| format!("#!/bin/bash\n{body}\n");
    let factory = Sender::factory()
        .file("ok3.sh", &script(liar("-ok x", 3)), warn.clone())
        .file(
            "error0.sh",
            &script(liar("-error x Config no", 0)),
            warn.clone(),
        )
        .file("nothing.sh", &script("exit 2".to_owned()), warn)
        .check("after.sh", "exit 0");
    let ran = run(&[&factory]).await;
    let words = ran.words();
    assert!(
        words.contains("factory-ok3 failed: main/ok3.sh failed (exit status 3) (factory, )"),
        "{words}"
    );
    assert!(words.contains("factory-error0 passed"), "{words}");
    assert!(words.contains("factory-nothing failed"), "{words}");
    assert!(
        words.contains("factory-after passed"),
        "only `fail` and `drain` end the chain: {words}"
    );
}

#[tokio::test]
async fn what_hangs_is_killed_with_all_it_started() {
    let body = "trap '' TERM\n(trap '' TERM; setsid sleep 300 & echo $! > child; wait) &\nsleep 300\nsleep 300";
    let factory = Sender::factory().file(
        "hang.sh",
        &format!("#!/bin/bash\n{body}\n"),
        json!({"limit": 1}),
    );
    let ran = run(&[&factory]).await;
    let outcome = ran.outcome("factory-hang");
    let failure = outcome.failure().unwrap();
    assert_eq!(failure.kind, "Timeout");
    assert!(outcome.metrics.iter().any(|metric| metric.name == "limit"));
    let child = fs::read_to_string(ran.area().join("child")).unwrap();
    let stat = fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
    assert!(stat.is_empty() || stat.contains(") Z "), "{stat}");
}

#[tokio::test]
async fn conditions_and_prerequisites_decide_what_is_run() {
    let factory = Sender::factory()
        .says("constants", json!({"USE": 1, "OFF": 0}))
        .file("on.sh", "#!/bin/sh\nexit 0\n", json!({"condition": "USE"}))
        .file(
            "off.sh",
            "#!/bin/sh\nexit 1\n",
            json!({"condition": "OFF || NOWHERE", "id": "off"}),
        )
        .file("needs.sh", "#!/bin/sh\nexit 0\n", json!({"needs": ["off"]}));
    let words = run(&[&factory]).await.words();
    assert!(words.contains("factory-on passed"), "{words}");
    assert!(
        words.contains("off skipped: its condition OFF || NOWHERE does not hold"),
        "{words}"
    );
    assert!(
        words.contains("factory-needs skipped: off has not passed"),
        "{words}"
    );
    assert!(words.contains("custom-attributes passed"), "{words}");
}

#[tokio::test]
async fn what_is_required_and_missing_keeps_the_pilot_from_starting() {
    let frontend =
        Sender::frontend().says("publish", json!([{"key": "CMS_SITE", "required": true}]));
    let words = run(&[&frontend]).await.words();
    assert!(
        words.contains("custom-attributes failed: CMS_SITE is required by condor_vars.lst, and nothing has set it (frontend, Config)"),
        "{words}"
    );
}

#[tokio::test]
async fn periodic_checks_say_how_they_are_and_recover() {
    let body = r#"#!/bin/bash
        if [ -z "$GLIDEIN_PERIODIC_SCRIPT" ]; then exit 0; fi
        case "$1" in /*/glidein_config) ;; *) exit 21 ;; esac
        [ "$PWD" != "$(dirname "$1")" ] && [ -f ../glidein_config ] || exit 22
        echo "Load = 1 + 1"
        echo "some noise"
        echo -
        [ ! -e ../broken ]
    "#;
    let factory = Sender::factory()
        .file("load.sh", body, json!({"period": 1, "prefix": "L_"}))
        .check("other.sh", "exit 0");
    let mut ran = run(&[&factory]).await.passed();
    assert_eq!(
        ran.attributes("custom-attributes"),
        ["GLIDEIN_PS_OK = true"]
    );
    let marker = ran.area().join("broken");
    fs::write(&marker, "").unwrap();
    ran.engine.next(|_| ()).await;
    let said = ran.attributes("factory-load");
    for part in ["L_Load = 1 + 1", "GLIDEIN_PS_OK = false", "L_OK = false"] {
        assert!(said.contains(&part.to_owned()), "{part}: {said:?}");
    }
    assert!(
        said.iter()
            .any(|line| line.starts_with("GLIDEIN_PS_FAILED_LAST = \"GLIDEIN_PS_1:/")),
        "{said:?}"
    );
    assert!(matches!(
        ran.engine.standing(),
        validation::engine::Standing::Closed(_)
    ));
    fs::remove_file(&marker).unwrap();
    ran.engine.next(|_| ()).await;
    assert!(
        ran.attributes("factory-load")
            .contains(&"GLIDEIN_PS_OK = true".to_owned())
    );
    assert_eq!(ran.value("GLIDEIN_PS_OK").as_deref(), Some("true"));
    assert_eq!(
        ran.value("GLIDEIN_PS_FAILED_LIST").as_deref(),
        Some("GLIDEIN_PS_1")
    );
    assert!(matches!(
        ran.engine.standing(),
        validation::engine::Standing::Open
    ));
    let left: Vec<_> = fs::read_dir(ran.area())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("tmp."))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_periodic_check_can_search_the_configuration() {
    let body = r#"#!/bin/sh
        [ -n "$GLIDEIN_PERIODIC_SCRIPT" ] || exit 0
        [ "$start_dir" = "$(dirname "$1")" ] || exit 21
        to_die=$(sed -n 's/^GLIDEIN_ToDie = //p' "$CONDOR_CONFIG")
        to_retire=$(sed -n 's/^GLIDEIN_TORETIRE = //p' "$CONDOR_CONFIG")
        echo "Grace = $((to_die - to_retire))"
        echo "SITE = $(sed -n 's/^SITE=//p' "$CONDOR_CONFIG")"
    "#;
    let factory = Sender::factory()
        .says("constants", json!({"GLIDEIN_Job_Max_Time": 7200}))
        .says("publish", json!([{"key": "SITE", "default": "here"}]))
        .file(
            "search.sh",
            body,
            json!({"period": 1, "prefix": "NOPREFIX"}),
        );
    let mut ran = run(&[&factory]).await.passed();
    ran.engine.next(|_| ()).await;
    let said = ran.attributes("factory-search");
    assert!(said.contains(&"Grace = 7200".to_owned()), "{said:?}");
    assert!(said.contains(&"SITE = \"here\"".to_owned()), "{said:?}");
}

#[tokio::test]
async fn checks_that_may_run_beside_each_other_do() {
    let beside = json!({"beside": true});
    let wait = |mine: &str, other: &str| {
        format!(
            "#!/bin/bash\ntop=$(dirname \"$1\")\ntouch $top/{mine}\nuntil [ -e $top/{other} ]; do read -t 0.02 < <(:) ; done\nexit 0\n"
        )
    };
    let factory = Sender::factory()
        .file("a.sh", &wait("a", "b"), beside.clone())
        .file("b.sh", &wait("b", "a"), beside);
    let done = tokio::time::timeout(Duration::from_secs(60), run(&[&factory])).await;
    done.unwrap().passed();
}

#[tokio::test]
async fn the_end_runs_what_was_left_for_it() {
    let factory = Sender::factory()
        .file(
            "clean.sh",
            "#!/bin/sh\nmv \"$(dirname \"$1\")/mess\" \"$(dirname \"$1\")/../tidied\"\n",
            json!({"kind": "cleanup"}),
        )
        .check(
            "mess.sh",
            "touch mess; echo 'echo sourced > ../sourced' > .gwms.d/exec/cleanup/zz.source",
        );
    let pilot = Pilot::new().gets(&[&factory]);
    let ran = pilot.run().await.passed();
    ran.engine.end().await;
    assert!(pilot.folder.path().join("tidied").exists());
    assert!(pilot.folder.path().join("sourced").exists());
}

#[tokio::test]
async fn what_a_check_starts_on_purpose_lives_as_long_as_the_pilot() {
    let factory = Sender::factory().check("mount.sh", "sleep 300 & echo $! > child");
    let ran = run(&[&factory]).await.passed();
    let child = fs::read_to_string(ran.area().join("child")).unwrap();
    let stat = format!("/proc/{}/stat", child.trim());
    let alive = || fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z "));
    assert!(alive());
    ran.engine.end().await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while alive() && tokio::time::Instant::now() < deadline {
        tokio::task::yield_now().await;
    }
    assert!(!alive());
}

#[tokio::test]
async fn a_check_of_the_site_needs_no_manifest() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("local_check");
    fs::write(&script, "#!/bin/sh\necho nothing works >&2\nexit 1\n").unwrap();
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let list = script.display().to_string();
    let ran = Pilot::new()
        .with("SAILPLANE_CUSTOM_CHECKS", &list)
        .run()
        .await;
    let words = ran.words();
    assert!(words.contains("site-local-check failed"), "{words}");
    assert!(words.contains("(site, )"), "{words}");
    assert!(
        ran.outcome("site-local-check")
            .detail
            .unwrap()
            .contains("nothing works")
    );
}

#[tokio::test]
async fn an_executable_that_is_none_is_explained() {
    let factory = Sender::factory().file("x.py", "#!/nowhere/python9\n", json!({}));
    let words = run(&[&factory]).await.words();
    assert!(words.contains("main/x.py could not be run"), "{words}");
}

#[tokio::test]
async fn archives_are_unpacked_where_the_dashboard_says() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("inside"), "content").unwrap();
    let tar = folder.path().join("tool.tar.gz");
    let done = std::process::Command::new("tar")
        .arg("-czf")
        .arg(&tar)
        .args(["-C", folder.path().to_str().unwrap(), "inside"])
        .status()
        .unwrap();
    assert!(done.success());
    let bytes = fs::read(&tar).unwrap();
    let sender = Sender::factory();
    fs::write(sender.folder.path().join("tool.tar.gz"), &bytes).unwrap();
    let factory = sender.says(
        "files",
        json!([{"name": "tool.tar.gz", "kind": "archive", "path_key": "TOOL_DIR", "size": bytes.len(),
                "sha256": validation::fetch::Digest::of(&bytes).to_string()}]),
    );
    let ran = run(&[&factory]).await.passed();
    let folder = ran.value("TOOL_DIR").unwrap();
    assert!(folder.ends_with("/main/tool"), "{folder}");
    assert_eq!(
        fs::read_to_string(format!("{folder}/inside")).unwrap(),
        "content"
    );
}
