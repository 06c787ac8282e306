#!/bin/bash
# Finds out what software the node has, and publishes it. It never fails: jobs ask for what they need.

glidein_config=$1
. "$(grep -m1 '^ADD_CONFIG_LINE_SOURCE ' "$glidein_config" | cut -d ' ' -f 2-)"
condor_vars_file=$(gconfig_get GLIDECLIENT_CONDOR_VARS_FILE)

publish() {
    gconfig_add "$1" "$2"
    add_condor_vars_line "$1" "$3" - + N Y -
}

if command -v python3 > /dev/null; then
    publish VO_HAS_PYTHON True C
    publish VO_PYTHON_VERSION "$(python3 -c 'import platform; print(platform.python_version())')" S
else
    publish VO_HAS_PYTHON False C
fi
if [ -d /cvmfs/vo.example ]; then
    publish VO_CVMFS True C
fi
