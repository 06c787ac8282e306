#!/bin/sh
# Runs when the pilot ends. Its argument is the dashboard.

rm -rf "/tmp/example-factory.$(id -u)"
