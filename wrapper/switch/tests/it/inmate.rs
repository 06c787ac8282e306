//! Attacks from inside a payload: what it may find, reach, keep or change that is not its own.

use std::fs;
use std::process::Command as Program;
use std::time::Duration;

use launch_protocol::broker::Opened;

use crate::cell::{Cell, LIBEXEC, groups_of, in_cell, names_in, own, processes_of, put};
use crate::client::{Pilot, Start, eventually};
use crate::strays::strays;

/// What every script of these tests begins with: `bad` tells of a success that should be none, `fails` runs what must not succeed.
const BEGIN: &str = "import ctypes, errno, os, signal, socket, struct, sys, time\n\
libc = ctypes.CDLL(None, use_errno=True)\n\
def bad(*what): os.write(1, (' '.join(map(str, what)) + '\\n').encode())\n\
def fails(what, attempt, *arguments):\n\
\x20try: result = attempt(*arguments)\n\
\x20except (OSError, ValueError): return\n\
\x20if result != -1: bad(what, result)\n\
def call(*arguments): return libc.syscall(*arguments)\n";

/// Runs this as a payload and expects it to have nothing to tell.
fn harmless(pilot: &mut Pilot, opened: &Opened, script: &str) {
    put(
        "/scratch/attack.py",
        &format!("{BEGIN}{script}\nbad('done')"),
        0o644,
    );
    let (output, status) = pilot.run(opened.payload, "exec python3 -S /scratch/attack.py 2>&1");
    assert_eq!((output.as_str(), status), ("done\n", 0));
}

#[test]
fn s11_nothing_that_root_has_can_be_had_back() {
    in_cell(|cell| {
        let mut pilot = Pilot::start(cell);
        let (pilots, broker) = (cell.pilot, pilot.broker());
        let opened = pilot.open();
        let script = format!(
            "for uid in (0, {pilots}, 65534):\n\
             \x20for name in ('setuid', 'setgid', 'seteuid', 'setegid'): fails(name, getattr(os, name), uid)\n\
             \x20fails('setresuid', os.setresuid, uid, -1, -1); fails('setreuid', os.setreuid, -1, uid)\n\
             \x20fails('setgroups', os.setgroups, [uid])\n\
             \x20if libc.setfsuid(uid) == uid or libc.setfsuid(-1) == uid: bad('fsuid')\n\
             fails('capset', call, 126, ctypes.byref((ctypes.c_uint32 * 2)(0x20080522, 0)), (ctypes.c_uint32 * 6)(1, 1, 1))\n\
             for cap in range(41): fails('ambient', libc.prctl, 47, 2, cap, 0, 0)\n\
             fails('nnp off', libc.prctl, 38, 0, 0, 0, 0)\n\
             fails('securebits', libc.prctl, 28, 0x2f, 0, 0, 0)\n\
             fails('chroot', os.chroot, '/')\n\
             fails('mknod', os.mknod, 'disk', 0o60660, os.makedev(8, 0))\n\
             fails('mount', libc.mount, b'none', b'/tmp', b'tmpfs', 0, None)\n\
             fails('umount', libc.umount2, b'/tmp', 2)\n\
             fails('pivot_root', call, 155, b'/', b'/')\n\
             fails('swapon', libc.swapon, b'/etc/passwd', 0)\n\
             fails('iopl', call, 172, 3)\n\
             fails('init_module', call, 175, b'', 0, b'')\n\
             fails('settimeofday', time.clock_settime, time.CLOCK_REALTIME, 0)\n\
             fails('sethostname', socket.sethostname, 'x')\n\
             fails('bpf', call, 321, 5, ctypes.create_string_buffer(120), 120)\n\
             fails('fanotify', libc.fanotify_init, 4, 0)\n\
             fails('perf', call, 298, ctypes.create_string_buffer(struct.pack('<IIQQ', 1, 112, 0, 0), 112), {broker}, -1, -1, 0)\n\
             fails('raw socket', socket.socket, socket.AF_INET, socket.SOCK_RAW, 1)\n\
             fails('oom score', lambda: os.write(os.open('/proc/self/oom_score_adj', os.O_WRONLY), b'-1000'))\n\
             fails('nice', os.setpriority, os.PRIO_PROCESS, 0, -5)\n\
             fails('real time', os.sched_setscheduler, 0, os.SCHED_FIFO, os.sched_param(1))\n\
             import resource\n\
             for limit in range(16):\n\
             \x20soft, hard = resource.getrlimit(limit)\n\
             \x20if hard not in (-1, 1 << 40): fails('limit %d' % limit, lambda: resource.setrlimit(limit, (soft, hard + 1)) or 0)\n"
        );
        harmless(&mut pilot, &opened, &script);
        pilot.close(opened.payload);
    });
}

