#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# check_layers.sh [ROOT]: fails when an include points up or sideways in the house of docs/DESIGN.md, when
# hardware, a file or its format's library is spoken to outside its room, when a number is printed or read in
# the host's locale, when a source lacks its SPDX line, or when a file is longer than 1,000 lines. Functions past 80 lines are listed, but do not fail.
set -u
cd "${1:-$(dirname "$0")/../..}" || exit 1
export LC_ALL=C
failed=0
fail() {
    echo "check_layers: $*"
    failed=1
}

# room: the rooms it may include, besides itself
declare -A below=(
    [base]=""
    [file]="base"
    [device]="base"
    [graph]="device base"
    [model]="graph device file base"
    [pipeline]="model graph device file base"
    [generate]="pipeline model graph device file base"
    [train]="pipeline model graph device file base"
    [study]="file base"
    [serve]="generate train pipeline model graph device file base"
    [cli]=""
    [api]="serve generate train pipeline model graph device file base"
)
# system header: the rooms that may include it
allowed_system() { # header room
    case $1 in
    dnnl*.h | oneapi/* | cuda* | cudnn* | cublas*) [ "$2" = device ] ;;
    *intrin.h | cpuid.h) [[ $2 =~ ^(base|device)$ ]] ;;
    jansson.h) [[ $2 =~ ^(file|model|train|study)$ ]] ;;
    png.h | jpeglib.h | webp/* | gif_lib.h | tiffio.h | libheif/* | ft2build.h) [ "$2" = file ] ;;
    utf8proc.h) [ "$2" = model ] ;;
    esac
}

while IFS=/ read -r room rest; do
    [ -n "${below[$room]+x}" ] || fail "src/$room/$rest: no such room as '$room' in docs/DESIGN.md"
done < <(cd src && find . -name '*.[ch]' -printf '%P\n' | sort)

while IFS=: read -r file line text; do
    room=${file#src/}
    room=${room%%/*}
    [ -n "${below[$room]+x}" ] && [[ $text =~ [\"\<]([^\"\>]*)[\"\>] ]] || continue
    header=${BASH_REMATCH[1]}
    case $header in # the public ones: api/ makes what the others use
    likeness.h)
        [[ $room =~ ^(api|study|cli)$ ]] || fail "$file:$line: only api/, study/ and cli/ include likeness.h"
        continue
        ;;
    likeness_study.h)
        [[ $room =~ ^(study|cli)$ ]] || fail "$file:$line: only study/ and cli/ include likeness_study.h"
        continue
        ;;
    esac
    if [[ $text == *\<* ]]; then
        allowed_system "$header" "$room" || fail "$file:$line: <$header> does not belong in $room/"
        continue
    fi
    if [ -f "${file%/*}/$header" ]; then
        target=$room # a neighbour, or a folder of the same room
        [[ $header == ../* ]] && target=${header#../} && target=${target%%/*}
    else
        target=${header%%/*}
    fi
    [ "$target" = "$room" ] || [[ " ${below[$room]} " == *" $target "* ]] ||
        fail "$file:$line: $room/ must not include \"$header\""
done < <(grep -rnE '^[[:space:]]*#[[:space:]]*include' src --include='*.[ch]' | sort)

# The public header stands alone.
while IFS= read -r line; do
    fail "include/likeness.h: includes $line"
done < <(grep -hE '^[[:space:]]*#[[:space:]]*include[[:space:]]*"' include/*.h 2>/dev/null)

# Threads are base/threads.h's, errno's text is base/error.h's.
while IFS= read -r line; do
    fail "$line"
done < <(grep -rnE '#[[:space:]]*pragma omp|\bstrerror[[:space:]]*\(|\bpthread_create\b' src --include='*.[ch]' |
    grep -v '^src/base/threads\.c')

# Numbers go through base/number.h: the C library's own follow the host program's locale. html_print formats
# by base/number.h itself; cli/ is a program of ours, which leaves LC_NUMERIC as C has it. The awk joins each
# statement and looks into its strings for a printf conversion of fractions.
while IFS= read -r line; do
    fail "$line"
done < <(
    grep -rnE '\b(strtod|strtof|strtold|strtod_l|atof|wcstod)[[:space:]]*\(' src --include='*.[ch]' |
        grep -v '^src/\(base/number\.c\|cli/\)' | sed 's|$|   (use base/number.h)|'
    grep -rnE '\bsetlocale[[:space:]]*\(.*LC_(ALL|NUMERIC)' src --include='*.[ch]' |
        sed 's|$|   (numbers in cli/ count on the C locale)|'
    find src -name '*.[ch]' ! -path 'src/cli/*' ! -path src/base/number.c -print0 | xargs -0 awk '
        FNR == 1 { statement = ""; texts = ""; comment = 0 }
        {
            rest = $0
            while (rest != "") {
                if (comment) {
                    at = index(rest, "*/")
                    if (!at) break
                    comment = 0; rest = substr(rest, at + 2)
                } else if (match(rest, /^"([^"\\\\]|\\\\.)*"/)) {
                    texts = texts substr(rest, 2, RLENGTH - 2); rest = substr(rest, RLENGTH + 1)
                } else if (match(rest, /^\047([^\047\\\\]|\\\\.)*\047/)) {
                    rest = substr(rest, RLENGTH + 1)
                } else if (substr(rest, 1, 2) == "/*") {
                    comment = 1; rest = substr(rest, 3)
                } else {
                    c = substr(rest, 1, 1); rest = substr(rest, 2)
                    if (c ~ /[;{}]/) {
                        gsub(/%%/, "", texts)
                        if (texts ~ /%[-+ #0]*[0-9*]*(\.[0-9*]*)?[lL]*[aefgAEFG]/ && statement !~ /html_print *\(/)
                            printf "%s:%d: prints a fraction in the locale of the host (use base/number.h)\n", FILENAME, FNR
                        statement = ""; texts = ""
                    } else statement = statement c
                }
            }
        }'
)

