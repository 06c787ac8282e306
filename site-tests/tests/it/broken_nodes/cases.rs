//! The ways of breaking a node.

use super::node::Case;

/// Exit statuses by class (docs/validation.md).
const FIT: i32 = 0;
const SITE: i32 = 10;
const SITE_LATER: i32 = 11;
const POOL: i32 = 20;
const FACTORY: i32 = 30;
const FRONTEND: i32 = 40;

/// Puts a copy of a folder, for a change of it, in its place.
const HELPER: &str = "change() { mkdir $W/copy; mount -t tmpfs t $W/copy; cp -a $1/. $W/copy; chmod 755 $W/copy; }\n\
     put() { mount --bind $W/copy $1; }\n\
     LIB=/usr/lib/sailplane ETC=/etc/sailplane";

/// A manifest of one check, `$W/web/manifest.json`, and its digest in the pilot's configuration.
const MANIFEST: &str = r#"mkdir $W/web
printf '#!/bin/sh\nexit 0\n' > $W/web/check.sh
manifest() {
    printf '{"manifest":1,"owner":"factory","name":"f","scopes":[{"scope":"factory","files":[{"name":"%s","kind":"check","sha256":"%s","size":%s}]}]}' \
        "$1" "$(sha256sum < $W/web/check.sh | cut -d' ' -f1)" "$(stat -c %s $W/web/check.sh)" > $W/web/manifest.json
}
pin() { echo "SAILPLANE_MANIFESTS = file://$W/web/manifest.json#sha256=$(sha256sum < $W/web/manifest.json | cut -d' ' -f1)" >> $W/pilot.conf; }
manifest check.sh"#;

/// `hang FOLDER`: a file system (FUSE) whose server takes every question and answers none, so that whoever asks hangs in the
/// kernel and cannot be killed; until the server ends, after eight seconds.
const HANG: &str = r#"cat > $W/hang.pl <<'END'
use Fcntl; use POSIX ();
sysopen(my $fuse, "/dev/fuse", O_RDWR) or die "no /dev/fuse: $!";
my ($source, $type, $options) = ("hang", "fuse.hang", "fd=" . fileno($fuse) . ",rootmode=40000,user_id=0,group_id=0,allow_other");
my $mount = (POSIX::uname())[4] eq "x86_64" ? 165 : 40;
syscall($mount, $source, $ARGV[0], $type, 0, $options) == 0 or die "mount: $!";
exit if fork; POSIX::setsid(); open $_, "+<", "/dev/null" for \*STDIN, \*STDOUT, \*STDERR; alarm 8;
while (sysread($fuse, my $question, 1 << 20)) {
    my ($length, $what, $which) = unpack "LLQ", $question;
    next if $what != 26; # INIT
    my $body = pack "LLLLSSLLSSLx28", 7, 31, 0, 0, 16, 12, 65536, 1, 32, 0, 0;
    syswrite $fuse, pack("LlQ", 16 + length $body, 0, $which) . $body;
}
END
hang() { perl $W/hang.pl $1; }"#;

pub(super) fn all() -> Vec<Case> {
    let mut all = vec![Case::new("healthy")];
    all.extend(disks());
    all.extend(hanging());
    all.extend(more());
    all.extend(limits());
    all.extend(helpers());
    all.extend(trust());
    all.extend(network());
    all.extend(scripts());
    all.extend(the_rest());
    all
}

