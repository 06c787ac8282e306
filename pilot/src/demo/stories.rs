//! The jobs of the demo, and what each is meant to show.

use super::people::Proxy;

/// One job.
#[derive(Debug)]
pub(super) struct Story {
    /// Name of its folder, and of the job in tables.
    pub(super) name: &'static str,
    /// Who sends it.
    pub(super) user: &'static str,
    /// What it shows, for the report.
    pub(super) shows: &'static str,
    /// The program, a shell script; every one begins by saying who it is.
    script: &'static str,
    /// Further lines of the submit file.
    submit: &'static str,
    /// Files beside the script.
    pub(super) files: &'static [(&'static str, &'static str)],
    /// The credential it is sent with.
    pub(super) proxy: Proxy,
    /// How it must end.
    pub(super) end: End,
    /// Whether it only makes sense when jobs have accounts of their own.
    pub(super) needs_accounts: bool,
}

/// How a job is meant to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// With this exit code.
    Exit(i32),
    /// Held with a reason.
    Held,
    /// Removed by its user, this many seconds after it began to run.
    Removed(u64),
}

impl Story {
    /// The submit file.
    pub(super) fn submit_file(&self, proxy: &str) -> String {
        format!(
            "executable = {name}.sh\n\
             output = output.txt\n\
             error = error.txt\n\
             log = job.log\n\
             should_transfer_files = YES\n\
             when_to_transfer_output = ON_EXIT\n\
             request_memory = 64MB\n\
             request_disk = 10MB\n\
             x509userproxy = {proxy}\n\
             {more}\
             queue\n",
            name = self.name,
            more = self.submit,
        )
    }

    /// The program.
    pub(super) fn script(&self) -> String {
        format!("#!/bin/sh\necho \"uid=$(id -u)\"\n{}", self.script)
    }
}

const PLAIN: Story = Story {
    name: "",
    user: "",
    shows: "",
    script: "",
    submit: "",
    files: &[],
    proxy: Proxy::Good,
    end: End::Exit(0),
    needs_accounts: false,
};

/// The jobs, in the order in which they are sent.
pub(super) const STORIES: &[Story] = &[
    Story {
        name: "proxy-ends-soon",
        user: "alice",
        shows: "its proxy ends soon: stopped in time, and held with a reason",
        script: "exec sleep 600\n",
        proxy: Proxy::EndsSoon,
        end: End::Held,
        ..PLAIN
    },
    Story {
        name: "forged-proxy",
        user: "dave",
        shows: "its proxy was signed by a stranger: never runs, held with a reason",
        script: "echo this must never be seen\n",
        proxy: Proxy::Forged,
        end: End::Held,
        ..PLAIN
    },
    Story {
        name: "who-am-i",
        user: "alice",
        shows: "which account it runs under",
        script: "id\nsleep 1\n",
        ..PLAIN
    },
    Story {
        name: "who-am-i",
        user: "bob",
        shows: "which account it runs under",
        script: "id\nsleep 1\n",
        ..PLAIN
    },
    Story {
        name: "who-am-i",
        user: "carol",
        shows: "which account it runs under",
        script: "id\nsleep 1\n",
        ..PLAIN
    },
    Story {
        name: "who-am-i",
        user: "dave",
        shows: "no line for dave in the map file: a number lent for this one job",
        script: "id\nsleep 1\n",
        ..PLAIN
    },
    Story {
        name: "removed-while-running",
        user: "dave",
        shows: "its user changes his mind: stopped at once",
        script: "exec sleep 600\n",
        end: End::Removed(4),
        ..PLAIN
    },
    Story {
        name: "environment",
        user: "alice",
        shows: "the environment the user asked for, and what the pilot adds",
        script: "env | sort\n",
        submit: "environment = \"GREETING='hello from the submit file' ANSWER=42\"\narguments = \"one 'two words' three\"\n",
        ..PLAIN
    },
    Story {
        name: "files-in-and-out",
        user: "bob",
        shows: "a file and a folder go in, new files come back",
        script: "sort words.txt > sorted.txt\nls folder > listing.txt\nwc -l < words.txt\nsleep 2\n",
        submit: "transfer_input_files = words.txt, folder\ntransfer_output_files = sorted.txt, listing.txt\n\
                 transfer_output_remaps = \"sorted.txt = words-in-order.txt\"\n",
        files: &[
            (
                "words.txt",
                "pilot\nclaim\nslot\nlease\nsandbox\npayload\nshadow\n",
            ),
            ("folder/one.txt", "1\n"),
            ("folder/two.txt", "2\n"),
        ],
        ..PLAIN
    },
    Story {
        name: "fails",
        user: "carol",
        shows: "a program that fails: its exit code reaches the user",
        script: "echo something went wrong >&2\nsleep 1\nexit 7\n",
        end: End::Exit(7),
        ..PLAIN
    },
    Story {
        name: "curious-neighbour",
        user: "carol",
        shows: "tries to read the sandboxes of others and to signal their processes: cannot",
        script: "cd \"$_CONDOR_SCRATCH_DIR\" || exit 9\n\
                 mine=$(id -u)\n\
                 owner() { stat -c %u \"$1\" 2>/dev/null; }\n\
                 open=0\n\
                 for other in ../*; do\n\
                 \x20   [ \"$(owner \"$other\")\" = \"$mine\" ] && continue\n\
                 \x20   ls \"$other\" >/dev/null 2>&1 && open=$((open + 1))\n\
                 done\n\
                 reached=0\n\
                 for process in /proc/[0-9]*; do\n\
                 \x20   [ \"$(owner \"$process\")\" = \"$mine\" ] && continue\n\
                 \x20   kill -0 \"${process#/proc/}\" 2>/dev/null || continue\n\
                 \x20   # One of our own other jobs may just have become us.\n\
                 \x20   now=$(owner \"$process\")\n\
                 \x20   [ -n \"$now\" ] && [ \"$now\" != \"$mine\" ] && reached=$((reached + 1))\n\
                 done\n\
                 echo \"sandboxes of others that opened: $open\"\n\
                 echo \"processes of others that could be signalled: $reached\"\n\
                 [ $open = 0 ] && [ $reached = 0 ]\n",
        needs_accounts: true,
        ..PLAIN
    },
    Story {
        name: "leaves-a-child",
        user: "bob",
        shows: "leaves a process behind that wants to live on: it is gone with the job",
        script: "if [ \"$1\" = child ]; then sleep 600; exit; fi\nsetsid \"$0\" child </dev/null >/dev/null 2>&1 &\nsleep 2\n",
        ..PLAIN
    },
    Story {
        name: "works-a-while",
        user: "bob",
        shows: "some seconds of work, accounted",
        script: "n=0\nwhile [ $n -lt 1500000 ]; do n=$((n + 1)); done\necho counted to $n\n",
        ..PLAIN
    },
];
