#!/bin/sh
# Live parts from Debian: `install` gets what is missing when it may, `missing` fails naming what still is.
set -eu
here=$(dirname "$0")

wanting() {
    grep -v '^#' "$here/apt.txt" | while read -r part package; do
        case "$part" in
        /*) ls $part >/dev/null 2>&1 || echo "$part $package" ;;
        *) PATH="$PATH:/usr/sbin:/sbin" command -v "$part" >/dev/null 2>&1 || echo "$part $package" ;;
        esac
    done
}

case "${1:-}" in
install)
    packages=$(wanting | awk '{print $2}' | sort -u | tr '\n' ' ')
    [ -n "$packages" ] || exit 0
    echo "== live parts: $packages"
    as_root=
    [ "$(id -u)" -eq 0 ] || as_root="sudo -n"
    if command -v apt-get >/dev/null 2>&1 && $as_root true 2>/dev/null; then
        $as_root apt-get -qq update >/dev/null &&
            DEBIAN_FRONTEND=noninteractive $as_root apt-get -qq install -y --no-install-recommends $packages >/dev/null ||
            echo "apt-get could not install them; the tests that need them will fail"
    else
        echo "no root and no sudo: the tests that need them will fail"
    fi
    ;;
missing)
    gone=$(wanting)
    [ -n "$gone" ] || exit 0
    echo "make test: these live parts are missing, so their promises are unproven:" >&2
    echo "$gone" | while read -r part package; do echo "  $part    apt-get install $package" >&2; done
    exit 1
    ;;
*)
    echo "usage: parts.sh install|missing" >&2
    exit 2
    ;;
esac