fn disks() -> Vec<Case> {
    let tmpfs = |options: &str| format!("mount -t tmpfs -o mode=1777,{options} t $EXECUTE");
    vec![
        Case::new("disk-full")
            .root(&tmpfs("size=120m"))
            .root("head -c 100m /dev/zero > $EXECUTE/fill")
            .finds("work-space", "site", SITE_LATER)
            .says("MiB free"),
        Case::new("disk-full-to-the-last-byte")
            .root(&tmpfs("size=64k"))
            .root("head -c 64k /dev/zero > $EXECUTE/fill")
            .finds("work-space", "site", SITE_LATER),
        Case::new("disk-without-inodes")
            .root(&tmpfs("size=900m,nr_inodes=40"))
            .finds("work-space", "site", SITE_LATER)
            .says("files"),
        Case::new("disk-read-only")
            .root(&tmpfs("size=900m"))
            .root("mount -o remount,ro $EXECUTE")
            .finds("work-write", "site", SITE)
            .says("read-only"),
        Case::new("disk-noexec")
            .root(&tmpfs("size=900m,noexec"))
            .finds("work-exec", "site", SITE)
            .says("noexec"),
        Case::new("disk-of-somebody-else")
            .root("chown 0:0 $EXECUTE")
            .finds("work-write", "site", SITE),
        Case::new("disk-is-a-file")
            .root("rmdir $EXECUTE; touch $EXECUTE")
            .finds("work-write", "site", SITE)
            .says("EXECUTE"),
        Case::new("disk-behind-a-closed-folder")
            .root("mkdir -p $W/closed/execute; chown $PILOT $W/closed/execute; chmod 700 $W/closed; chown 0:0 $W/closed")
            .knob("EXECUTE", "{W}/closed/execute")
            .finds("work-space", "site", SITE)
            .says("closed"),
        Case::new("disk-behind-a-folder-closed-to-jobs")
            .root("mkdir $EXECUTE/closed; mkdir $EXECUTE/closed/e; chown $PILOT $EXECUTE/closed/e; chgrp $GROUP $EXECUTE/closed; chmod 750 $EXECUTE/closed")
            .root("sed -i \"s|^EXECUTE = .*|EXECUTE = $EXECUTE/closed/e|\" $W/pilot.conf")
            .knob("EXECUTE", "$(HERE)/closed/e")
            .root("echo \"HERE = $EXECUTE\" >> $W/pilot.conf")
            .finds("switch-path", "site", SITE)
            .says("closed"),
    ]
}

/// Places that do not answer, and hold up nobody but their own checks.
fn hanging() -> Vec<Case> {
    let hanging = |name| {
        Case::new(name).root(HANG).knob(
            "SAILPLANE_CHECKS_LIMIT",
            "work-*=2, left-overs=2, switch-*=2, temporary-folder=2, ca-directory=2, crl-age=2",
        )
    };
    vec![
        hanging("disk-that-hangs")
            .root("hang $EXECUTE")
            .knob("SAILPLANE_SWITCH_TRIAL", "FALSE")
            .finds("work-space", "site", SITE_LATER)
            .says("does not answer"),
        hanging("temporary-folder-that-hangs")
            .root("mkdir $W/tmp; hang $W/tmp")
            .account("export TMPDIR=$W/tmp")
            .finds("temporary-folder", "site", FIT)
            .says("does not answer"),
        hanging("authorities-that-hang")
            .root("mkdir $W/certificates; hang $W/certificates")
            .knob("SAILPLANE_CA_DIRECTORY", "{W}/certificates")
            .finds("ca-directory", "site", SITE_LATER)
            .says("does not answer"),
    ]
}

