#!/bin/sh
# usage: run.sh PORT FILE
export PEER_PORT="$1" PEER_OUTPUT="$2"
exec rsyslogd -n -f "$PWD/rsyslog.conf" -i "$PEER_OUTPUT.pid"
