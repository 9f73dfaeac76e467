#!/usr/bin/env bash
# Unpacks varnishtest and slowhttptest, which speak HTTP as no client should, from Debian's packages into .tools/.
# The packages are not installed: that would start a server.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/setup/lib.sh
need_linux
need apt-get "varnishtest and slowhttptest come from Debian packages; put them into .tools/bin/ by hand"

# The library carries its major version in the package's name.
api() { apt-cache depends varnish | sed -n 's/.*Depends: \(libvarnishapi[0-9]*\)$/\1/p' | head -1; }

say "fetching varnishtest and slowhttptest into .tools/"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work" # apt downloads as a user of its own
download() { (cd "$work" && apt-get download -qq varnish "$(api)" slowhttptest); }
# Lists that are missing or old are the usual reason for a first failure.
download 2>/dev/null || { need_root apt-get update && as_root apt-get update -qq && download; }
for package in "$work"/*.deb; do
  dpkg-deb --fsys-tarfile "$package" | tar x -C "$work"
done

rm -rf .tools/wire
mkdir -p .tools/bin .tools/wire
cp "$work"/usr/bin/varnishtest "$work"/usr/bin/slowhttptest "$work"/usr/lib/*/libvarnishapi.so.* .tools/wire/
for tool in slowhttptest varnishtest; do
  printf '#!/bin/sh\nhere=$(dirname "$(readlink -f "$0")")/../wire\nLD_LIBRARY_PATH=$here exec "$here/%s" "$@"\n' "$tool" >".tools/bin/$tool"
  chmod +x ".tools/bin/$tool"
done
