#!/usr/bin/env bash
# peers.sh: what `make bench` compares with, into the git-ignored .bench: a Python environment
# (peers/requirements.txt), Restate (peers/package-lock.json), Debian's nginx with its Lua module,
# unpacked and not installed (its LuaJIT conflicts with the one that we build on); and h2load. What
# cannot be had is named; the lines of `make bench` that need it then say so.
set -uo pipefail
cd "$(dirname "$0")/../.."
sudo=; [ "$(id -u)" = 0 ] || sudo=sudo
mkdir -p .bench
log=.bench/log

part() { # name, stamp file, function
  cmp -s "$2" ".bench/$1.stamp" && return
  echo "bench: installing $1"
  if "$3" >"$log" 2>&1; then cp "$2" ".bench/$1.stamp"; else echo "bench: $1 cannot be installed:"; tail -3 "$log"; fi
}
lists() { [ -n "$(find /var/lib/apt/lists -name '*Packages*' -mmin -60 2>/dev/null | head -1)" ] || $sudo apt-get -o DPkg::Lock::Timeout=600 -qq update; }
tools() {
  local lack; lack=$(for p in nghttp2-client npm; do dpkg -s "$p" >/dev/null 2>&1 || command -v "${p/nghttp2-client/h2load}" >/dev/null || echo "$p"; done)
  # shellcheck disable=SC2086
  [ -z "$lack" ] || { lists && DEBIAN_FRONTEND=noninteractive $sudo apt-get -o DPkg::Lock::Timeout=600 -qq install -y --no-install-recommends $lack; }
}
python() {
  rm -rf .bench/venv
  /usr/bin/python3 -m venv .bench/venv &&
    .bench/venv/bin/pip install -q --disable-pip-version-check --require-hashes -r tests/bench/peers/requirements.txt
}
nginx() (
  set -e
  lists
  rm -rf .bench/nginx; mkdir -p .bench/nginx
  tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT; chmod 755 "$tmp"; cd "$tmp"
  apt-get -qq download nginx libnginx-mod-http-lua libnginx-mod-http-ndk libluajit2-5.1-2 lua-resty-core lua-resty-lrucache libpcre3
  for deb in *.deb; do dpkg-deb -x "$deb" "$OLDPWD/.bench/nginx"; done
)
restate() (
  rm -rf .bench/restate; mkdir -p .bench/restate
  cp tests/bench/peers/package.json tests/bench/peers/package-lock.json .bench/restate/
  cd .bench/restate && timeout 900 npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
)

part tools tests/bench/peers.sh tools
part python tests/bench/peers/requirements.txt python
part nginx tests/bench/peers.sh nginx
part restate tests/bench/peers/package-lock.json restate
exit 0
