#!/bin/sh
# usage: run.sh PORT FILE BUILD   (PORT "version": prints the version)
# The installed syslog-ng, or the one that debian.sh unpacked below BUILD.
export PEER_PORT="$1" PEER_OUTPUT="$2"
root=$3/root
if [ -d "$root" ]; then
    libraries=$(find "$root" -name '*.so*' -printf '%h\n' | sort -u | tr '\n' ':')
    modules=$(dirname "$(find "$root" -name libaffile.so)")
    export LD_LIBRARY_PATH="$libraries"
    set -- "$root/usr/sbin/syslog-ng" --module-path="$modules"
else
    set -- syslog-ng
fi
[ "$PEER_PORT" != version ] || exec "$@" --version
exec "$@" --foreground --no-caps --cfgfile="$PWD/syslog-ng.conf" \
    --persist-file="$PEER_OUTPUT.persist" --pidfile="$PEER_OUTPUT.pid" --control="$PEER_OUTPUT.control"
