#!/usr/bin/env bash
# make demo: a demo company's data, the service on the embedded store, an ERP analysis over the
# public API (examples/demo.py is the client), and its report. Run again, it adds another run.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${KONTOR:=$PWD/build/kontor}"
dir=${DEMO_DIR:-demo}
python=/usr/bin/python3 # Debian's, which has the package python3-websockets
mkdir -p "$dir"

[ -f "$dir/data/manifest.json" ] || "$KONTOR" demo-data --out "$dir/data"

port=$($python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
export KONTOR_DATA_DIR=$dir/store KONTOR_LISTEN=127.0.0.1:$port KONTOR_LOG_DIR=$dir/logs \
  ERP_REPORTS_DIRECTORY=$dir/reports
"$KONTOR" serve 2>"$dir/serve.log" &
service=$!
trap 'kill $service 2>/dev/null || :; wait $service 2>/dev/null || :' EXIT

for _ in $(seq 150); do
  curl -fsS -o /dev/null "http://127.0.0.1:$port/ready" 2>/dev/null && break
  kill -0 $service 2>/dev/null || { echo "the service did not start:" >&2; tail -n 20 "$dir/serve.log" >&2; exit 1; }
  sleep 0.1
done
$python examples/demo.py --base "http://127.0.0.1:$port" --data "$dir/data" --reports "$dir/reports" --store "$dir/store"
