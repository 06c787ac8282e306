#!/bin/sh
# Completes a result file: error_augment.sh -init, -process STATUS ID DIRECTORY COMMAND START END, -concat or
# -locked-concat.
exec @PROGRAM@ augment "$@"
