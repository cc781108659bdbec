#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# run_tests.sh BUILD: runs every registered test and ends with "N passed, N failed, N skipped", counting
# each cmocka test by itself and every other program as one test. Exit status 1 when any failed or none ran.
set -u
build=$1
log=$build/Testing/Temporary/LastTest.log
rm -f "$log"
start=$SECONDS
(cd "$build" && ctest -j "$(nproc)" --output-on-failure) | tee "$build/ctest.txt"
status=${PIPESTATUS[0]}
[ -f "$log" ] || { echo "run_tests: ctest left no $log" >&2; exit 1; }

# ctest's own lines say how each program ended, its log holds what cmocka printed. A cmocka test that began
# and neither ended well nor was skipped has failed (a crash included). A program that failed though none of
# its tests did (a sanitizer's report at exit, a time-out) is one failure more.
awk '
    FNR == NR {
        if ($0 ~ /^ *[0-9]+\/[0-9]+ Test +#[0-9]+: /) {
            sub(/^.* Test +#[0-9]+: /, "")
            result[$1] = /Passed/ ? "passed" : /Skipped/ ? "skipped" : "failed"
            order[++n] = $1
        }
        next
    }
    /^[0-9]+\/[0-9]+ Test: / { name = $3; listing = 0 }
    /\[ RUN      \]/ { run[name]++; listing = 0 }
    /\[==========\] .* run\.?$/ { listing = 1 } # after it cmocka lists its results again
    /\[       OK \]/ && !listing { ok[name]++ }
    /\[  SKIPPED \]/ && !listing { skip[name]++ }
    END {
        for (i = 1; i <= n; i++) {
            t = order[i]
            bad = run[t] - ok[t] - skip[t]
            if (run[t] == 0 && result[t] == "passed") ok[t] = 1
            if (run[t] == 0 && result[t] == "skipped") skip[t] = 1
            if (bad == 0 && result[t] == "failed") bad = 1
            passed += ok[t]; failed += bad; skipped += skip[t]
        }
        printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped
        exit failed > 0 || passed == 0
    }' "$build/ctest.txt" "$log" >"$build/totals.txt"
counted=$?
echo "tests took $((SECONDS - start)) s"
cat "$build/totals.txt"
[ "$status" -eq 0 ] && [ $counted -eq 0 ]
