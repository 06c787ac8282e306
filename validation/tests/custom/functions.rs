//! The functions that scripts source, in bash and in dash, with the pilot's program and without it.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use validation::custom::area::{Area, Identity};

struct Shell {
    name: &'static str,
    folder: tempfile::TempDir,
    area: Area,
}

impl Shell {
    fn new(name: &'static str, program: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let words = [program.into(), "gconfig".into()];
        let area = Area::make(folder.path(), &words, &Identity::default()).unwrap();
        Self { name, folder, area }
    }

    fn all() -> Vec<Self> {
        let program = env!("CARGO_BIN_EXE_validation-gconfig");
        ["bash", "dash"]
            .into_iter()
            .flat_map(|name| {
                [
                    Self::new(name, program),
                    Self::new(name, "/nowhere/sailplane"),
                ]
            })
            .collect()
    }

    fn run(&self, body: &str) -> Output {
        let script = format!(
            "glidein_config=$PWD/glidein_config\ncondor_vars_file=$PWD/main/condor_vars.lst\n\
             . ./add_config_line.source\n. ./get_id_selectors.source\n. ./glidein_paths.source\n{body}\n"
        );
        Command::new(self.name)
            .args(["-c", &script])
            .current_dir(self.area.top())
            .output()
            .unwrap()
    }

    fn says(&self, body: &str) -> String {
        let output = self.run(body);
        let complaints = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{}: {body}: {complaints}",
            self.name
        );
        String::from_utf8(output.stdout).unwrap()
    }

    fn board(&self, content: &str) {
        fs::write(self.area.top().join("glidein_config"), content).unwrap();
    }
}

#[test]
fn values_are_read_literally() {
    for shell in Shell::all() {
        shell.board(
            "AB 1\nA old\nA.C dot\nA  two  blanks \nMixed Case\nQ  \"quoted\" \n* star\nEmpty \n",
        );
        assert_eq!(shell.says("gconfig_get A"), " two  blanks \n");
        assert_eq!(shell.says("gconfig_get A.C \"$glidein_config\""), "dot\n");
        assert_eq!(shell.says("gconfig_get '*'"), "star\n");
        assert_eq!(shell.says("gconfig_get NOTHING; echo $?"), "0\n");
        assert_eq!(shell.says("gconfig_get A /nowhere; echo $?"), "0\n");
        assert_eq!(shell.says("echo \"[$(gconfig_get Empty)]\""), "[]\n");
        assert_eq!(
            shell.says("gconfig_get_tolower Mixed; gconfig_get_toupper Mixed"),
            "case\nCASE\n"
        );
        assert_eq!(shell.says("gconfig_get_trim Q"), "quoted\n");
        assert_eq!(
            shell
                .run("glidein_config=; gconfig_get A; echo no")
                .status
                .code(),
            Some(1)
        );
        assert_eq!(
            shell
                .run("gconfig_get A \"$glidein_config\" i; echo no")
                .status
                .code(),
            Some(1)
        );
    }
    let shell = Shell::all().remove(0);
    shell.board("Mixed Case\n");
    assert_eq!(
        shell.says("gconfig_get mixed \"$glidein_config\" -i"),
        "Case\n"
    );
}

#[test]
fn truth_has_many_words() {
    for shell in Shell::all() {
        let words = ["true", "Y", "1", "007", "0", "false", "-1", "", "on"];
        let lines: String = words
            .iter()
            .enumerate()
            .map(|(n, word)| format!("K{n} {word}\n"))
            .collect();
        shell.board(&lines);
        let said =
            shell.says("for n in 0 1 2 3 4 5 6 7 8; do gconfig_get_bool K$n && echo $n || :; done");
        assert_eq!(said, "0\n1\n2\n3\n", "{}", shell.name);
    }
}

#[test]
fn values_are_written_as_they_are() {
    for shell in Shell::all() {
        shell.board("\n# note\nVER 1x2\nABC keep\nVER 1x2\n");
        let body = r#"set -eu
            gconfig_add VER 1.2
            add_config_line A.C 'it'\''s "here" $HOME `id` \n; *' "and  more"
            gconfig_add_safe -n x
            add_config_line_safe E
            gconfig_get A.C"#;
        let said = shell.says(body);
        assert_eq!(
            said, "it's \"here\" $HOME `id` \\n; * and  more\n",
            "{}",
            shell.name
        );
        let board = fs::read_to_string(shell.area.top().join("glidein_config")).unwrap();
        let mut lines: Vec<&str> = board.lines().collect();
        lines.sort_unstable();
        assert_eq!(
            lines,
            [
                "",
                "# note",
                "-n x",
                "A.C it's \"here\" $HOME `id` \\n; * and  more",
                "ABC keep",
                "E ",
                "VER 1.2"
            ],
            "{}",
            shell.name
        );
        let history = fs::read_to_string(shell.area.top().join("glidein_config.history")).unwrap();
        assert!(
            history
                .lines()
                .any(|line| line.starts_with("REG") && line.ends_with(" VER 1.2"))
        );
        assert_eq!(
            shell
                .run("glidein_config=; gconfig_add A 1; echo no")
                .status
                .code(),
            Some(1)
        );
    }
}

