#!/usr/bin/env bash
# Unpacks promtool, the judge of /metrics, and the Prometheus that scrapes it, from Debian's package into .tools/bin/.
# The package is not installed: that would start a server.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/setup/lib.sh
need apt-get "promtool and prometheus come from a Debian package; put them into .tools/bin/ by hand"

say "fetching promtool and prometheus into .tools/bin/"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work" # apt downloads as a user of its own
download() { (cd "$work" && apt-get download -qq prometheus); }
# Lists that are missing or old are the usual reason for a first failure.
download 2>/dev/null || { need_root apt-get update && as_root apt-get update -qq && download; }
dpkg-deb --fsys-tarfile "$work"/prometheus_*.deb | tar x -C "$work" ./usr/bin/promtool ./usr/bin/prometheus

mkdir -p .tools/bin
install -m 0755 "$work"/usr/bin/prom* .tools/bin/
