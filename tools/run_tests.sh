#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# run_tests.sh BUILD: runs every registered test and ends with "N passed, N failed, N skipped", counting
# each cmocka test by itself and every other program as one test. Exit status 1 when any failed or none ran.
set -u
build=$1
log=$build/Testing/Temporary/LastTest.log
rm -f "$log"
start=$SECONDS
(cd "$build" && ctest --output-on-failure)
status=$?
[ -f "$log" ] || { echo "run_tests: ctest left no $log" >&2; exit 1; }

# A cmocka test that began and neither ended well nor was skipped has failed (a crash included). A program
# that failed though none of its tests did (a sanitizer's report at exit, a time-out) is one failure more.
awk '
    /^[0-9]+\/[0-9]+ Test: / { run = ok = skip = 0 }
    /\[ RUN      \]/ { run++ }
    /\[       OK \]/ { ok++ }
    /\[  SKIPPED \] [A-Za-z_]/ && !/test\(s\)/ { skip++ }
    /^Test (Passed|Failed|Skipped|Timeout)|^Test (time-?out|not run)/ { result = $2 }
    /^".*" end time: / {
        bad = run - ok - skip
        if (bad < 0) bad = 0
        if (run == 0 && result ~ /Passed/) ok = 1
        if (run == 0 && result ~ /Skipped/) skip = 1
        if (bad == 0 && result !~ /Passed|Skipped/) bad = 1
        passed += ok; failed += bad; skipped += skip
    }
    END {
        printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped
        exit failed > 0 || passed == 0
    }' "$log" >"$build/totals.txt"
counted=$?
echo "tests took $((SECONDS - start)) s"
cat "$build/totals.txt"
[ $status -eq 0 ] && [ $counted -eq 0 ]