#[test]
fn k1_what_a_payload_sees_it_cannot_touch() {
    in_cell(|cell| {
        let mut pilot = Pilot::start(cell);
        let other = pilot.open();
        let running = pilot.begin(other.payload, "echo up; exec sleep 1000");
        assert_eq!(running.line(), "up");
        let list = format!("/proc/{0}/task/{0}/children", pilot.id());
        let list = fs::read_to_string(list).expect("readable");
        let mut all: Vec<_> = list.split_whitespace().map(str::to_owned).collect();
        all.extend([
            pilot.id().to_string(),
            processes_of(other.uid)[0].to_string(),
            "1".into(),
        ]);
        let opened = pilot.open();
        let script = format!(
            "mine = os.getpid()\n\
             buffer = ctypes.create_string_buffer(64)\n\
             class Vec(ctypes.Structure): _fields_ = [('base', ctypes.c_void_p), ('length', ctypes.c_size_t)]\n\
             local, remote = Vec(ctypes.addressof(buffer), 64), Vec(0x1000, 64)\n\
             for pid in [{}]:\n\
             \x20if open('/proc/%d/status' % pid).read().find('Uid:\\t%d\\t' % os.getuid()) >= 0: continue\n\
             \x20for number in (0, 1, 9, 10, 15, 18, 19, 34): fails(('signal', pid), lambda: os.kill(pid, number) or 0)\n\
             \x20fails(('group', pid), lambda: os.killpg(max(os.getpgid(pid), 2), 9) or 0)\n\
             \x20fails(('read', pid), call, 310, pid, ctypes.byref(local), 1, ctypes.byref(remote), 1, 0)\n\
             \x20fails(('write', pid), call, 311, pid, ctypes.byref(local), 1, ctypes.byref(remote), 1, 0)\n\
             \x20handle = os.pidfd_open(pid)\n\
             \x20for fd in range(8): fails(('steal', pid, fd), call, 438, handle, fd, 0)\n\
             \x20fails(('advise', pid), call, 440, handle, ctypes.byref(local), 1, 4, 0)\n\
             \x20fails(('pidfd signal', pid), lambda: signal.pidfd_send_signal(handle, 9) or 0)\n\
             \x20fails(('seize', pid), libc.ptrace, 0x4206, pid, 0, 0)\n\
             \x20fails(('compare', pid), call, 312, mine, pid, 0, 0, 0)\n\
             \x20fails(('limit', pid), call, 302, pid, 7, ctypes.create_string_buffer(16), None)\n\
             \x20fails(('affinity', pid), lambda: os.sched_setaffinity(pid, [0]) or 0)\n\
             \x20fails(('priority', pid), lambda: os.setpriority(os.PRIO_PROCESS, pid, 19) or 0)\n\
             \x20fails(('io', pid), call, 251, 1, pid, 3 << 13)\n\
             \x20fails(('join', pid), libc.setns, handle, 0x40000000)\n\
             \x20for what in ('root', 'cwd', 'exe', 'fd', 'fd/0', 'map_files', 'ns/mnt', 'task/%d/fd' % pid):\n\
             \x20\x20fails((what, pid), lambda: os.open('/proc/%d/%s' % (pid, what), os.O_RDONLY))\n\
             \x20for what in ('clear_refs', 'coredump_filter', 'comm', 'attr/exec', 'timerslack_ns', 'make-it-fail'):\n\
             \x20\x20fails((what, pid), lambda: os.write(os.open('/proc/%d/%s' % (pid, what), os.O_WRONLY), b'1'))",
            all.join(", ")
        );
        harmless(&mut pilot, &opened, &script);
        // The kernel's "everybody" is the account and nobody else.
        pilot.run(opened.payload, "kill -KILL -1");
        assert!(!processes_of(other.uid).is_empty(), "another's is not hit");
        pilot.close(opened.payload);
        pilot.close(other.payload);
        assert_eq!(pilot.hang_up(), Some(0));
    });
}

