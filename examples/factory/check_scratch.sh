#!/bin/bash
# Is there room for a job where the pilot works? FACTORY_SCRATCH_MB of the dashboard says how much is asked for.
# Passes and fails through the result writer, so that reports show the numbers.

glidein_config=$1
add_config_line_source=$(grep -m1 '^ADD_CONFIG_LINE_SOURCE ' "$glidein_config" | cut -d ' ' -f 2-)
. "$add_config_line_source"
error_gen=$(gconfig_get ERROR_GEN_PATH)

wanted=$(gconfig_get FACTORY_SCRATCH_MB)
wanted=${wanted:-100}
free=$(df -kP . | awk 'NR == 2 { print int($4 / 1024) }')
if [ "${free:-0}" -lt "$wanted" ]; then
    "$error_gen" -error check_scratch.sh WN_Resource "The work area has ${free:-0} MB free, $wanted MB are needed." \
        scratch_free_mb "${free:-0}" scratch_need_mb "$wanted"
    exit 1
fi
"$error_gen" -ok check_scratch.sh scratch_free_mb "$free" scratch_need_mb "$wanted"
