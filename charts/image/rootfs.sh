#!/usr/bin/env bash
# rootfs.sh FOLDER: what an image needs beneath a Rust binary and ONNX Runtime, and nothing else: C libraries, certificates, a
# user. No shell, no package manager. Packages are listed as scanners look for them in images without dpkg.
set -euo pipefail
root=$1
packages=(libc6 libgcc-s1 libstdc++6 tzdata)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work" # apt downloads as a user of its own
(cd "$work" && apt-get download -qq "${packages[@]}")

mkdir -p "$root"/{etc/ssl/certs,home/plimsoll,var/lib/dpkg/status.d}
for deb in "$work"/*.deb; do
  dpkg-deb --extract "$deb" "$root"
  dpkg-deb --field "$deb" >"$root/var/lib/dpkg/status.d/$(dpkg-deb --field "$deb" Package)"
done
# Manuals and translations of C libraries; licences stay.
find "$root/usr/share" -mindepth 1 -maxdepth 1 ! -name doc ! -name zoneinfo -exec rm -rf {} +
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"

echo 'plimsoll:x:65532:65532::/home/plimsoll:/nologin' >"$root/etc/passwd"
echo 'plimsoll:x:65532:' >"$root/etc/group"
echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
install -d -m 1777 "$root/tmp"
chown -R 65532:65532 "$root/home/plimsoll"
