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