fn limits() -> Vec<Case> {
    vec![
        Case::new("few-descriptors")
            .account("ulimit -n 64")
            .finds("open-files", "site", SITE)
            .says("ulimit -Hn"),
        Case::new("few-processes")
            .account("prlimit --pid $$ --nproc=40:40")
            .finds("processes", "site", SITE_LATER)
            .says("ulimit -u"),
        Case::new("hardly-any-process")
            .account("prlimit --pid $$ --nproc=6:6")
            .finds("processes", "site", SITE_LATER)
            .says("ulimit -u"),
        Case::new("small-address-space")
            .account("ulimit -v 600000")
            .knob("MEMORY", 4096)
            .finds("memory-offered", "site", FIT)
            .says("ulimit -v"),
        Case::new("small-files")
            .account("ulimit -f 8")
            .finds("work-space", "site", SITE)
            .says("ulimit -f"),
        Case::new("one-core-of-two")
            .account("taskset -p 1 $$ > /dev/null")
            .knob("NUM_CPUS", 2)
            .finds("cpus", "site", FIT),
        Case::new("more-memory-than-there-is")
            .knob("MEMORY", 9_000_000)
            .finds("memory-offered", "factory", FIT),
        Case::new("little-processor-time")
            .account("ulimit -t 600")
            .finds("batch-system", "site", SITE)
            .says("ulimit -t"),
        Case::new("tiny-memory-group")
            .root("if [ -d /sys/fs/cgroup/memory ]; then G=/sys/fs/cgroup/memory/node-$$ M=memory.limit_in_bytes; else G=/sys/fs/cgroup/node-$$ M=memory.max; fi\n\
                   mkdir $G; echo 90M > $G/$M; sh -c \"while [ -d /proc/$$ ]; do sleep 0.1; done; rmdir $G\" >/dev/null 2>&1 & echo $$ > $G/cgroup.procs")
            .finds("memory", "factory", FACTORY)
            .says("memory."),
        Case::new("half-a-core")
            .root("if [ -d /sys/fs/cgroup/cpu ]; then G=/sys/fs/cgroup/cpu/node-$$; mkdir $G; echo 100000 > $G/cpu.cfs_period_us; echo 50000 > $G/cpu.cfs_quota_us\n\
                   else G=/sys/fs/cgroup/node-$$; mkdir $G; echo '50000 100000' > $G/cpu.max; fi\n\
                   sh -c \"while [ -d /proc/$$ ]; do sleep 0.1; done; rmdir $G\" >/dev/null 2>&1 & echo $$ > $G/cgroup.procs")
            .knob("NUM_CPUS", 2)
            .finds("cpus", "site", FIT)
            .says("cpu."),
        Case::new("in-a-user-namespace")
            .account("exec unshare --user --map-current-user sh -ec 'exec \"$PROGRAM\" validate --config \"$W/pilot.conf\" --format json \"$@\"' sh \"$@\"")
            .finds("switch-helper", "site", SITE)
            .says("user namespace"),
        Case::new("no-new-privileges")
            .account("exec setpriv --no-new-privs sh -ec 'exec \"$PROGRAM\" validate --config \"$W/pilot.conf\" --format json \"$@\"' sh \"$@\"")
            .finds("switch-helper", "site", SITE)
            .says("no_new_privs"),
    ]
}

fn helpers() -> Vec<Case> {
    let lib = |name, line: &str| {
        Case::new(name)
            .root(HELPER)
            .root("change $LIB")
            .root(line)
            .root("put $LIB")
    };
    let etc = |name, line: &str| {
        Case::new(name)
            .root(HELPER)
            .root("change $ETC")
            .root(line)
            .root("put $ETC")
    };
    vec![
        Case::new("helper-nosuid")
            .root("mount --bind /usr/lib/sailplane /usr/lib/sailplane; mount -o remount,bind,nosuid /usr/lib/sailplane")
            .finds("switch-helper", "site", SITE)
            .says("nosuid"),
        Case::new("helper-noexec")
            .root("mount --bind /usr/lib/sailplane /usr/lib/sailplane; mount -o remount,bind,noexec /usr/lib/sailplane")
            .finds("switch-helper", "site", SITE)
            .says("noexec"),
        lib("helper-missing", "rm $W/copy/sailplane-switch")
            .finds("switch-helper", "site", SITE)
            .says("/usr/lib/sailplane/sailplane-switch"),
        lib("helper-not-setuid", "chmod 755 $W/copy/sailplane-switch")
            .finds("switch-helper", "site", SITE)
            .says("chmod"),
        lib("helper-not-executable", "chmod 4700 $W/copy/sailplane-switch")
            .finds("switch-helper", "site", SITE),
        lib("helper-of-somebody-else", "chown $PILOT $W/copy/sailplane-switch; chmod 4755 $W/copy/sailplane-switch")
            .finds("switch-helper", "site", SITE)
            .says("root"),
        lib("helper-without-verifier", "rm $W/copy/sailplane-verify")
            .finds("switch-start", "site", SITE)
            .says("sailplane-verify"),
        lib("helper-without-job", "rm $W/copy/sailplane-job")
            .finds("switch-start", "site", SITE)
            .says("sailplane-job"),
        lib("helper-without-broker", "rm $W/copy/sailplane-broker")
            .finds("switch-start", "site", SITE)
            .says("sailplane-broker"),
        lib("helper-cut-short", "truncate -s 1000 $W/copy/sailplane-switch; chmod 4755 $W/copy/sailplane-switch")
            .finds("switch-start", "site", SITE_LATER)
            .says("SIG"),
        etc("helper-without-configuration", "rm $W/copy/switch.conf")
            .finds("switch-start", "site", SITE)
            .says("switch.conf"),
        etc("helper-configuration-of-everybody", "chmod 666 $W/copy/switch.conf")
            .finds("switch-start", "site", SITE)
            .says("switch.conf"),
        etc("helper-configuration-of-the-pilot", "chown $PILOT $W/copy/switch.conf")
            .finds("switch-start", "site", SITE)
            .says("switch.conf"),
        etc("helper-configuration-misspelt", "echo 'no_such_key = 1' >> $W/copy/switch.conf")
            .finds("switch-start", "site", SITE)
            .says("no_such_key"),
        etc("helper-for-others", "sed -i 's/^user_white_list = .*/user_white_list = nobody/' $W/copy/switch.conf")
            .finds("switch-start", "site", SITE)
            .says("user_white_list"),
        etc("helper-for-another-folder", "sed -i 's|^execute_dirs = .*|execute_dirs = /srv/jobs|' $W/copy/switch.conf")
            .finds("switch-start", "factory", FACTORY)
            .says("execute_dirs"),
        etc("account-missing", "sed -i 's|^dynamic_uids = .*||' $W/copy/switch.conf\n\
             printf '\"%s\" nosuchaccount\\n' \"$(cat $CERTS/../users/alice/subject)\" > $W/copy/grid-mapfile\n\
             printf '[switch]\\ngridmap = /etc/sailplane/grid-mapfile\\n' >> $W/copy/switch.conf")
            .finds("switch-account", "site", SITE)
            .says("nosuchaccount"),
        Case::new("pilot-without-an-account")
            .root("grep -v '^sailplane-pilot:' /etc/passwd > $W/passwd; chmod 644 $W/passwd; mount --bind $W/passwd /etc/passwd")
            .finds("switch-start", "site", SITE),
        Case::new("helper-not-wanted-and-required")
            .knob("SAILPLANE_IDENTITY_SWITCH", "NEVER")
            .knob("SAILPLANE_SWITCH_REQUIRED", "TRUE")
            .finds("switch-policy", "factory", FACTORY),
    ]
}

