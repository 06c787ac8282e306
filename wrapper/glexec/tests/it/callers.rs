//! Foreign callers: scripts that call gLExec the way the known pilot frameworks do, written anew from
//! what those are seen to do. None of them knows anything of this program.

use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Duration;

use crate::cell::{Cell, in_cell};

fn must_succeed(cell: &Cell, script: &str) -> String {
    let said = cell.run(&format!("set -e\n{script}"));
    assert_eq!(said.status, Some(0), "{said:?}");
    said.out
}

/// A starter that moves a job's sandbox to the user's account as a stream, runs the job there, and
/// takes the sandbox back; with a bounded number of tries on 202 and 203.
#[test]
fn g15_a_starter_that_ships_sandboxes_through_pipes() {
    in_cell(|cell| {
        crate::cell::make_dir("/scratch/slot", cell.pilot, 0o1777);
        let out = must_succeed(
            cell,
            "SH=$(readlink -f /bin/sh)
             S=/scratch/slot/dir_17
             mkdir $S.condor; echo input >$S.condor/in; cp $GLEXEC_CLIENT_CERT $S.condor/proxy
             chmod 600 $S.condor/proxy
             export GLEXEC_CLIENT_CERT=$S.condor/proxy GLEXEC_TARGET_PROXY=/dev/null
             tries=0
             while :; do
               rc=0
               tar -C $S.condor -c --exclude=proxy . | \
                 $GLEXEC $SH -c \"mkdir -m 0755 $S && cd $S && tar -xf -\" || rc=$?
               case $rc in 202|203) tries=$((tries+1)); [ $tries -lt 3 ] || exit $rc;; *) break;; esac
             done
             [ $rc = 0 ]
             unset GLEXEC_TARGET_PROXY
             $GLEXEC $SH -c \"cd \\\"$S\\\" && exec \\\"\\$@\\\"\" cd-and-exec $SH -c 'cat in; id -un >out; exit 3' || echo job $?
             GLEXEC_TARGET_PROXY=/dev/null $GLEXEC $SH -c \"tar -C $S -c .\" | tar -C $S.condor -x
             $GLEXEC $SH -c \"rm -rf $S\"
             cat $S.condor/out; ls /scratch/slot",
        );
        assert_eq!(out, "input\njob 3\nalice\ndir_17.condor\n");
    });
}

/// A starter that hands its job's wrapper a socket as standard input, waits there for a greeting, and
/// takes end-of-file for "the job runs now". Its pipe for diagnostics must end then, too.
#[test]
fn g14_a_starter_that_waits_for_the_end_of_a_socket() {
    in_cell(|cell| {
        let (mut ours, theirs) = UnixStream::pair().expect("a pair");
        ours.set_read_timeout(Some(Duration::from_secs(20)))
            .expect("set");
        let script = "exec $GLEXEC /bin/sh -c 'printf hello >&0; read line; \
                      exec /bin/sh -c \"sleep 30; exit 5\" </dev/null >/dev/null 2>&1'";
        let mut call = cell.prepared(script);
        call.stdin(Stdio::from(OwnedFd::from(theirs)));
        let mut child = call.spawn().expect("starts");
        drop(call);
        let mut greeting = [0; 5];
        ours.read_exact(&mut greeting).expect("a greeting");
        assert_eq!(&greeting, b"hello");
        ours.write_all(b"environment\n").expect("taken");
        let mut rest = Vec::new();
        ours.read_to_end(&mut rest)
            .expect("the job runs, and nobody holds the socket");
        assert!(rest.is_empty());
        child
            .stdout
            .take()
            .expect("a pipe")
            .read_to_end(&mut rest)
            .expect("ends");
        child
            .stderr
            .take()
            .expect("a pipe")
            .read_to_end(&mut rest)
            .expect("ends");
        assert!(
            child.try_wait().expect("ours").is_none(),
            "the job still runs"
        );
        crate::contract::signal(child.id(), libc::SIGTERM);
        assert_eq!(child.wait().expect("ends").code(), Some(143));
    });
}

