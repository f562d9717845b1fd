#!/usr/bin/env bash
# The quickest look at whether the whole still stands: every landing runs it (< 20 s). KONTOR is the
# binary. It says nothing when all is well.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${KONTOR:=build/kontor}"
fail() { echo "smoke: $*"; exit 1; }

"$KONTOR" --version >/dev/null || fail "--version"
log=$(mktemp)
timeout 60 "$KONTOR" test spec/kt >"$log" 2>&1 || { grep -v '^ts=' "$log" | tail -40; rm -f "$log"; fail "kontor test spec/kt"; }
rm -f "$log"

# A service comes up, answers /health, and ends.
[ -f lua/app.lua ] || exit 0
dir=$(mktemp -d)
KONTOR_DATA_DIR=$dir/data KONTOR_LOG_DIR=$dir/logs KONTOR_LISTEN=127.0.0.1:0 "$KONTOR" serve 2>"$dir/err" &
pid=$!
trap 'kill -9 $pid 2>/dev/null || :; wait $pid 2>/dev/null || :; rm -rf "$dir"' EXIT
url=
for _ in $(seq 100); do
  url=$(sed -n "s/.*event=service.ready url=//p" "$dir/err" 2>/dev/null || :)
  [ -z "$url" ] || break
  kill -0 $pid 2>/dev/null || break
  sleep 0.1
done
[ -n "$url" ] || { tail -20 "$dir/err"; fail "no service"; }
curl -fsS -m 5 "$url/health" >/dev/null || { tail -20 "$dir/err"; fail "/health"; }
kill -TERM $pid
wait $pid || fail "serve ended with $?"
