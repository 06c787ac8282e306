#!/bin/sh
# Counts the bytes of each input, and what came on standard input.
set -e
mkdir results
for file in inputs/*; do
    wc -c <"$file" >"results/$(basename "$file").bytes"
done
wc -l >summary.txt
