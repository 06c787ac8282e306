#!/bin/bash
# What this entry allows: its wall time becomes an attribute that jobs can ask for. Keys of an entry begin with ENTRY_.

glidein_config=$1
. "$(grep -m1 '^ADD_CONFIG_LINE_SOURCE ' "$glidein_config" | cut -d ' ' -f 2-)"
condor_vars_file=$(gconfig_get "ENTRY_CONDOR_VARS_FILE")

gconfig_add FACTORY_Walltime "$(gconfig_get ENTRY_HOURS)"
add_condor_vars_line FACTORY_Walltime I 24 FACTORY_WalltimeHours N Y -