/// A pilot that looks for gLExec's tools beside it, carries its environment across, and runs a line of
/// shell in a directory that mkgltempdir has made.
#[test]
fn g15_a_pilot_with_wrapped_environment_and_temporary_directory() {
    in_cell(|cell| {
        let out = must_succeed(
            cell,
            "GLEXEC_LOCATION=/opt/glite; B=$GLEXEC_LOCATION/sbin
             mkdir new; cp $GLEXEC_CLIENT_CERT new/user_proxy; chmod 0700 new/user_proxy
             export GLEXEC_SOURCE_PROXY=$PWD/new/user_proxy GLEXEC_CLIENT_CERT=$PWD/new/user_proxy
             T=$($B/mkgltempdir -t 777 2>err); [ ! -s err ]
             export GLEXEC_TARGET_DIR=$T JOBID=42
             echo data >$T/data.json; chmod 644 $T/data.json; mkdir -m 777 $T/output
             export GLEXEC_ENV=`$B/glexec_wrapenv.pl`
             $B/glexec $B/glexec_unwrapenv.pl -- \"cd $T; cat data.json; echo \\$JOBID >output/id; id -un 2>&1;\"
             cat $T/output/id
             $B/mkgltempdir -r -f $T; ls /tmp | wc -l",
        );
        assert_eq!(out, "data\nalice\n42\n0\n");
    });
}

