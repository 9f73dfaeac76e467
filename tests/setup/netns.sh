#!/usr/bin/env bash
# Unpacks iptables, and busybox for its `ip`, from Debian's packages into .tools/: tests of redirected connections set up a
# network namespace with them. Nothing is installed, and no rule of this machine is touched.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/setup/lib.sh
need_linux
need apt-get "iptables and busybox come from Debian packages; put them into .tools/bin/ by hand"

# Libraries carry their major versions in their packages' names.
libraries() { apt-cache depends iptables | sed -n 's/.*Depends: \(lib\(ip[46]tc\|mnl\|nftnl\|xtables\|nfnetlink\|netfilter-conntrack\)[0-9]*\)$/\1/p'; }

say "fetching iptables into .tools/"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work" # apt downloads as a user of its own
# shellcheck disable=SC2046 # one word a library
download() { (cd "$work" && apt-get download -qq iptables busybox-static $(libraries)); }
# Lists that are missing or old are the usual reason for a first failure.
download 2>/dev/null || { need_root apt-get update && as_root apt-get update -qq && download; }
for package in "$work"/*.deb; do
  dpkg-deb --fsys-tarfile "$package" | tar x -C "$work"
done

rm -rf .tools/netns
mkdir -p .tools/bin .tools/netns
cp -a "$work"/usr/lib/*/lib*.so.* "$work"/usr/lib/*/xtables .tools/netns/
cp "$work"/usr/sbin/xtables-nft-multi .tools/netns/
cp "$(find "$work" -path '*/bin/busybox' -type f -print -quit)" .tools/bin/busybox
for tool in ip6tables iptables; do
  printf '#!/bin/sh\nhere=$(dirname "$(readlink -f "$0")")/../netns\nLD_LIBRARY_PATH=$here XTABLES_LIBDIR=$here/xtables exec "$here/xtables-nft-multi" %s "$@"\n' "$tool" >".tools/bin/$tool"
  chmod +x ".tools/bin/$tool"
done
