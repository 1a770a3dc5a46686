#!/bin/sh
# usage: build.sh PYTHON   (PEER_BUILD names a writable directory)
# The extension as one executable file with its own interpreter and `requests`.
set -eu
if ! cmp -s requirements.txt "$PEER_BUILD/requirements.txt"; then
    "$1" -m venv --clear "$PEER_BUILD/venv"
    "$PEER_BUILD/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        --require-hashes -r requirements.txt
    cp requirements.txt "$PEER_BUILD/requirements.txt"
fi
{ echo "#!$PEER_BUILD/venv/bin/python"; cat extension.py; } > "$PEER_BUILD/python-http-sample"
chmod 755 "$PEER_BUILD/python-http-sample"
