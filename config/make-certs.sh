#!/usr/bin/env bash
# Makes an authority and what it vouches for, to try TLS with: not for production. Needs openssl.
#
#   config/make-certs.sh [FOLDER [NAME...]]        default: config/tls shop.example.com *.shop.example.com localhost 127.0.0.1
#
# In FOLDER: ca.crt and ca.key (kept if they are there), edge.crt and edge.key for the names, client.crt and
# client.key for a client. Made anew each time but for the authority; each file is replaced as a whole.
set -euo pipefail
umask 077

folder=${1:-$(dirname "$0")/tls}
if [[ $# -gt 1 ]]; then names=("${@:2}"); else names=(shop.example.com '*.shop.example.com' localhost 127.0.0.1); fi
mkdir -p "$folder"
cd "$folder"

alternatives() { # as openssl writes them
    local name all=()
    for name in "$@"; do
        if [[ $name =~ ^[0-9.]+$ || $name == *:* ]]; then all+=("IP:$name"); else all+=("DNS:$name"); fi
    done
    (IFS=, && echo "${all[*]}")
}

key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1"; }

issue() { # issue FILE SUBJECT USAGE ALTERNATIVES
    key "$1.key.new"
    openssl req -new -key "$1.key.new" -subj "$2" -out "$1.csr"
    openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -days 30 -out "$1.crt.new" -extfile - 2>/dev/null <<EXTENSIONS
basicConstraints = critical, CA:false
keyUsage = critical, digitalSignature
extendedKeyUsage = $3
subjectAltName = $4
EXTENSIONS
    rm "$1.csr"
    mv "$1.key.new" "$1.key"
    mv "$1.crt.new" "$1.crt"
}

if [[ ! -e ca.key || ! -e ca.crt ]]; then
    key ca.key
    openssl req -x509 -new -key ca.key -days 365 -subj "/CN=crossfade test authority" -out ca.crt \
        -addext "keyUsage = critical, keyCertSign, cRLSign"
fi
issue edge "/CN=${names[0]}" serverAuth "$(alternatives "${names[@]}")"
issue client "/CN=client" clientAuth "URI:spiffe://crossfade.test/client"