fn trust() -> Vec<Case> {
    let certs = |name, line: &str| {
        Case::new(name)
            .root(HELPER)
            .root("change $CERTS")
            .root(line)
            .root("put $CERTS")
    };
    vec![
        certs("authorities-missing", "rm -r $W/copy/*")
            .finds("ca-directory", "site", SITE),
        Case::new("authorities-folder-missing")
            .knob("SAILPLANE_CA_DIRECTORY", "/no/such/certificates")
            .finds("ca-directory", "site", SITE)
            .says("/no/such/certificates"),
        certs("authorities-closed", "chmod 700 $W/copy")
            .finds("ca-directory", "site", SITE)
            .says("certificates"),
        certs("revocation-lists-over", "cd $W/copy; for ca in *.0; do h=${ca%.0}; touch $W/index\n\
             printf '[ca]\\ndefault_ca=x\\n[x]\\ndatabase=%s\\ndefault_md=sha256\\n' $W/index > $W/ca.conf\n\
             openssl ca -config $W/ca.conf -gencrl -crl_lastupdate 20200101000000Z -crl_nextupdate 20200201000000Z \
             -keyfile $CERTS/../ca/ca.key -cert $ca -out $h.r0 2> /dev/null; chmod 644 $h.r0; done; cd /")
            .finds("ca-directory", "site", SITE)
            .says("revocation"),
        Case::new("proxy-over")
            .root("cp $W/../over.pem $W/proxy.pem")
            .finds("pilot-credential", "frontend", FRONTEND)
            .says("proxy.pem"),
        Case::new("proxy-missing")
            .root("rm $W/proxy.pem")
            .finds("pilot-credential", "frontend", FRONTEND)
            .says("proxy.pem"),
        Case::new("proxy-readable-by-others")
            .root("chmod 644 $W/proxy.pem")
            .finds("pilot-credential", "frontend", FRONTEND)
            .says("0644"),
        Case::new("proxy-is-rubbish")
            .root("echo rubbish > $W/proxy.pem")
            .finds("pilot-credential", "frontend", FRONTEND)
            .says("proxy.pem"),
        Case::new("token-missing")
            .root("rm $W/tokens/*")
            .finds("collector-ping", "frontend", FIT)
            .says("condor_token_request_approve"),
        Case::new("token-missing-and-none-asked-for")
            .root("rm $W/tokens/*")
            .knob("SAILPLANE_TOKEN_REQUEST", "FALSE")
            .finds("collector-ping", "frontend", FRONTEND)
            .says("token"),
        Case::new("token-over")
            .root("b() { base64 -w0 | tr '+/' '-_' | tr -d =; }; printf '%s.%s.%s' \"$(printf '{\"alg\":\"HS256\",\"kid\":\"POOL\"}' | b)\" \
                   \"$(printf '{\"iss\":\"x\",\"sub\":\"pilot@x\",\"iat\":1,\"exp\":1000}' | b)\" sig > $W/tokens/pool")
            .finds("pilot-credential", "frontend", FRONTEND)
            .says("tokens"),
        Case::new("token-of-another-pool")
            .root("T=$(cat $W/tokens/pool); echo \"${T%?????}AAAAA\" > $W/tokens/pool")
            .finds("collector-ping", "frontend", FRONTEND),
        Case::new("token-readable-by-others")
            .root("chmod 644 $W/tokens/pool")
            .finds("pilot-credential", "frontend", FIT)
            .says("0644"),
        Case::new("vo-not-trusted")
            .knob("SAILPLANE_CHECK_VOS", "no.such.vo")
            .finds("voms-trust", "site", SITE)
            .says("no.such.vo"),
    ]
}

