# Shared by the scripts of this folder; source it, do not run it.
#
# A test pool is one directory (the "instance") and one mount namespace. The daemons see the file system of a Debian
# trixie tree (the "root tree"), in which HTCondor 23.9.6 is installed as Debian ships it, with the host's own folders
# (/tmp, /home, the instance, ...) mounted in at the same paths. The mounts exist only in the namespace: they vanish
# with the last process of the pool, and nothing has to be unmounted on the host.
# shellcheck shell=bash disable=SC2034

set -euo pipefail

SAILPLANE_CACHE=${SAILPLANE_CACHE:-/var/cache/sailplane}
SAILPLANE_POOLS=${SAILPLANE_POOLS:-/var/lib/sailplane/pools}
SAILPLANE_MIRROR=${SAILPLANE_MIRROR:-http://deb.debian.org/debian}
POOL_ROOT=$SAILPLANE_CACHE/trixie
# Raise this number when `prepare` would build something else: an older tree is then built anew.
POOL_RECIPE=1

say() { printf '%s\n' "$*" >&2; }

die() {
    say "${0##*/}: $*"
    exit 1
}

need_root() {
    [ "$(id -u)" = 0 ] || die "must be run by root: it makes mounts and accounts, and starts the pool as an ordinary account"
}

# need_programs PROGRAM:PACKAGE... - installs what is missing (Debian), or names it.
need_programs() {
    local pair missing=()
    for pair in "$@"; do
        command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
    done
    [ ${#missing[@]} -eq 0 ] && return
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null ||
        die "missing programs; install the Debian packages: ${missing[*]}"
    say "installing ${missing[*]}"
    {
        apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
    } >/dev/null || die "apt-get could not install ${missing[*]}"
}

# ensure_account NAME - an ordinary system account without a password or a shell.
ensure_account() {
    getent passwd "$1" >/dev/null ||
        useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin "$1"
}

# wait_until SECONDS COMMAND... - runs COMMAND ten times a second until it succeeds; fails after SECONDS.
wait_until() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS < end)) || return 1
        sleep 0.1
    done
}

# processes_in_namespace LINK - pids whose mount namespace is LINK (the text of /proc/PID/ns/mnt).
processes_in_namespace() {
    local entry
    for entry in /proc/[0-9]*; do
        [ "$(readlink "$entry/ns/mnt" 2>/dev/null || true)" = "$1" ] && printf '%s\n' "${entry#/proc/}"
    done
    return 0
}
