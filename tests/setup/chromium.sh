#!/usr/bin/env bash
# Sees that there is a Chromium, which shows the tests Jaeger's UI and the status page, and names it .tools/bin/chromium.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/setup/lib.sh

if ! command -v chromium >/dev/null 2>&1; then
  need apt-get "install Chromium, so that \`chromium\` starts it"
  need_root apt-get install chromium
  say "installing chromium"
  install() { as_root apt-get install -qq -y --no-install-recommends chromium fonts-dejavu-core >/dev/null; }
  # Lists that are missing or old are the usual reason for a first failure.
  install 2>/dev/null || { as_root apt-get update -qq && install; }
fi

mkdir -p .tools/bin
rm -f .tools/bin/chromium
printf '#!/bin/sh\nexec chromium "$@"\n' >.tools/bin/chromium
chmod +x .tools/bin/chromium
