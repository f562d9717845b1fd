#!/usr/bin/env bash
# The habits that a machine can check. The last line is `N passed, N failed`.
set -uo pipefail
shopt -s lastpipe
cd "$(dirname "$0")/.."
passed=0 failed=0

check() { # name, then the offending lines on stdin: none is good
  local found; found=$(cat)
  if [ -z "$found" ]; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    printf 'LINT %s\n%s\n' "$1" "$found" | head -30
  fi
}

sources() { git ls-files -- "$@" | while read -r f; do [ -f "$f" ] && echo "$f"; done; }

# Layers: bind -> table, proc, store, net -> vm -> core. A layer includes itself and those below.
layer() { # layer, then those it may include
  local name=$1; shift
  local allowed="$name"; for l in "$@"; do allowed="$allowed|$l"; done
  grep -nE '^#include "[a-z]+/' runtime/"$name"/*.[ch] /dev/null 2>/dev/null | grep -vE "#include \"($allowed)/"
}
layer core | check "core includes only core"
layer vm core | check "vm includes only core"
for l in net store proc table; do layer "$l" vm core | check "$l includes only vm, core"; done
layer bind net store proc table vm core | check "bind includes everything below"
for layer in core net store proc table; do
  grep -lE 'lua_State|#include <(lua|lauxlib)' runtime/$layer/*.[ch] /dev/null 2>/dev/null
done | check "C objects know nothing of Lua"

# Lua: console, routes -> units -> engine -> door -> domain, scripts -> erp, template, http -> lib; each uses itself and what is right
# of it. (app.lua and cli/ are the mains; kt/ and meta/ belong to the runtime.)
lua_layer() { # layer, then those it may require
  local name=$1; shift
  local allowed="$name"; for l in "$@"; do allowed="$allowed|$l"; done
  grep -nE "require[ (]*\"(console|routes|units|engine|door|domain|scripts|erp|template|http|lib|cli|app)[.\"]" lua/"$name" -r |
    grep -vE "require[ (]*\"($allowed)[.\"]" | check "lua/$name requires only ${*:-itself}"
}
lua_layer console units engine door domain scripts erp template http lib
lua_layer routes units engine door domain scripts erp template http lib
lua_layer units engine door domain scripts erp template http lib
lua_layer engine door domain scripts erp template http lib
lua_layer door domain scripts erp template http lib
lua_layer domain scripts erp template http lib
lua_layer scripts domain erp template http lib
lua_layer erp lib
lua_layer template lib
lua_layer http lib
lua_layer lib

for only in lua_resume:vm/task.c luaL?_newstate:vm/vm.c lua_sethook:vm/hook.c; do
  call=${only%%:*} file=${only##*:}
  grep -lE "\\b$call\\(" runtime/*/*.c | grep -v "runtime/$file" | check "only $file calls $call"
done

sources '*.c' '*.h' '*.lua' '*.py' '*.sh' | xargs -r wc -l | awk '$2 != "total" && $1 > 650 {print $2 ": " $1 " lines"}' |
  check "no file above about 600 lines"
sources 'runtime/*.c' 'runtime/*.h' | xargs -r awk 'length($0) > 110 {print FILENAME ":" FNR ": " length($0) " columns"}' |
  check "no C line above 110 columns"
sources '*.c' '*.h' '*.lua' '*.py' '*.sh' '*.md' Makefile CMakeLists.txt | xargs -r grep -nE '[[:space:]]+$' | check "no blanks at line ends"
sources 'runtime/*.c' 'runtime/*.h' 'lua/*.lua' 'agents/*.lua' | xargs -r grep -nE '\b(TODO|FIXME)\b' | check "nothing left to do in a comment"
sources 'spec/*.lua' | xargs -r grep -nE '#only' | check "no #only in specs"
sources 'runtime/*.h' | xargs -r grep -L '^#pragma once' | check "headers have #pragma once"
sources 'runtime/*.c' 'runtime/*.h' | while read -r f; do head -1 "$f" | grep -qE '^(/\*|//|#include "[a-z]+/|#pragma)' || echo "$f"; done |
  check "a C file begins with what it is for"

if command -v luacheck >/dev/null; then
  sources 'lua/*.lua' 'agents/*.lua' 'migrations/*.lua' | xargs -r luacheck -q --no-color --formatter plain 2>&1 | check "luacheck"
else
  echo "lint: luacheck is not installed" | check "luacheck"
fi
echo "$passed passed, $failed failed"
[ $failed = 0 ]
