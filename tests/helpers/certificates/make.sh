#!/bin/sh
# Makes the certificates beside it again. They are for tests only: their keys are public.
# Needs openssl 3. `authority.hash` is the name that OpenSSL looks for in a directory.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
: >"$work/index"
echo 01 >"$work/serial"
cat >"$work/ca.cnf" <<CNF
[ca]
default_ca = own
[own]
database = $work/index
serial = $work/serial
new_certs_dir = $work
certificate = authority.pem
private_key = $work/authority.key
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
CNF

request() { # name
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$work/$1.key" 2>/dev/null
    openssl req -new -key "$work/$1.key" -subj "/CN=telemetryd test $1" -out "$work/$1.csr"
}

sign() { # name, from, until, options of openssl; `openssl ca` is the one that takes dates
    name=$1 from=$2 until=$3
    shift 3
    openssl ca -batch -notext -config "$work/ca.cnf" -startdate "$from" -enddate "$until" \
        -in "$work/$name.csr" -extfile "$work/ext" "$@" 2>/dev/null
}

leaf() { # name, names it is valid for, from, until
    request "$1"
    printf '%s\n' "subjectAltName=$2" basicConstraints=critical,CA:FALSE \
        authorityKeyIdentifier=keyid >"$work/ext"
    sign "$1" "$3" "$4" -out "$work/$1.crt"
    cat "$work/$1.key" "$work/$1.crt" >"$1.pem"
}

request authority
printf '%s\n' basicConstraints=critical,CA:TRUE keyUsage=critical,keyCertSign \
    subjectKeyIdentifier=hash >"$work/ext"
sign authority 20240101000000Z 21250101000000Z -selfsign -out authority.pem
openssl x509 -in authority.pem -noout -subject_hash >authority.hash

here=DNS:localhost,IP:127.0.0.1,IP:::1
leaf server $here 20240101000000Z 21240101000000Z
leaf elsewhere DNS:elsewhere.test 20240101000000Z 21240101000000Z
leaf expired $here 20010101000000Z 20020101000000Z

openssl ec -aes256 -passout pass:secret -in server.pem -out locked.pem 2>/dev/null
