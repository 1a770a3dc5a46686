#!/bin/sh
# usage: debian.sh COMMAND PACKAGE   (PEER_BUILD names a writable directory)
# Makes COMMAND available to a peer: the installed one if there is one, else Debian's package and
# those libraries of it that are not installed, unpacked below PEER_BUILD and not installed. Two
# syslog daemons exclude each other as packages; this way both can be measured on one machine, and
# neither becomes the machine's own. Exit status 69: not to be had here.
set -eu
command=$1 package=$2
if command -v "$command" >/dev/null || [ -e "$PEER_BUILD/root/.complete" ]; then exit 0; fi
if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
    echo "$command is not installed, and cannot be unpacked without apt-get and dpkg-deb"
    exit 69
fi
rm -rf "$PEER_BUILD/packages" "$PEER_BUILD/root"
mkdir -p "$PEER_BUILD/packages" "$PEER_BUILD/root"
cd "$PEER_BUILD/packages"
wanted=$package
for library in $(apt-cache depends --important -i "$package" | awk '/ Depends: lib/ {print $2}'); do
    dpkg-query -W -f '${Status}' "$library" 2>/dev/null | grep -q ' installed' || wanted="$wanted $library"
done
# shellcheck disable=SC2086 # a list
if ! apt-get download -qq $wanted; then
    echo "$command is not installed, and apt-get could not download $wanted (is \`apt-get update\` due?)"
    exit 69
fi
for file in *.deb; do dpkg-deb --extract "$file" "$PEER_BUILD/root"; done
touch "$PEER_BUILD/root/.complete"
