#!/usr/bin/env python3
"""A check need not be a shell script: it gets the dashboard's path and the scope, and its exit status counts.

Here it asks whether the node's Python has what the jobs of this VO import."""

import importlib.util
import sys

missing = [name for name in ("json", "ssl", "sqlite3") if importlib.util.find_spec(name) is None]
if missing:
    print("this Python lacks", ", ".join(missing), file=sys.stderr)
    sys.exit(1)
