#!/bin/sh
# Prints under which account number, as whom and in which folder the job runs, and when its proxy ends.
id -u
echo "job $1 runs as $(id) in $(pwd) on $(hostname)"
if command -v openssl >/dev/null && [ -n "$X509_USER_PROXY" ]; then
    openssl x509 -in "$X509_USER_PROXY" -noout -subject -enddate
fi
