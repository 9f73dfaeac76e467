# shellcheck shell=bash
# Sourced by the scripts of this folder; they run from the repository's root.

# What a script does, on stderr, so that output can be piped.
say() { printf '%s\n' "setup: $*" >&2; }

fail() {
  printf '%s\n' "setup: error: $*" >&2
  exit 1
}

# need TOOL HINT: fails with the hint where the tool is missing.
need() {
  command -v "$1" >/dev/null 2>&1 || fail "\`$1\` is missing: $2"
}

need_rust() {
  need cargo "install a Rust toolchain with rustup"
  need cc "install a C compiler (Debian: apt-get install build-essential)"
}

need_pip() {
  need python3 "install Python 3.11 or newer (Debian: apt-get install python3 python3-pip)"
  python3 -m pip --version >/dev/null 2>&1 || fail "python3 has no pip: install it (Debian: apt-get install python3-pip)"
}

# The machine, as wheels and Debian packages know it; both are fetched for Linux only.
need_linux() {
  [ "$(uname -s)" = Linux ] || fail "only Linux is set up by itself; this is $(uname -s)"
}

# need_root COMMAND...: fails with the command to type, where this user is neither root nor a sudoer without a password.
need_root() {
  [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null || fail "this needs root, once: sudo $*"
}

# as_root COMMAND...: after need_root.
as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}
