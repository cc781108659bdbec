#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# test_install.sh BUILD SOURCE CC: what `make install` puts down is all that a program needs: the example and a host
# with functions of its own build against it, shared and static, and make the same picture; the libraries show no
# names but their own.
set -u
build=$1 source=$2 cc=$3
where=$(mktemp -d /tmp/likeness-install-XXXXXX) || exit 1
trap 'rm -rf "$where"' EXIT
prefix=$where/prefix
unset LIKENESS_MODELS
failed=0
fail() {
    echo "test_install: $*"
    failed=1
}

cmake --install "$build" --prefix "$prefix" >"$where/log" 2>&1 || { cat "$where/log"; exit 1; }
export PKG_CONFIG_PATH=$prefix/lib/pkgconfig LD_LIBRARY_PATH=$prefix/lib

for file in bin/likeness include/likeness.h include/likeness_study.h lib/liblikeness-study.so.0 lib/pkgconfig/likeness-study.pc \
    share/doc/likeness/README.md share/doc/likeness/LICENSE share/doc/likeness/docs/DESIGN.md \
    share/likeness/models/pocket/model_index.json share/likeness/examples/report.json; do
    [ -e "$prefix/$file" ] || fail "$file is not installed"
done
# look NAME LEAST: a soname, at least so many functions, and no names but lk_
look() {
    local names
    readelf -d "$prefix/lib/lib$1.so" | grep -q "SONAME.*\[lib$1\.so\.0\]" || fail "lib$1.so has no soname"
    for names in "$(nm -D --defined-only "$prefix/lib/lib$1.so")" "$(nm -g --defined-only "$prefix/lib/lib$1.a")"; do
        [ "$(grep -c ' T lk_' <<<"$names")" -ge "$2" ] || fail "lib$1: the functions are not there"
        grep -E '^[0-9a-f]+ ' <<<"$names" | grep -v ' T lk_' | sed "s/^/test_install: lib$1: not its own: /" | grep . && failed=1
    done
    objcopy --strip-debug "$prefix/lib/lib$1.so" "$where/stripped.so"
    grep -q -a -F "$source" "$where/stripped.so" && fail "lib$1.so holds the path of its source"
}
look likeness 50
look likeness-study 2

# build NAME SOURCE PACKAGE: NAME-shared and NAME-static
build() {
    local flags static
    flags=$(pkg-config --cflags --libs "$3") && static=$(pkg-config --cflags --libs --static "$3") || return 1
    static=$(sed 's/-l\(likeness[a-z-]*\)/-l:lib\1.a/g' <<<"$static")
    # shellcheck disable=SC2086
    "$cc" -std=c11 -Wall -Werror "$source/$2" -o "$where/$1-shared" $flags &&
        "$cc" -std=c11 -Wall -Werror "$source/$2" -o "$where/$1-static" $static
}
build minimal examples/minimal.c likeness || fail "examples/minimal.c does not build"
build host tests/host.c likeness || fail "a host with its own add() and scale() does not build"
cat >"$where/study.c" <<'END'
#include <likeness_study.h>
int main(void)
{
    lk_study_options options;
    lk_error error = {LK_OK, ""};
    lk_study_defaults(&options); /* no folder */
    lk_context *context = NULL;
    return !lk_context_open(&context, NULL, &error) || lk_study(context, &options, &error) || error.code == LK_OK;
}
END
source=/ build study "$where/study.c" likeness-study || fail "a program with the study does not build"
ldd "$where/minimal-static" | grep -q liblikeness && fail "minimal-static is not static"
for way in shared static; do
    # A static program lies where its builder wants: it is told where the models are.
    [ $way = static ] && export LIKENESS_MODELS=$prefix/share/likeness/models
    "$where/minimal-$way" "a photo of a dog" "$where/minimal-$way.png" 2>"$where/log" || fail "minimal-$way: $(tail -1 "$where/log")"
    "$where/host-$way" "$where/host-$way.png" || fail "host-$way"
done
for way in shared static; do
    "$where/study-$way" || fail "study-$way"
done
for name in minimal host; do
    cmp "$where/$name-shared.png" "$where/$name-static.png" || fail "$name: shared and static differ"
done
"$prefix/bin/likeness" generate -p "a photo of a dog" -s 42 --steps 10 -o "$where/program.png" >/dev/null 2>&1
cmp "$where/program.png" "$where/minimal-shared.png" || fail "the program and the example differ"

# The header is C++ too.
if command -v c++ >/dev/null; then
    echo '#include <likeness.h>
int main() { lk_generate_options o; lk_generate_defaults(&o); return 0; }' >"$where/a.cc"
    # shellcheck disable=SC2046
    c++ -Wall -Wextra -Werror "$where/a.cc" -o "$where/a" $(pkg-config --cflags --libs likeness) || fail "likeness.h is no C++"
fi
# The plug-in for GPUs goes with them where it was built, and is found by both.
if [ -e "$build/liblikeness-cuda.so" ]; then
    [ -e "$prefix/lib/liblikeness-cuda.so" ] || fail "the plug-in is not installed"
else
    env -u LIKENESS_CUDA "$prefix/bin/likeness" generate --device cuda -p "a dog" -o "$where/no.png" 2>"$where/log"
    [ $? = 2 ] && grep -q "liblikeness-cuda.so is not there, make cuda builds it" "$where/log" || fail "no plug-in: $(cat "$where/log")"
fi
if [ -e "$build/fakes/libfake_good.so" ]; then
    cp "$build/fakes/libfake_good.so" "$prefix/lib/liblikeness-cuda.so"
    env -u LIKENESS_CUDA "$prefix/bin/likeness" devices | grep -q '^cuda:0   a fake;' || fail "the program does not find the plug-in"
    cat >"$where/devices.c" <<'END'
#include <likeness.h>
#include <string.h>
int main(void)
{
    lk_device d;
    return !lk_device_at(1, &d, NULL) || strcmp(d.text, "a fake") != 0;
}
END
    source=/ build devices "$where/devices.c" likeness || fail "a program with devices does not build"
    env -u LIKENESS_CUDA "$where/devices-shared" || fail "the library does not find the plug-in"
fi
[ $failed = 0 ] && echo "test_install: ok"
exit $failed
