#!/usr/bin/env bash
# Tests and measures rlsuite on a GPU in one command, also where nothing can be installed:
#   scripts/gpu_check.sh [--wheels FOLDER] [--minutes 25] [--out gpu-check] [--cpu]
# FOLDER holds the wheels of scripts/gpu_wheels.sh. The rest is explained by scripts/gpu_check.py --help.
set -euo pipefail
cd "$(dirname "$0")/.."
arguments=()
while [ $# -gt 0 ]; do
  if [ "$1" = --wheels ]; then
    site=$(mktemp -d)
    python3 -m pip install -q --no-index --no-deps --no-compile --target "$site" "$2"/*.whl
    export PYTHONPATH="$site:$PWD"
    shift 2
  else
    arguments+=("$1")
    shift
  fi
done
export PYTHONPATH="${PYTHONPATH:-$PWD}"
exec "${PYTHON:-python3}" scripts/gpu_check.py "${arguments[@]}"