#[test]
fn s22_the_callers_keys_stay_with_the_caller() {
    in_cell(|cell| {
        // The pilot keeps a ticket where programs keep tickets.
        let stage = "import ctypes, os\nlibc = ctypes.CDLL(None)\nlibc.syscall(250, 1, None)\n\
            assert libc.syscall(248, b'user', b'ticket', b'secret', 6, -3) > 0\n\
            os.execv('/opt/sailplane/sailplane-switch', ['sailplane-switch', '--broker'])\n";
        put("/scratch/stage.py", stage, 0o644);
        let mut pilot = Start {
            program: "/usr/bin/python3 -S /scratch/stage.py".to_owned(),
            ..Start::usual(cell)
        }
        .start();
        pilot.greet();
        let one = pilot.open();
        let script = "fails('searched', call, 250, 10, -3, b'user', b'ticket', 0)\n\
            fails('requested', call, 249, b'user', b'ticket', None, 0)\n\
            if call(248, b'user', b'note', b'text', 4, -3) < 0: bad('no keyring of its own')\n\
            if call(250, 10, -3, b'user', b'note', 0) < 0: bad('not found')";
        harmless(&mut pilot, &one, script);
        // Nor does the next payload find what this one keeps, in the same session's place or another.
        let two = pilot.open();
        let script = "fails('searched', call, 250, 10, -3, b'user', b'note', 0)";
        harmless(&mut pilot, &two, script);
        pilot.close(one.payload);
        pilot.close(two.payload);
        assert_eq!(pilot.hang_up(), Some(0));
    });
}

#[test]
fn k9_the_next_user_of_a_uid_finds_no_keys() {
    in_cell(|cell| {
        cell.configure(&format!("dynamic_uids = {0}-{0}\n", cell.first));
        let mut pilot = Pilot::start(cell);
        let leave = "for ring in (-4, -5, call(250, 22, -1, -1)):\n\
            \x20if ring == -1: continue\n\
            \x20if call(248, b'user', b'left', b'secret', 6, ring) < 0: bad('cannot leave any', ring)";
        let opened = pilot.open();
        harmless(&mut pilot, &opened, leave);
        pilot.close(opened.payload);
        let next = pilot.open();
        assert_eq!(next.uid, opened.uid);
        let look = "for ring in (-4, -5, call(250, 22, -1, -1)):\n\
            \x20if ring == -1: continue\n\
            \x20fails(('found', ring), call, 250, 10, ring, b'user', b'left', 0)";
        harmless(&mut pilot, &next, look);
        pilot.close(next.payload);
        assert_eq!(pilot.hang_up(), Some(0));
    });
}

#[test]
fn k4_a_payload_cannot_leave_its_group() {
    in_cell(|cell| {
        let mut pilot = Pilot::start(cell);
        let other = pilot.open();
        let one = pilot.open();
        let script = "mount = [l.split()[4] for l in open('/proc/self/mountinfo') if ' - cgroup2 ' in l]\n\
            own = [l.split('::')[1].strip() for l in open('/proc/self/cgroup') if l.startswith('0::')]\n\
            for root in mount:\n\
            \x20here = root + own[0]\n\
            \x20places = [root, os.path.dirname(here), here]\n\
            \x20places += [os.path.join(os.path.dirname(here), n) for n in os.listdir(os.path.dirname(here))]\n\
            \x20for place in places:\n\
            \x20\x20if not os.path.isdir(place): continue\n\
            \x20\x20for name in ('cgroup.procs', 'cgroup.threads', 'cgroup.kill', 'cgroup.freeze', 'cgroup.subtree_control'):\n\
            \x20\x20\x20fails((place, name), lambda: os.write(os.open(place + '/' + name, os.O_WRONLY), b'0\\n'))\n\
            \x20\x20fails((place, 'mkdir'), lambda: os.mkdir(place + '/mine') or 0)\n\
            \x20\x20fails((place, 'chown'), lambda: os.chown(place, os.getuid(), -1) or 0)\n\
            \x20\x20fails((place, 'rename'), lambda: os.rename(place, place + 'x') or 0)\n\
            for line in open('/proc/self/cgroup'):\n\
            \x20number, names, path = line.strip().split(':', 2)\n\
            \x20for name in names.split(','):\n\
            \x20\x20for up in ('', path):\n\
            \x20\x20\x20fails((name, up), lambda: os.write(os.open('/sys/fs/cgroup/%s%s/tasks' % (name, up), os.O_WRONLY), b'0\\n'))";
        harmless(&mut pilot, &one, script);
        pilot.close(one.payload);
        pilot.close(other.payload);
        assert_eq!(pilot.hang_up(), Some(0));
        assert!(groups_of(pilot.id()).is_empty());
    });
}