fn network() -> Vec<Case> {
    vec![
        Case::new("clock-ahead")
            .account("export LD_PRELOAD=$(dirname $(find /usr/lib -name libfaketime.so.1))/libfaketime.so.1 FAKETIME=+2h")
            .finds("clock", "site", SITE)
            .says("ahead of that of the collector"),
        Case::new("clock-behind")
            .account("export LD_PRELOAD=$(find /usr/lib -name libfaketime.so.1) FAKETIME=-3h")
            .finds("clock", "site", SITE)
            .says("behind that of the collector"),
        // By such clocks proxy, token and certificates are over, or not yet valid; the collector is asked as anybody.
        Case::new("clock-years-ahead")
            .account("export LD_PRELOAD=$(find /usr/lib -name libfaketime.so.1) FAKETIME=+3000d")
            .finds("clock", "site", SITE)
            .says("ahead of that of the collector"),
        Case::new("clock-years-behind")
            .account("export LD_PRELOAD=$(find /usr/lib -name libfaketime.so.1) FAKETIME=-3000d")
            .finds("clock", "site", SITE)
            .says("behind that of the collector"),
        Case::new("collector-down")
            .knob("COLLECTOR_HOST", "127.0.0.1:1")
            .finds("collector-reachable", "pool", POOL)
            .says("127.0.0.1:1"),
        Case::new("collector-is-something-else")
            .knob("COLLECTOR_HOST", "{NOISE}")
            .finds("collector-ping", "pool", POOL),
        Case::new("no-network")
            .unshare("--net")
            .knob("COLLECTOR_HOST", "192.0.2.1:9618")
            .finds("collector-reachable", "site", SITE_LATER)
            .says("route"),
        Case::new("no-name-server")
            .unshare("--net")
            .root("echo 'nameserver 192.0.2.53' > $W/resolv.conf; mount --bind $W/resolv.conf $(readlink -f /etc/resolv.conf)")
            .knob("COLLECTOR_HOST", "collector.example:9618")
            .finds("dns", "site", SITE_LATER)
            .says("192.0.2.53"),
        Case::new("ccb-down")
            .knob("CCB_ADDRESS", "127.0.0.1:1")
            .finds("ccb-reachable", "pool", POOL)
            .says("CCB server"),
        Case::new("port-blocked")
            .knob("SAILPLANE_CHECK_PORTS", "127.0.0.1:1")
            .finds("outbound-ports", "frontend", FRONTEND + 1)
            .says("127.0.0.1:1"),
        Case::new("proxy-server-dead")
            .knob("SAILPLANE_CHECK_HTTP_PROXY", "http://127.0.0.1:1")
            .finds("http-proxy", "site", FIT)
            .says("127.0.0.1:1"),
        Case::new("proxy-server-dead-and-no-way-around")
            .knob("SAILPLANE_CHECK_HTTP_PROXY", "http://127.0.0.1:1")
            .knob("SAILPLANE_CHECK_HTTP_URL", "http://127.0.0.1:2/")
            .finds("http-fetch", "site", SITE_LATER)
            .says("127.0.0.1:1"),
    ]
}

