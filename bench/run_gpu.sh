#!/usr/bin/env bash
# Ours and the CUDA stack's, in turns on one machine, into one file of results.
#
#   NEREID=build/release/apps/nereid NEREID_BUNDLES=bundles OUT=out bench/run_gpu.sh [MODEL...]
#
# MODEL: names of folders in configs/; llama3-8b and granite-8b without any. Needs python3 with torch,
# no compiler: $NEREID_BUNDLES/MODEL-cuda-90 holds the kernels, made anywhere by
#   nereid compile configs/MODEL --target cuda:90 --out BUNDLES/MODEL-cuda-90 --max-batch-tokens 1024
# $NEREID_LIBS: a folder of shared libraries that the program needs and the machine lacks.
# WHAT: "e2e kernels start" (the default), or some of them. ROUNDS: turns, 2. MODES: eager,compiled,graph.
# Writes $OUT/results.json and what it is made of; one part that fails leaves the others standing.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

NEREID=${NEREID:-build/release/apps/nereid}
NEREID_BUNDLES=${NEREID_BUNDLES:-build/bundles}
OUT=${OUT:-build/bench}
TARGET=${TARGET:-cuda:90}
ROUNDS=${ROUNDS:-2}
MODES=${MODES:-eager,compiled,graph}
REPEATS=${REPEATS:-2}
WHAT=${WHAT:-e2e kernels start}
PYTHON=${PYTHON:-python3}
DEVICE=${DEVICE:-cuda}
mkdir -p "$OUT"
[ $# -gt 0 ] || set -- llama3-8b granite-8b

failures=0
files=()

# part FILE COMMAND...: the command writes the file; counted as failed if not.
part() {
  local file=$1 started=$SECONDS
  shift
  if "$@" 2>>"$OUT/log.txt" && [ -s "$file" ]; then
    files+=("$file")
    printf '%4ds  %s\n' $((SECONDS - started)) "$file"
  else
    failures=$((failures + 1))
    printf '%4ds  FAILED %s: %s\n' $((SECONDS - started)) "$file" "$(tail -n 1 "$OUT/log.txt")"
  fi
}

ours() {
  local file=$1
  shift
  LD_LIBRARY_PATH="${NEREID_LIBS:+$NEREID_LIBS:}${LD_LIBRARY_PATH:-}" "$NEREID" bench "$@" \
    --device "$DEVICE" --json >"$file"
}

bundle_of() { printf '%s/%s-%s' "$NEREID_BUNDLES" "$1" "${TARGET//:/-}"; }

# Both engines once, ours first in odd rounds.
round_of_e2e() {
  local model=$1 round=$2 mine=$OUT/$1-ours-$2.json theirs=$OUT/$1-torch-$2.json turn
  for turn in $([ $((round % 2)) -eq 1 ] && echo ours torch || echo torch ours); do
    if [ "$turn" = ours ]; then
      part "$mine" ours "$mine" e2e "configs/$model" --bundle "$(bundle_of "$model")" \
        --random-weights --modes "$MODES" --repeats "$REPEATS" --prove
    else
      part "$theirs" "$PYTHON" bench/baselines/torch_cuda.py "configs/$model" \
        --repeats "$REPEATS" --json "$theirs"
    fi
  done
}

round_of_kernels() {
  local model=$1 mine=$OUT/$1-kernels-ours-$2.json theirs=$OUT/$1-kernels-torch-$2.json
  part "$mine" ours "$mine" kernels "configs/$model" --bundle "$(bundle_of "$model")" --mode compiled
  [ -s "$mine" ] && part "$theirs" "$PYTHON" bench/rivals/torch_kernels.py --shapes "$mine" \
    --config "configs/$model" --json "$theirs"
}

start_of() {
  local model=$1 file=$OUT/$1-start.json
  LD_LIBRARY_PATH="${NEREID_LIBS:+$NEREID_LIBS:}${LD_LIBRARY_PATH:-}" part "$file" "$PYTHON" \
    bench/start_time.py "configs/$model" --nereid "$NEREID" --bundle "$(bundle_of "$model")" \
    --device "$DEVICE" --json "$file"
}

facts=(--fact "command=bench/run_gpu.sh $*")
if command -v nvidia-smi >/dev/null; then
  fields=name,driver_version,clocks.max.sm,clocks.max.mem,power.limit
  facts+=(--fact "gpu ($fields)=$(nvidia-smi --query-gpu=$fields --format=csv,noheader -i 0)")
fi

for model in "$@"; do
  case " $WHAT " in *" e2e "*)
    for round in $(seq "$ROUNDS"); do round_of_e2e "$model" "$round"; done ;;
  esac
  case " $WHAT " in *" kernels "*)
    for round in $(seq "$ROUNDS"); do round_of_kernels "$model" "$round"; done ;;
  esac
  case " $WHAT " in *" start "*) start_of "$model" ;; esac
done

[ ${#files[@]} -gt 0 ] || { echo "nothing was measured; see $OUT/log.txt"; exit 1; }
"$PYTHON" bench/merge.py --out "$OUT/results.json" "${facts[@]}" "${files[@]}" || exit 1
"$PYTHON" bench/report.py "$OUT/results.json" --docs "$OUT" && cat "$OUT/benchmarks.md"
[ "$failures" -eq 0 ] || { echo "$failures parts failed; see $OUT/log.txt"; exit 1; }
