#!/usr/bin/env bash
# Tests and measures rlsuite on a GPU in one command, also where nothing can be installed:
#   scripts/gpu_check.sh [--wheels FOLDER] [--minutes 25] [--out gpu-check] [--cpu]
# FOLDER holds the wheels of scripts/gpu_wheels.sh. scripts/gpu_check.py --help explains the other options.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3} arguments=()
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
while [ $# -gt 0 ]; do
  if [ "$1" = --wheels ]; then
    [ -d "${2:-}" ] || { echo "gpu_check.sh: --wheels needs the folder that scripts/gpu_wheels.sh has filled, got '${2:-}'" >&2; exit 2; }
    site=$(mktemp -d)
    "$python" -m pip install -q --no-index --no-deps --no-compile --target "$site" "$2"/*.whl
    PYTHONPATH="$site:$PYTHONPATH"
    shift 2
  else
    arguments+=("$1")
    shift
  fi
done
exec "$python" "$root/scripts/gpu_check.py" "${arguments[@]}"