#[test]
fn s4_a_payloads_own_namespaces_lead_to_nobody_elses_things() {
    in_cell(|cell| {
        put("/scratch/pilot.key", "secret", 0o600);
        own("/scratch/pilot.key", cell.pilot, 0o600);
        put("/scratch/roots.key", "secret", 0o600);
        let mut pilot = Pilot::start(cell);
        let opened = pilot.open();
        let helper = format!("{LIBEXEC}/sailplane-switch");
        let script = format!(
            "uid = os.getuid()\n\
             if libc.unshare(0x10000000 | 0x20000) == 0:\n\
             \x20for name, text in (('setgroups', 'deny'), ('uid_map', '0 %d 1' % uid), ('gid_map', '0 %d 1' % uid)):\n\
             \x20\x20open('/proc/self/' + name, 'w').write(text)\n\
             \x20os.setuid(0)\n\
             \x20for path in ('/scratch/pilot.key', '/scratch/roots.key', '/run/sailplane/leases'):\n\
             \x20\x20fails(path, lambda: os.open(path, os.O_RDONLY))\n\
             \x20\x20fails(('own', path), lambda: os.chown(path, 0, 0) or 0)\n\
             \x20open('mine', 'w').write('x')\n\
             \x20fails('give away', lambda: os.chown('mine', {0}, {0}) or 0)\n\
             \x20fails('device', os.mknod, 'disk', 0o60660, os.makedev(8, 0))\n\
             \x20libc.mount(b'/scratch', b'/etc', None, 4096, None)\n\
             \x20fails(('signal', {1}), lambda: os.kill({1}, 9) or 0)\n\
             \x20import subprocess\n\
             \x20done = subprocess.run(['{helper}', '--broker'], stderr=subprocess.PIPE)\n\
             \x20if done.returncode not in (201, 202): bad('helper', done)\n\
             \x20os.chmod('mine', 0o6777)\n",
            cell.pilot,
            pilot.id()
        );
        harmless(&mut pilot, &opened, &script);
        // Outside nothing has moved.
        assert!(fs::exists("/etc/passwd").expect("seen"));
        let mine = opened.sandbox_path().join("mine");
        if let Ok(facts) = fs::metadata(&mine) {
            use std::os::unix::fs::MetadataExt as _;
            assert_eq!(facts.uid(), opened.uid);
        }
        pilot.close(opened.payload);
        assert_eq!(pilot.hang_up(), Some(0));
    });
}

/// Every way to make the removal of a sandbox stumble, in one.
#[test]
fn s9_a_sandbox_can_be_removed_whatever_is_in_it() {
    in_cell(|cell| {
        put("/scratch/pilot.key", "secret", 0o644);
        let mut pilot = Pilot::start(cell);
        let opened = pilot.open();
        let script = "import fcntl\n\
            for name in (b'a\\nb', b'-rf', b'\\xff\\xfe', b' ', b'...', b'x' * 255): os.mkdir(name)\n\
            here = os.getcwd()\n\
            for n in range(400): os.mkdir('d'); os.chdir('d')\n\
            for n in range(400):\n\
            \x20os.chdir('..')\n\
            \x20if n % 50 == 0: os.chmod('d', 0)\n\
            os.chdir(here)\n\
            os.symlink('/scratch', 'out'); os.symlink('out', 'chain'); os.symlink('loop', 'loop')\n\
            os.mkfifo('pipe'); s = socket.socket(socket.AF_UNIX); s.bind('socket')\n\
            f = open('leased', 'w'); f.close(); f = open('leased'); fcntl.fcntl(f, 1024, fcntl.F_RDLCK)\n\
            g = open('locked', 'w'); fcntl.flock(g, fcntl.LOCK_EX)\n\
            h = open('hole', 'w'); h.truncate(1 << 40)\n\
            for n in range(3000): open('many%d' % n, 'w').close()\n\
            os.mkdir('sticky'); os.chmod('sticky', 0o1000)\n\
            os.mkdir('none'); open('none/file', 'w').close(); os.chmod('none', 0)\n\
            os.chmod('.', 0)";
        harmless(&mut pilot, &opened, script);
        pilot.close(opened.payload);
        assert_eq!(names_in(crate::cell::EXECUTE), Vec::<String>::new());
        assert_eq!(
            fs::read_to_string("/scratch/pilot.key").expect("there"),
            "secret"
        );
        assert_eq!(pilot.hang_up(), Some(0));
    });
}

