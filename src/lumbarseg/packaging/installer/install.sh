#!/bin/sh
# Installs lumbarseg from this folder, without network: sh install.sh [FOLDER]
# PYTHON=/path/to/python3 sh install.sh selects a Python.
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd) || exit 1
for python in ${PYTHON:+"$PYTHON"} @COMMANDS@ python3 python; do
    if "$python" -I "$here/install.py" --fits >/dev/null 2>&1; then
        exec "$python" -I "$here/install.py" "$@"
    fi
done
if python3 -I -c '' >/dev/null 2>&1; then
    exec python3 -I "$here/install.py" "$@" # it reports what does not match
fi
echo "lumbarseg: error: no Python found here; this pack needs Python @PYTHONS@ (PYTHON=/path/to/python3 sh install.sh)" >&2
exit 1