fn scripts() -> Vec<Case> {
    let site_check = |name, text: &str| {
        Case::new(name)
            .root(&format!(
                "cat > $W/health <<'END'\n{text}\nEND\nchmod 755 $W/health"
            ))
            .knob("SAILPLANE_SITE_CHECK", "{W}/health")
            .knob("SAILPLANE_SITE_CHECK_LIMIT", 1)
    };
    let manifest = |name, line: &str| Case::new(name).root(MANIFEST).root(line);
    vec![
        site_check("check-that-fails", "#!/bin/sh\necho /scratch is gone; exit 3")
            .finds("site-check", "site", SITE_LATER)
            .says("/scratch is gone"),
        site_check("check-that-hangs", "#!/bin/sh\nsleep 1000")
            .finds("site-check", "site", SITE_LATER)
            .says("1 s"),
        site_check(
            "check-that-forks-and-ignores-signals",
            "#!/bin/bash\ntrap '' TERM HUP INT QUIT\n(setsid bash -c 'trap \"\" TERM HUP; sleep 1000' &)\n(sleep 1000 &)\nwhile :; do sleep 1000; done",
        )
        .finds("site-check", "site", SITE_LATER),
        site_check("check-that-floods", "#!/bin/sh\nexec yes")
            .finds("site-check", "site", SITE_LATER),
        site_check("check-that-crashes", "#!/bin/sh\nkill -SEGV $$")
            .finds("site-check", "site", SITE_LATER),
        site_check("check-without-interpreter", "#!/no/such/interpreter")
            .finds("site-check", "site", SITE)
            .says("/no/such/interpreter"),
        Case::new("check-missing")
            .knob("SAILPLANE_SITE_CHECK", "/no/such/check")
            .finds("site-check", "site", SITE)
            .says("/no/such/check"),
        manifest("manifest-that-is-good", "pin"),
        manifest("manifest-changed", "pin; echo ' ' >> $W/web/manifest.json")
            .finds("manifest-factory", "factory", FACTORY),
        manifest("manifest-file-changed", "pin; echo 'rm -rf /' >> $W/web/check.sh")
            .finds("manifest-factory", "factory", FACTORY)
            .says("check.sh"),
        manifest("manifest-file-missing", "pin; rm $W/web/check.sh")
            .finds("manifest-factory", "factory", FACTORY)
            .says("check.sh"),
        manifest("manifest-missing", "pin; rm $W/web/manifest.json")
            .finds("manifest-factory", "factory", FACTORY)
            .says("manifest.json"),
        manifest("manifest-cut-short", "truncate -s 50 $W/web/manifest.json; pin")
            .finds("manifest-factory", "factory", FACTORY),
        manifest("manifest-that-climbs", "manifest ../../../tmp/evil.sh; pin")
            .finds("manifest-factory", "factory", FACTORY)
            .says("../../../tmp/evil.sh"),
        manifest("manifest-not-pinned", "echo \"SAILPLANE_MANIFESTS = file://$W/web/manifest.json\" >> $W/pilot.conf")
            .finds("manifest-factory", "factory", FACTORY)
            .says("sha256"),
        manifest("manifest-over", "sed -i 's/\"owner\"/\"expires\":\"2020-01-01T00:00:00Z\",\"owner\"/' $W/web/manifest.json; pin")
            .finds("manifest-factory", "factory", FACTORY),
        manifest("manifest-badly-signed", "openssl genpkey -algorithm ed25519 -out $W/one 2>/dev/null; openssl genpkey -algorithm ed25519 -out $W/two 2>/dev/null\n\
                  openssl pkeyutl -sign -rawin -inkey $W/one -in $W/web/manifest.json -out $W/web/manifest.json.sig\n\
                  KEY=$($PROGRAM manifest pin --key $W/two)\n\
                  echo \"SAILPLANE_MANIFESTS = file://$W/web/manifest.json#${KEY##*#}\" >> $W/pilot.conf")
            .finds("manifest-factory", "factory", FACTORY)
            .says("sign"),
    ]
}