#[test]
fn k9_what_a_payload_leaves_in_shared_places_is_no_longer_there() {
    in_cell(|cell| {
        let mut pilot = Pilot::start(cell);
        let opened = pilot.open();
        let script = "os.umask(0)\n\
            for place in ('/tmp', '/var/tmp', '/dev/shm'):\n\
            \x20open(place + '/left', 'w').close(); os.mkdir(place + '/tree'); os.mkdir(place + '/tree/in')\n\
            \x20os.symlink('/etc/passwd', place + '/link'); os.mkfifo(place + '/pipe')\n\
            for size in (1, 4096):\n\
            \x20if libc.shmget(0x5a11 + size, size, 0o1666) < 0: bad('shmget')\n\
            \x20if libc.semget(0x5a11 + size, 1, 0o1666) < 0: bad('semget')\n\
            \x20if libc.msgget(0x5a11 + size, 0o1666) < 0: bad('msgget')";
        harmless(&mut pilot, &opened, script);
        pilot.close(opened.payload);
        for place in ["/tmp", "/var/tmp", "/dev/shm"] {
            assert_eq!(names_in(place), Vec::<String>::new(), "{place}");
        }
        let left = Program::new("ipcs").arg("-a").output().expect("runs");
        let left = String::from_utf8_lossy(&left.stdout).into_owned();
        assert!(!left.contains("0x00005a1"), "{left}");
        assert_eq!(pilot.hang_up(), Some(0));
        let _: &Cell = cell;
    });
}

#[test]
fn k5_no_way_to_hide_from_the_kill_works() {
    in_cell(|cell| {
        let mut pilot = Pilot::start(cell);
        let opened = pilot.open();
        // Reapers of their own, sessions, threads, names that look like others' fields, namespaces, stopped and traced
        // processes, ignored signals, real-time ones too, and a process that waits in an endless fork of another.
        let script = format!(
            "{BEGIN}\
             def child(work):\n\
             \x20if os.fork() == 0:\n\
             \x20\x20try: work()\n\
             \x20\x20finally: os._exit(0)\n\
             for number in range(1, 65):\n\
             \x20if number not in (9, 19, 32, 33): signal.signal(number, signal.SIG_IGN)\n\
             def reaper():\n\
             \x20libc.prctl(36, 1, 0, 0, 0); os.setsid()\n\
             \x20for n in range(3): child(lambda: (os.setsid(), child(lambda: time.sleep(1000)), time.sleep(1000)))\n\
             \x20time.sleep(1000)\n\
             def named():\n\
             \x20libc.prctl(15, b') Z 1 1 1 (a', 0, 0, 0); time.sleep(1000)\n\
             def spaced():\n\
             \x20libc.unshare(0x10000000 | 0x20000000 | 0x20000)\n\
             \x20if os.fork() == 0: time.sleep(1000)\n\
             \x20time.sleep(1000)\n\
             def traced():\n\
             \x20victim = os.fork()\n\
             \x20if victim == 0: libc.ptrace(0, 0, 0, 0); os.kill(os.getpid(), 19)\n\
             \x20time.sleep(1000)\n\
             def stopped(): os.kill(os.getpid(), 19)\n\
             def threaded():\n\
             \x20import threading\n\
             \x20for n in range(5): threading.Thread(target=time.sleep, args=(1000,)).start()\n\
             \x20call(186); libc.pthread_exit(0)\n\
             def vforked():\n\
             \x20import subprocess\n\
             \x20subprocess.run(['sleep', '1000'], start_new_session=True)\n\
             for work in (reaper, named, spaced, traced, stopped, threaded, vforked): child(work)\n\
             time.sleep(0.3); bad('up'); time.sleep(1000)"
        );
        put("/scratch/hide.py", &script, 0o644);
        let running = pilot.begin(
            opened.payload,
            "exec python3 -S /scratch/hide.py 2>/dev/null",
        );
        assert_eq!(running.line(), "up");
        assert!(
            processes_of(opened.uid).len() > 12,
            "{:?}",
            processes_of(opened.uid)
        );
        pilot.kill_to_the_end(opened.payload);
        assert_eq!(processes_of(opened.uid), Vec::<u32>::new());
        pilot.close(opened.payload);
        assert_eq!(pilot.hang_up(), Some(0));
        eventually("the end of everybody", Duration::from_secs(5), || {
            strays().is_empty()
        });
    });
}
