/* SPDX-License-Identifier: Apache-2.0
 *
 * Any text as a picture's settings, as seeds, a sweep, a schedule of models and a file's name. */
#include "fuzz.h"

#include <string.h>

#include "base/seeds.h"
#include "generate/mix.h"
#include "generate/plan.h"
#include "generate/settings.h"

static void as_settings(const char *text)
{
    error e = {0};
    settings s, again;
    char *written = NULL;
    bool ok = settings_parse(&s, text, &e);
    fuzz_check(ok, &e);
    if (!ok) return;
    ok = settings_write(&written, &s, &e);
    fuzz_check(ok, &e);
    if (ok && settings_parse(&again, written, &e)) settings_close(&again);
    settings_close(&s);
    free(written);
}

static void as_options(const char *text)
{
    static const char *const names[] = {"base", "tuned"};
    error e = {0};
    uint64_t *seeds = NULL;
    size_t count;
    sweep rows;
    mix m;
    const generate_options base = {0};
    fuzz_check(seeds_parse(&seeds, &count, text, false, &e), &e);
    free(seeds);
    e = (error){0};
    bool ok = sweep_parse(&rows, text, &base, &e);
    fuzz_check(ok, &e);
    if (ok) sweep_close(&rows);
    e = (error){0};
    ok = mix_parse(&m, text, names, 2, 50, &e);
    fuzz_check(ok, &e);
    if (!ok) return;
    free(mix_text(&m, names));
    mix_close(&m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    if (!text) abort();
    memcpy(text, data, size);
    text[size] = 0;
    as_settings(text);
    as_options(text);
    free(text);
    return 0;
}