fn the_rest() -> Vec<Case> {
    vec![
        Case::new("no-shell")
            .root("touch $W/sh; chmod 644 $W/sh; mount --bind $W/sh $(readlink -f /bin/sh)")
            .finds("work-exec", "site", SITE)
            .says("/bin/sh"),
        Case::new("on-the-deny-list")
            .knob("SAILPLANE_CHECK_DENY_HOSTS", "*")
            .finds("deny-list", "frontend", FRONTEND),
        Case::new("another-operating-system")
            .knob("SAILPLANE_CHECK_SYSTEMS", "rhel-9")
            .finds("operating-system", "site", SITE)
            .says("rhel"),
        Case::new("an-old-kernel")
            .knob("SAILPLANE_CHECK_KERNEL", "99.0")
            .finds("kernel", "site", SITE)
            .says("99.0"),
        Case::new("without-apptainer")
            .knob("SAILPLANE_CHECK_APPTAINER", "REQUIRED")
            .finds("apptainer", "site", SITE),
        Case::new("without-cvmfs")
            .knob("SAILPLANE_CHECK_CVMFS", "cms.cern.ch")
            .finds("cvmfs", "site", SITE)
            .says("cms.cern.ch"),
        Case::new("without-gpus")
            .knob("SAILPLANE_CHECK_GPUS", 1)
            .finds("gpus", "factory", FACTORY),
        Case::new("without-delegated-control-groups")
            .knob("SAILPLANE_CHECK_CGROUPS", "REQUIRED")
            .finds("cgroup-delegation", "site", SITE),
        Case::new("shutdown-announced")
            .root("mkdir $W/mf; echo 1 > $W/mf/shutdowntime; chmod 755 $W/mf")
            .account("export MACHINEFEATURES=$W/mf")
            .finds("shutdown", "site", SITE_LATER)
            .says("shutdowntime"),
        Case::new("nologin")
            .root("mount -t tmpfs -o mode=755 t /run; touch /run/nologin")
            .finds("shutdown", "site", SITE_LATER)
            .says("nologin"),
        Case::new("end-of-the-batch-job")
            .account("export SLURM_JOB_ID=1 SLURM_JOB_END_TIME=$(($(date +%s) + 60))")
            .finds("batch-system", "factory", FACTORY),
        Case::new("left-overs")
            .root("mkdir -p $EXECUTE/glide_AbCdEf/execute; chown -R $PILOT $EXECUTE; touch -d '9 days ago' $EXECUTE/glide_AbCdEf")
            .finds("left-overs", "site", FIT)
            .says("glide_AbCdEf"),
        Case::new("temporary-folder-closed")
            .root("mount -t tmpfs -o mode=700 t /tmp")
            .finds("temporary-folder", "site", FIT)
            .says("chmod 1777 /tmp"),
        Case::new("temporary-folder-full")
            .root("mount -t tmpfs -o mode=1777,size=4k t /var/tmp; head -c 4k /dev/zero > /var/tmp/fill")
            .finds("temporary-folder", "site", FIT)
            .says("/var/tmp"),
        Case::new("null-is-a-file")
            .root("touch $W/null; chmod 600 $W/null; mount --bind $W/null /dev/null")
            .finds("devices", "site", SITE)
            .says("/dev/null"),
        Case::new("processes-hidden")
            .root("mount -t proc -o hidepid=2 proc /proc"),
        Case::new("processes-not-there")
            .root("mount -t tmpfs t /proc")
            .finds("devices", "site", SITE)
            .says("/proc"),
        Case::new("no-path").account("export PATH=/no/such/folder"),
        Case::new("without-an-environment").account("unset PATH HOME LANG TMPDIR"),
        Case::new("closed-umask").account("umask 0777"),
    ]
}