/// A monitoring probe: version, uid of the payload, a round of copies, cleaning up.
#[test]
fn g15_a_probe() {
    in_cell(|cell| {
        let out = must_succeed(
            cell,
            "export GLEXEC_SOURCE_PROXY=${GLEXEC_CLIENT_CERT}
             $GLEXEC -v >version; [ -s version ]
             U=$($GLEXEC /usr/bin/id -u); [ \"$U\" != \"$(id -u)\" ]
             S=$(/opt/glite/sbin/mkgltempdir); T=$(dirname $S)
             printf '#!/bin/sh\\ncd '$S'\\necho Hello world >payload.out\\nchmod a+rx .\\nchmod a+r ./*\\n' >$T/w.sh
             chmod 755 $T/w.sh; $GLEXEC /bin/cp $T/w.sh $S; rm $T/w.sh
             $GLEXEC $S/w.sh; cat $S/payload.out
             $GLEXEC /bin/sh -c \"rm $S/*\"; /opt/glite/sbin/mkgltempdir -r $S
             [ ! -e $S ] && echo clean",
        );
        assert_eq!(out, "Hello world\nclean\n");
    });
}

/// A signal for a job goes through gLExec as well, with the same credential.
#[test]
fn a_starter_that_kills_through_glexec() {
    in_cell(|cell| {
        let out = must_succeed(
            cell,
            "$GLEXEC /bin/sh -c 'echo $$ >/scratch/pid; exec sleep 100' & front=$!
             while [ ! -s /scratch/pid ]; do sleep 0.05; done
             $GLEXEC /bin/kill -TERM $(cat /scratch/pid)
             wait $front || echo ended $?"
                .replace("/scratch/pid", "/var/tmp/pid")
                .as_str(),
        );
        assert_eq!(out, "ended 143\n");
    });
}

/// A glidein that finds gLExec by the variables of the grid's software, opens its own directories, and tries two commands: a
/// line of shell, and a script of its own.
#[test]
fn g15_a_glidein_that_looks_for_glexec_and_tries_it() {
    in_cell(|cell| {
        let out = must_succeed(
            cell,
            "unset GLEXEC_CLIENT_CERT; export X509_USER_PROXY=/scratch/pilot/x509_payload
             work=$PWD/glide_Xy12; mkdir -p $work/tmp; cd $work/tmp
             found=none; unset OSG_GLEXEC_LOCATION GLITE_LOCATION
             GLEXEC_LOCATION=/nowhere; GLITE_LOCATION=/opt/glite
             for place in \"$GLEXEC_LOCATION\" \"$GLITE_LOCATION\"; do
               if [ $found = none ] && [ -f \"$place/sbin/glexec\" ] && [ -x \"$place/sbin/glexec\" ]; then
                 found=$place/sbin/glexec
               fi
             done
             ( while [ \"$(pwd)\" != / ]; do chmod a+x . 2>/dev/null || break; cd ..; done )
             export ALTSH=$(readlink -f /bin/sh)
             said=$(env GLEXEC_CLIENT_CERT=\"$X509_USER_PROXY\" $found \"$ALTSH\" -c 'id && echo \"Hello World\"')
             [ \"$(echo \"$said\" | tail -1)\" = 'Hello World' ]; echo \"$said\" | grep -c '(alice)'
             printf '#!/bin/sh\\nid && echo Hello World\\n' >try.sh; chmod a+x try.sh
             env GLEXEC_CLIENT_CERT=\"$X509_USER_PROXY\" $found $PWD/try.sh | tail -1",
        );
        assert_eq!(out, "1\nHello World\n");
    });
}

/// A starter that renews the credential of a job that runs: through a pipe, in the user's name, beside the old one and then
/// over it; and that takes the sandbox back in one go, without the credential.
#[test]
fn g15_a_starter_that_renews_a_jobs_credential_and_takes_its_sandbox() {
    in_cell(|cell| {
        crate::cell::make_dir("/scratch/slot", cell.pilot, 0o1777);
        let out = must_succeed(
            cell,
            "SH=$(readlink -f /bin/sh); S=/scratch/slot/dir_18; P=user_proxy
             mkdir $S.condor; cp $GLEXEC_CLIENT_CERT $S.condor/$P; chmod 600 $S.condor/$P
             export GLEXEC_CLIENT_CERT=$S.condor/$P GLEXEC_TARGET_PROXY=/dev/null
             tar -C $S.condor -c . | $GLEXEC $SH -c \"install -m 755 -d \\\"$S\\\" && tar -C \\\"$S\\\" -x\"
             $GLEXEC $SH -c \"cd $S && echo made >result && while [ ! -e stop ]; do sleep 0.05; done; exit 7\" & job=$!
             while [ ! -s $S/result ]; do sleep 0.05; done
             echo 'accept 7200 full /CN=Alice' >new; chmod 600 new
             cat new | $GLEXEC $SH -c \"umask 077 && cat >$S/$P.copy && mv -f $S/$P.copy $S/$P\" && mv -f new $S.condor/$P
             $GLEXEC $SH -c \"stat -c '%U %a' $S/$P; cat $S/$P; touch $S/stop\"
             wait $job || echo job $?
             $GLEXEC $SH -c \"rm $S/$P $S/stop && tar -C $S -c . && rm -rf $S\" | tar -C $S.condor -x
             mv $S.condor $S; cat $S/result; cat $S/$P; ls /scratch/slot",
        );
        assert_eq!(
            out,
            "alice 600\naccept 7200 full /CN=Alice\njob 7\nmade\naccept 7200 full /CN=Alice\ndir_18\n"
        );
    });
}

/// A starter that tries again on 202 and 203 and on nothing else: a broken site it gives a few chances, a broken call none.
#[test]
fn g9_a_starter_that_tries_again_goes_by_the_status() {
    in_cell(|cell| {
        let bans = "/etc/sailplane/bans";
        crate::cell::put(bans, "dn \"/CN=Alice\"\n", 0o644);
        cell.configure(&format!("ban_lists = {bans}\n"));
        let script = "tries=0; while :; do $GLEXEC /bin/true 2>/dev/null; rc=$?
             [ $rc = 0 ] && break
             [ $rc = 202 ] || [ $rc = 203 ] || { echo gives up $rc; break; }
             tries=$((tries+1)); [ $tries -gt 3 ] && { echo in vain; break; }
             echo $rc
             done; echo tries $tries";
        let said = cell.run(script);
        assert_eq!(said.out, "203\n203\n203\nin vain\ntries 4\n", "{said:?}");
        // A site that is mended meanwhile.
        let mended = script.replace(
            "echo $rc",
            "echo $rc; while [ ! -e go ]; do sleep 0.02; done",
        );
        let child = cell.begin(&mended);
        crate::cell::put(bans, "# nobody\n", 0o644);
        crate::cell::put("/scratch/pilot/go", "", 0o644);
        let said = crate::cell::said(child.wait_with_output().expect("ends"));
        assert!(
            said.out == "203\ntries 1\n" || said.out == "tries 0\n",
            "{said:?}"
        );
        // A credential that cannot be used is the caller's own trouble.
        cell.credential("reject proxy.expired");
        assert_eq!(cell.run(script).out, "gives up 201\ntries 0\n");
    });
}
