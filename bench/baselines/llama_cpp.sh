#!/usr/bin/env bash
# llama.cpp at the same weights, in fp16 or as it quantises them: builds it from the source archive
# of PyPI's llama-cpp-python for this processor, converts the model, measures.
#
#   bench/baselines/llama_cpp.sh [MODEL] [--threads 1,2] [--repeats 5] [--only-build]
#     [--type F16|Q8_0|Q4_0|Q4_K_M]
#
# Prints one JSON object a line: threads, test (prefill512, decode128), tokens a second, and the time
# from the program's start to the first token of a prompt of 16. Sources, program and converted model
# stay in $XDG_CACHE_HOME/nereid/llama_cpp; a second run starts measuring at once.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

readonly VERSION=0.3.36
model=models/demo
threads=1,$(nproc)
repeats=5
only_build=no
type=F16
while [ $# -gt 0 ]; do
  case $1 in
    --threads) threads=$2; shift 2 ;;
    --repeats) repeats=$2; shift 2 ;;
    --type) type=$2; shift 2 ;;
    --only-build) only_build=yes; shift ;;
    -*) sed -n '2,11p' "$0" >&2; exit 1 ;;
    *) model=$1; shift ;;
  esac
done

python=.venv/bin/python3
[ -x "$python" ] || python=python3
cache=${XDG_CACHE_HOME:-$HOME/.cache}/nereid/llama_cpp
source_dir=$cache/llama_cpp_python-$VERSION/vendor/llama.cpp
bench=$cache/llama_bench
mkdir -p "$cache"

if [ ! -x "$bench" ] || [ bench/baselines/llama_bench.cc -nt "$bench" ]; then
  if [ ! -d "$source_dir" ]; then
    # pip asks an archive for its metadata, which takes the tools it is built with.
    python3 -m venv "$cache/venv"
    "$cache/venv/bin/pip" install --quiet --disable-pip-version-check scikit-build-core
    "$cache/venv/bin/pip" download --quiet --disable-pip-version-check --no-deps \
      --no-build-isolation --no-binary llama-cpp-python --dest "$cache" \
      "llama-cpp-python==$VERSION" >&2
    tar -xzf "$cache/llama_cpp_python-$VERSION.tar.gz" -C "$cache"
  fi
  build=$cache/build
  cmake -G Ninja -S "$source_dir" -B "$build" -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON \
    -DGGML_OPENMP=ON -DBUILD_SHARED_LIBS=OFF -DLLAMA_BUILD_COMMON=OFF -DLLAMA_BUILD_TESTS=OFF \
    -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_APP=OFF \
    -DLLAMA_BUILD_TOOLS=OFF >&2
  nice -n 10 ninja -C "$build" -j "${JOBS:-$(nproc)}" llama >&2
  c++ -std=c++17 -O2 -I "$source_dir/include" -I "$source_dir/ggml/include" \
    bench/baselines/llama_bench.cc -o "$bench" "$build/src/libllama.a" \
    "$build"/ggml/src/libggml{,-cpu,-base}.a -fopenmp -lpthread -ldl -lm
fi

gguf=$cache/$(basename "$(realpath "$model")")-f16.gguf
[ -f "$gguf" ] || "$python" bench/baselines/llama_to_gguf.py "$model" "$gguf"
if [ "$type" != F16 ]; then
  floats=$gguf
  gguf=${floats%-f16.gguf}-${type,,}.gguf
  [ -f "$gguf" ] || "$bench" quantize "$floats" "$gguf" "$type" >&2
fi
[ "$only_build" = no ] || { echo "$bench $gguf"; exit 0; }
"$bench" "$gguf" "$threads" 512 128 "$repeats"