/// What fails less often, and puzzles more.
fn more() -> Vec<Case> {
    vec![
        Case::new("disk-with-a-quota-of-files")
            .root("mount -t tmpfs -o mode=1777,size=900m,nr_inodes=2 t $EXECUTE")
            .finds("work-space", "site", SITE_LATER)
            .says("more files"),
        Case::new("disk-that-is-a-link-to-nowhere")
            .root("rmdir $EXECUTE; ln -s /no/such/disk $EXECUTE")
            .finds("work-space", "site", SITE)
            .says("EXECUTE"),
        Case::new("disk-that-is-a-loop-of-links")
            .root("rmdir $EXECUTE; ln -s $EXECUTE $EXECUTE")
            .finds("work-space", "site", SITE),
        Case::new("disk-immutable")
            .root("mount -t tmpfs -o mode=555,size=900m t $EXECUTE; chown $PILOT $EXECUTE; chmod 555 $EXECUTE")
            .finds("work-write", "site", SITE),
        Case::new("passwd-that-cannot-be-read")
            .root("cp /etc/passwd $W/passwd; chmod 600 $W/passwd; mount --bind $W/passwd /etc/passwd")
            .finds("switch-start", "site", SITE)
            .says("getent passwd"),
        Case::new("hosts-file-that-lies")
            .root("echo '127.0.0.9 collector.example' > $W/hosts; chmod 644 $W/hosts; mount --bind $W/hosts /etc/hosts")
            .knob("COLLECTOR_HOST", "collector.example:1")
            .finds("collector-reachable", "pool", POOL)
            .says("127.0.0.9"),
        Case::new("collector-misspelt")
            .knob("COLLECTOR_HOST", "no-such-collector.invalid:9618")
            .finds("dns", "site", SITE)
            .says("no-such-collector.invalid"),
        Case::new("urandom-is-a-file")
            .root("touch $W/u; chmod 666 $W/u; mount --bind $W/u /dev/urandom")
            .finds("devices", "site", SITE)
            .says("/dev/urandom"),
        Case::new("null-is-closed")
            .root("mkdir $W/dev; mount -t tmpfs t $W/dev; mknod -m 600 $W/dev/null c 1 3; mount --bind $W/dev/null /dev/null")
            .finds("devices", "site", SITE)
            .says("chmod 666 /dev/null"),
        Case::new("proxy-of-somebody-else")
            .root("chown 0:0 $W/proxy.pem; chmod 640 $W/proxy.pem")
            .finds("pilot-credential", "frontend", FRONTEND)
            .says("proxy.pem"),
        Case::new("proxy-is-empty")
            .root(": > $W/proxy.pem")
            .finds("pilot-credential", "frontend", FRONTEND)
            .says("proxy.pem"),
        Case::new("proxy-without-its-key")
            .root("sed -i '/PRIVATE KEY/,/PRIVATE KEY/d' $W/proxy.pem")
            .finds("pilot-credential", "frontend", FRONTEND)
            .says("proxy.pem"),
        Case::new("token-is-rubbish")
            .root("echo rubbish > $W/tokens/pool")
            .finds("pilot-credential", "frontend", FRONTEND)
            .says("tokens"),
        Case::new("tokens-folder-closed")
            .root("chown 0:0 $W/tokens; chmod 700 $W/tokens")
            .finds("pilot-credential", "frontend", FRONTEND)
            .says("tokens"),
        Case::new("shell-that-fails")
            .root("cp /bin/false $W/sh; chmod 755 $W/sh; mount --bind $W/sh $(readlink -f /bin/sh)")
            .finds("work-exec", "site", SITE)
            .says("/bin/sh"),
        Case::new("site-check-is-a-folder")
            .root("mkdir $W/health; chmod 755 $W/health")
            .knob("SAILPLANE_SITE_CHECK", "{W}/health")
            .finds("site-check", "site", SITE)
            .says("health"),
        Case::new("site-check-closed")
            .root("printf '#!/bin/sh\nexit 0\n' > $W/health; chmod 700 $W/health; chown 0:0 $W/health")
            .knob("SAILPLANE_SITE_CHECK", "{W}/health")
            .finds("site-check", "site", SITE)
            .says("health"),
        Case::new("wrong-helper")
            .knob("SAILPLANE_SWITCH", "/bin/true")
            .finds("switch-helper", "site", SITE)
            .says("/bin/true"),
        Case::new("machine-features-lead-nowhere")
            .account("export MACHINEFEATURES=/no/such/features")
            .finds("machine-job-features", "site", FIT)
            .says("MACHINEFEATURES"),
        Case::new("batch-system-gives-less-memory")
            .account("export SLURM_JOB_ID=1 SLURM_MEM_PER_NODE=100")
            .finds("memory-offered", "factory", FIT)
            .says("SLURM"),
        Case::new("manifest-behind-a-dead-server")
            .root("echo \"SAILPLANE_MANIFESTS = https://127.0.0.1:1/manifest.json#sha256=$(printf x | sha256sum | cut -d' ' -f1)\" >> $W/pilot.conf")
            .finds("manifest-factory", "site", SITE_LATER)
            .says("127.0.0.1:1"),
    ]
}
