#!/usr/bin/env bash
# deps.sh build|demo|test|fuzz|docker: installs what is missing, once, quietly: Debian's packages, llhttp's C
# sources out of Debian's node-llhttp (without node), and for `test` a Python environment with
# locked versions in .venv. Does nothing when all is there.
set -euo pipefail
cd "$(dirname "$0")/.."
sudo=; [ "$(id -u)" = 0 ] || sudo=sudo

build="gcc libc6-dev cmake ninja-build pkg-config libluajit-5.1-dev libuv1-dev libwebsockets-dev
  libwebsockets-evlib-uv libcurl4-openssl-dev libbson-dev libmongoc-dev libsqlite3-dev libjansson-dev libssl-dev
  zlib1g-dev libseccomp-dev libedit-dev libarchive-dev"
demo="python3 python3-websockets curl"
test="luajit lua-busted lua-check libcmocka-dev python3 python3-venv curl git jq tmux"

fuzz="clang-14 libclang-rt-14-dev python3"
docker="docker.io docker-compose mmdebstrap"

missing() { # the packages of the arguments that are not installed
  dpkg-query -W -f '${db:Status-Status} ${Package}\n' "$@" 2>/dev/null | awk '$1=="installed"{print $2}' |
    sort >/tmp/kontor-have.$$
  printf '%s\n' "$@" | sort | comm -23 - /tmp/kontor-have.$$ | tr '\n' ' '
  rm -f /tmp/kontor-have.$$
}
need() {
  local lack; lack=$(missing "$@")
  [ -n "${lack// /}" ] || return 0
  echo "installing Debian packages: $lack"
  export DEBIAN_FRONTEND=noninteractive
  local log; log=$(mktemp)
  # A list that is an hour old is fresh enough; a missing or older one is fetched.
  if [ -z "$(find /var/lib/apt/lists -name '*Packages*' -mmin -60 2>/dev/null | head -1)" ]; then
    $sudo apt-get -o DPkg::Lock::Timeout=600 -qq update >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
  fi
  # shellcheck disable=SC2086
  $sudo apt-get -o DPkg::Lock::Timeout=600 -qq install -y --no-install-recommends $lack >"$log" 2>&1 ||
    { cat "$log" >&2; exit 1; }
  rm -f "$log"
}
llhttp() {
  [ ! -f .deps/llhttp/llhttp.c ] || return 0
  if [ -f /usr/include/llhttp.h ]; then return 0; fi
  echo "unpacking llhttp"
  local tmp; tmp=$(mktemp -d)
  chmod 755 "$tmp"
  (cd "$tmp" && apt-get -qq download node-llhttp >/dev/null 2>&1 && dpkg-deb -x node-llhttp_*.deb .) ||
    { echo "deps.sh: cannot download Debian's node-llhttp" >&2; exit 1; }
  mkdir -p .deps/llhttp
  cp "$tmp"/usr/share/llhttp/*.c "$tmp"/usr/share/include/llhttp/llhttp.h .deps/llhttp/
  rm -rf "$tmp"
}
venv() {
  local lock=tests/requirements.txt
  if [ -f .venv/lock ] && cmp -s .venv/lock $lock; then return 0; fi
  echo "installing the Python test environment"
  rm -rf .venv
  /usr/bin/python3 -m venv .venv
  .venv/bin/pip install -q --disable-pip-version-check --require-hashes --no-compile -r $lock
  cp $lock .venv/lock
}

# shellcheck disable=SC2086
case ${1:-build} in
  build) need $build; llhttp;;
  demo) need $demo;;
  test) need $test; venv;;
  fuzz) need $fuzz;;
  docker) need $docker;;
  *) echo "usage: deps.sh build|demo|test|fuzz|docker" >&2; exit 2;;
esac
