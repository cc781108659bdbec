#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# check_format.sh [--apply]: C files must be as clang-format 14 (Debian's clang-format-14, PyPI's clang-format==14.0.6)
# writes them by .clang-format, and no line longer than 100 characters; --apply writes them so. Where there is no such
# clang-format the lines alone are looked at, and the exit status is 77 (skipped) if they are well.
set -u
cd "$(dirname "$0")/../.." || exit 1
export LC_ALL=C.UTF-8
mapfile -t files < <(find src include tests tools examples -name '*.[ch]' | sort)

formatter=
for name in clang-format-14 clang-format; do
    case $("$name" --version 2>/dev/null) in *"version 14."*) formatter=$name && break ;; esac
done
if [ "${1:-}" = --apply ]; then
    [ "$formatter" ] || { echo "check_format: there is no clang-format 14; pip install clang-format==14.0.6" >&2; exit 1; }
    "$formatter" -i "${files[@]}" && exec "$formatter" -i "${files[@]}" # what the first lengthened, the second wraps
fi

failed=0
long=$(grep -nE '^.{101,}' "${files[@]}" | cut -d: -f1,2)
[ -z "$long" ] || { echo "check_format: lines of more than 100 characters:" $long; failed=1; }
if [ "$formatter" ]; then
    other=$(printf '%s\n' "${files[@]}" | xargs "$formatter" --dry-run -Werror 2>&1 |
        sed -n 's/^\([^ :]*\):[0-9]*:.*/\1/p' | sort -u)
    [ -z "$other" ] || { echo "check_format: not as .clang-format says (tools/ci/check_format.sh --apply):" $other; failed=1; }
fi
[ $failed = 0 ] || exit 1
[ "$formatter" ] || { echo "check_format: no clang-format 14 here; lines are at most 100 characters"; exit 77; }
echo "check_format: every file as .clang-format says"