# Files are opened in base/ only, where a pipe in a file's place cannot hang; JSON is read and written in
# file/json.c only, where it does not follow the host's locale.
while IFS= read -r line; do
    fail "$line   (use base/platform.h)"
done < <(grep -rnE '\b(fopen|freopen|open|openat|creat)[[:space:]]*\(' src --include='*.[ch]' | grep -v '^src/base/')
while IFS= read -r line; do
    fail "$line   (use file/json.h)"
done < <(grep -rnE '\bjson_(load|dump)[a-z_]*[[:space:]]*\(' src --include='*.[ch]' | grep -v '^src/file/json\.c')

# SPDX line near the top, and length.
while IFS= read -r line; do
    fail "$line"
done < <(find src include tests tools examples Makefile CMakeLists.txt .ci \( -path '*/fixtures/*' -prune \) -o -type f \
    \( -name '*.[ch]' -o -name '*.cu' -o -name '*.py' -o -name '*.sh' -o -name Makefile -o -name CMakeLists.txt \
    -o -path .ci/run \) -print 2>/dev/null | sort | xargs awk '
    function ended() {
        seen[file] = 1
        if (file != "" && !spdx) print file ": no \047SPDX-License-Identifier: Apache-2.0\047 in the first three lines"
        if (lines > 1000) print file ": " lines " lines; a file past 1,000 asks to become two"
    }
    FNR == 1 { ended(); file = FILENAME; spdx = 0 }
    FNR <= 3 && /SPDX-License-Identifier: Apache-2\.0/ { spdx = 1 }
    { lines = FNR }
    END {
        ended()
        for (i = 1; i < ARGC; i++) if (!(ARGV[i] in seen)) print ARGV[i] ": it is empty"
    }')

find src -name '*.c' -print0 | xargs -0 awk '
    /^[{]/ { start = FNR }
    /^[}]/ { if (start && FNR - start > 80) printf "note: %s:%d: a function of %d lines\n", FILENAME, start, FNR - start; start = 0 }'

[ $failed = 0 ] && echo "check_layers: every include points down"
exit $failed
