#!/usr/bin/env bash
# Unpacks nginx, a peer that `make bench-proxy` compares with, from Debian's package into .tools/peers/nginx/.
# The package is not installed: that would start a server.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/setup/lib.sh
need_linux
need apt-get "nginx comes from a Debian package; put it into .tools/peers/nginx/ by hand, beside a file .ready"
home=$PWD/.tools/peers/nginx

say "fetching nginx into $home/"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work" # apt downloads as a user of its own
download() { (cd "$work" && apt-get download -qq nginx); }
# Lists that are missing or old are the usual reason for a first failure.
download 2>/dev/null || { need_root apt-get update && as_root apt-get update -qq && download; }
dpkg-deb --fsys-tarfile "$work"/nginx_*.deb | tar x -C "$work"
rm -rf "$home"
mkdir -p "$home"
cp "$work/usr/sbin/nginx" "$home/nginx"
"$home/nginx" -v 2>/dev/null || fail "nginx does not run here: a library is missing (ldd $home/nginx)"
touch "$home/.ready"
