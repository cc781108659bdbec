#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# run_fuzz.sh BUILD SECONDS: each fuzzer of tests/fuzz for so long, as many at once as there are processors. It starts
# from tests/fuzz/corpus/NAME (kept, never written), from the fixtures and files of its kind; what is new stays in
# BUILD/corpus/NAME, what breaks it in BUILD/crash-*. Ends with "N passed, N failed"; exit status 1 where any failed.
set -u
build=$(cd "$1" && pwd) || exit 1
seconds=$2
cd "$(dirname "$0")/../.." || exit 1
export seconds build

seeds() { # the project's own small files of a kind
    case $1 in
    image) find tests/fixtures/image -type f ;;
    safetensors) find tests/fixtures/safetensors -type f ;;
    gguf) find tests/fixtures/gguf -name '*.gguf' ;;
    torch) find tests/fixtures/torch -type f ;;
    config) find models/pocket tests/fixtures/model/layout -name '*config.json' ;;
    tokenizer) find tests/fixtures/model/layout -name 'tokenizer.json' ;;
    plan) find examples -name '*.json' ;;
    *) ;;
    esac
}

one() {
    name=$1
    mkdir -p "$build/corpus/$name" "$build/seeds/$name"
    kept=
    [ -d "tests/fuzz/corpus/$name" ] && kept=tests/fuzz/corpus/$name
    seeds "$name" | while read -r file; do cp "$file" "$build/seeds/$name/$(echo "$file" | tr / -)"; done
    # shellcheck disable=SC2086
    if "$build/fuzz_$name" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=3000 -artifact_prefix="$build/crash-$name-" \
        -print_final_stats=1 "$build/corpus/$name" "$build/seeds/$name" $kept >"$build/fuzz-$name.log" 2>&1; then
        echo "fuzz_$name: $(grep -c "" "$build/fuzz-$name.log") lines, $(sed -n 's/^stat::number_of_executed_units: *//p' "$build/fuzz-$name.log") runs"
    else
        echo "fuzz_$name: FAILED, see $build/fuzz-$name.log"
        return 1
    fi
}
export -f one seeds

names=$(for f in tests/fuzz/fuzz_*.c; do basename "$f" .c | sed 's/^fuzz_//'; done | sort)
total=$(echo "$names" | wc -l)
echo "$names" | xargs -P "$(nproc)" -I{} bash -c 'one {}' | tee "$build/fuzz.txt"
failed=$(grep -c FAILED "$build/fuzz.txt")
echo "$((total - failed)) passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$total" -gt 0 ]
