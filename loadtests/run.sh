#!/usr/bin/env bash
# One minute of chat users through the gateway against two fake engines, with a table at the end.
# USERS, SECONDS_TO_RUN and PORT may be set; PYTHON is the interpreter that has Sluice and Locust.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PYTHON=${PYTHON:-.venv/bin/python}
PORT=${PORT:-8091}
USERS=${USERS:-40}
SECONDS_TO_RUN=${SECONDS_TO_RUN:-60}

state=$(mktemp -d)
"$PYTHON" -m gateway serve --engine fake --workers 2 --port "$PORT" --state-dir "$state" >"$state/gateway.log" 2>&1 &
gateway=$!
trap 'kill "$gateway" 2>/dev/null || true; wait "$gateway" 2>/dev/null || true; rm -rf "$state"' EXIT

for _ in $(seq 100); do
  "$PYTHON" -c "
import sys, urllib.request
with urllib.request.urlopen('http://127.0.0.1:$PORT/ready', timeout=1) as answer:
    sys.exit(answer.status != 200)" 2>/dev/null && break
  kill -0 "$gateway" 2>/dev/null || { cat "$state/gateway.log"; exit 1; }
  sleep 0.2
done

"$PYTHON" -W ignore -m locust -f loadtests/locustfile.py --host "http://127.0.0.1:$PORT" --headless --only-summary \
  --users "$USERS" --spawn-rate "$USERS" --run-time "${SECONDS_TO_RUN}s" --stop-timeout 10 --exit-code-on-error 1
