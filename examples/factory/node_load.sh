#!/bin/sh
# A periodic check: prints attributes for the slot. At the start it has nothing to say.

[ -n "$GLIDEIN_PERIODIC_SCRIPT" ] || exit 0
read -r one five _ < /proc/loadavg
echo "Load1 = $one"
echo "Load5 = $five"
echo "-"