#[test]
fn nobody_loses_an_update() {
    for shell in Shell::all() {
        shell.says(
            "for n in 1 2 3 4 5 6; do (gconfig_add P$n $n; gconfig_add P$n again) & done; wait",
        );
        let board = fs::read_to_string(shell.area.top().join("glidein_config")).unwrap();
        for n in 1..=6 {
            assert!(
                board.contains(&format!("\nP{n} again\n")),
                "{}: P{n}",
                shell.name
            );
        }
    }
}

#[test]
fn locks_are_held_by_the_shell() {
    for shell in Shell::all() {
        let said = shell.says("lock_file glidein_config && lock_file glidein_config && unlock_file glidein_config && echo done");
        assert_eq!(said, "done\n");
        assert_eq!(
            shell.run("unlock_file glidein_config").status.code(),
            Some(1)
        );
    }
    // One whose shell is gone is no obstacle.
    let shell = Shell::all().remove(0);
    shell.says("lock_file glidein_config");
    assert_eq!(shell.says("gconfig_add A 1; gconfig_get A"), "1\n");
}

#[test]
fn variables_have_one_line_each() {
    for shell in Shell::all().into_iter().filter(|shell| {
        Path::new(env!("CARGO_BIN_EXE_validation-gconfig")).exists()
            && shell.says("_sailplane_here && echo y || echo n") == "y\n"
    }) {
        shell.says(
            r#"add_condor_vars_line A C "-" "+" "Y" "Y" "-"
               add_condor_vars_line S C '\\$F\\(PATH_OF_X\\)' "+" "N" "N" "-"
               add_condor_vars_line A S "-" "B" "N" "Y" "@""#,
        );
        assert_eq!(
            fs::read_to_string(shell.area.top().join("main/condor_vars.lst")).unwrap(),
            "S C \\\\$F\\\\(PATH_OF_X\\\\) + N N -\nA S - B N Y @\n"
        );
        assert_eq!(
            shell.says("condor_vars_file=; add_condor_vars_line A S - + N N - || echo $?"),
            "1\n"
        );
    }
}

#[test]
fn scopes_are_told_apart() {
    for shell in Shell::all() {
        let said = shell.says("get_prefix main; get_prefix entry; get_prefix client; get_prefix client_group; get_prefix x || echo $?");
        assert_eq!(said, "\nENTRY_\nGLIDECLIENT_\nGLIDECLIENT_GROUP_\n1\n");
        assert!(shell.says("get_work_dir entry").ends_with("/entry_\n"));
        assert_eq!(shell.run("get_work_dir x").status.code(), Some(1));
    }
}

#[test]
fn scripts_of_a_folder_are_run_in_their_order() {
    for shell in Shell::all() {
        let folder = shell.folder.path().join("aux/exec/prejob");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("20.sh"), "echo sourced $seen").unwrap();
        fs::write(folder.join("30.ignore"), "echo never").unwrap();
        fs::write(folder.join("10"), "#!/bin/sh\necho ran $1\n").unwrap();
        fs::set_permissions(
            folder.join("10"),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )
        .unwrap();
        let aux = shell.folder.path().join("aux");
        let said = shell.says(&format!(
            "seen=it; gwms_process_scripts '{}' prejob glidein_config; pwd",
            aux.display()
        ));
        let lines: Vec<&str> = said.lines().collect();
        assert!(
            lines[0].starts_with("ran /") && lines[0].ends_with("/glidein_config"),
            "{said}"
        );
        assert_eq!(lines[1], "sourced it");
        assert_eq!(lines[2], shell.area.top().to_str().unwrap());
        assert_eq!(
            shell.says("gwms_from_config GLIDEIN_ADVERTISE_ONLY; gwms_from_config NO default"),
            "0\ndefault\n"
        );
    }
}

#[test]
fn results_are_well_formed_whatever_is_in_them() {
    let shell = Shell::all().remove(0);
    let said = shell.says("main/error_gen.sh -error my_check WN_Resource 'a < b & \"c\"\nsecond' free 812 path '/x & y' odd; cat otrb_output.xml");
    for part in [
        "<OSGTestResult id=\"my_check\" version=\"4.3.1\">",
        "<status>ERROR</status>",
        ">WN_Resource</metric>",
        "<metric name=\"free\"",
        "/x &amp; y</metric>",
        "a &lt; b &amp; &quot;c&quot;\n    second\n",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
    assert!(!said.contains("odd"));
    let said = shell.says("main/error_gen.sh -ok my_check; main/error_augment.sh -process 0 main/x.sh /w '/w/x.sh glidein_config' 1 2; cat otrx_output.xml");
    assert!(
        said.contains("id=\"main/x.sh\"") && said.contains("<status>OK</status>"),
        "{said}"
    );
    assert_eq!(
        shell.run("main/error_gen.sh -maybe x").status.code(),
        Some(1)
    );
}
