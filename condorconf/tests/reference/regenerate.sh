#!/bin/sh
# Records what the real condor_config_val says of the cases in this folder.
#
# usage: regenerate.sh CHROOT [CASE]...
# CHROOT holds a Linux with HTCondor 23.9.6; the script needs to be root to enter it.
#
# A case is a folder: root.conf and the files it includes; knobs, one name a line; and options:
#   subsys NAME, local NAME    whose configuration it is
#   env NAME=VALUE             a variable of the environment
#   default NAME=VALUE         for our test only: what HTCondor's own parameter table says
# Written is the file expected: for each knob its value, raw value and place; or the message if reading fails.
set -eu
root=${1:?usage: regenerate.sh CHROOT [CASE]...}
shift
here=$(cd "$(dirname "$0")" && pwd)
inside=/tmp/reference
rm -rf "$root$inside"
mkdir -p "$root$inside"
cp -R "$here"/. "$root$inside"/

[ $# -gt 0 ] || set -- "$here"/*/
for case in "$@"; do
    name=$(basename "$case")
    case=$here/$name
    config=$inside/$name/root.conf
    expected=$case/expected
    script=$root$inside/ask.sh
    {
        echo 'unset CDPATH'
        printf 'exec env -i PATH=/usr/bin:/bin HOME=/root CONDOR_CONFIG=%s' "$config"
        [ ! -f "$case/options" ] || sed -n "s/'/'\\\\''/g; s/^env \(.*\)/ '\1'/p" "$case/options" | tr '\n' ' '
        printf ' timeout 20 condor_config_val'
        [ ! -f "$case/options" ] || sed -n 's/^subsys \(.*\)/ -subsystem \1/p; s/^local \(.*\)/ -local-name \1/p' "$case/options" | tr '\n' ' '
        echo ' "$@"'
    } >"$script"
    run() { chroot "$root" sh "$inside/ask.sh" "$@"; }
    if ! run -config >/dev/null 2>"$root$inside/message"; then
        { echo '@fails'; cat "$root$inside/message"; } >"$expected"
        continue
    fi
    while read -r knob; do
        echo "@knob $knob"
        if value=$(run "$knob" 2>"$root$inside/message"); then
            echo '@value'
            printf '%s\n' "$value"
            echo '@raw'
            run -raw "$knob" 2>/dev/null
            echo '@at'
            run -v "$knob" 2>/dev/null | sed -n 's/^ # at: //p'
        elif grep -q '^Not defined' "$root$inside/message"; then
            echo '@undefined'
        else
            echo '@wrong'
        fi
    done <"$case/knobs" >"$expected"
done
rm -rf "$root$inside"
