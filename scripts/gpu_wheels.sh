#!/usr/bin/env bash
# Downloads the wheels that rlsuite needs on a machine without a network, beside what machines with a GPU usually have (PyTorch, NumPy,
# numba, safetensors, PyYAML, typer, rich, tensorboard, matplotlib, pillow, pytest), and prints their size.
#   scripts/gpu_wheels.sh [FOLDER] [PYTHON_VERSION]      default: wheels 3.12
# On that machine: scripts/gpu_check.sh --wheels FOLDER
set -euo pipefail
folder=${1:-wheels} version=${2:-3.12}
mkdir -p "$folder"
options=(--no-deps --only-binary=:all: --python-version "$version" --implementation cp -d "$folder" -q)
for n in 2_28 2_27 2_17; do options+=(--platform "manylinux_${n}_x86_64"); done
options+=(--platform manylinux2014_x86_64)
python3 -m pip download "${options[@]}" gymnasium farama-notifications ale-py pydantic annotated-types typing-inspection
# pydantic works with exactly one version of its core, which its metadata names
core=$(unzip -p "$folder"/pydantic-2*.whl '*/METADATA' | sed -n 's/^Requires-Dist: pydantic-core==\([^ ;]*\).*/\1/p')
python3 -m pip download "${options[@]}" "pydantic-core==$core"
du -sh "$folder"
