#!/usr/bin/env bash
# Test and measure on a CUDA GPU, in less than 8 minutes on a machine with torch.
#
#   bash benchmarks/gpu_check.sh            what it prints last is a short table
#   PYTHON=python3.12 WHEELS=wheels OUT=out/gpu bash benchmarks/gpu_check.sh
#
# PYTHON is the interpreter with torch, WHEELS a folder with packages for a machine without a
# network, OUT the folder of the logs and of bench.json, DATA the folder with FLO's files.
set -uo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
OUT=${OUT:-out/gpu}
DATA=${DATA:-../shared/data}
WHEELS=${WHEELS:-}
mkdir -p "$OUT"
export PYTHONUNBUFFERED=1
# The thread pools of a machine with many cores; torch's own work is on the GPU.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-8}

"$PYTHON" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' || {
  echo "error: found no CUDA GPU with $PYTHON, expected torch and a GPU" >&2
  exit 2
}

# Only what is missing is installed, into a folder of its own: torch stays as it is.
missing=$("$PYTHON" - <<'PYTHON'
from importlib.util import find_spec

names = {
    "FrEIA": "FrEIA",
    "h5py": "h5py",
    "hypothesis": "hypothesis",
    "matplotlib": "matplotlib",
    "msgspec": "msgspec",
    "filelock": "filelock",
    "psutil": "psutil",
    "pytest": "pytest",
    "requests": "requests",
    "rich": "rich",
    "safetensors": "safetensors",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "tyro": "tyro",
}
print(*(package for module, package in names.items() if find_spec(module) is None))
PYTHON
)
if [ -n "$missing" ]; then
  echo "installing: $missing"
  packages=$(mktemp -d)
  from=()
  [ -n "$WHEELS" ] && from=(--no-index --find-links "$WHEELS")
  # Their other needs are packages that torch or the list has; tyro's own two are named.
  # shellcheck disable=SC2086
  "$PYTHON" -m pip install --quiet --no-deps "${from[@]}" --target "$packages" \
    $missing docstring-parser typeguard || {
    echo "error: could not install $missing, expected a network or WHEELS, a folder with them" >&2
    exit 2
  }
  export PYTHONPATH="$packages${PYTHONPATH:+:$PYTHONPATH}"
fi

run() { # NAME SECONDS COMMAND...: run with a limit, keep the log, note the result
  local name=$1 limit=$2 start=$SECONDS
  shift 2
  echo "== $name"
  timeout "$limit" "$@" 2>&1 | tee "$OUT/$name.log"
  local code=$?
  rows+=("$(printf '%-12s %4d s  %s' "$name" $((SECONDS - start)) \
    "$([ $code = 0 ] && echo ok || echo "failed ($code)")")")
  [ $code = 0 ] || failed=1
}

# The tests are many small runs: a process each for half of the cores, where pytest can.
side_by_side=()
"$PYTHON" -c 'import xdist' 2>/dev/null && side_by_side=(-n "$((($(nproc) + 1) / 2))")

failed=0
rows=()
run tests 180 env OMP_NUM_THREADS=1 "$PYTHON" -m pytest -q -p no:benchmark -p no:cacheprovider \
  "${side_by_side[@]}" -m gpu
run flo 45 "$PYTHON" train_FLO.py --features densenet169 --schedule fast --data "$DATA" \
  --out "$OUT/runs" --run "flo-$$" --cuda-graphs on
bench=("$PYTHON" -m benchmarks.speed --device cuda --repetitions 5 --out "$OUT/bench.json")
run run 100 "${bench[@]}" --parts run,ceilings
run steps 100 "${bench[@]}" --parts step,peak,gan,profile

echo
echo "== $("$PYTHON" -c 'import torch; print(torch.cuda.get_device_name(), "torch", torch.__version__)')"
printf '%s\n' "${rows[@]}"
grep -h '^seconds: ' "$OUT/flo.log"
"$PYTHON" - "$OUT/bench.json" <<'PYTHON' || failed=1
import sys
from pathlib import Path

from rich.console import Console

from benchmarks.speed.page import print_targets
from benchmarks.speed.record import read_record

print_targets(read_record(Path(sys.argv[1])), Console(width=100))
PYTHON
exit $failed
