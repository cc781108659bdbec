/* SPDX-License-Identifier: Apache-2.0
 *
 * seeds: see seeds.h. */
#include "base/seeds.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/platform.h"

enum { SHOWN = 60 }; /* of a word in a message */

/* One word of a list of seeds, as "seeds "42-": why". */
static bool bad_seed(error *e, const char *word, int length, const char *why)
{
    return error_set(e, ERROR_USAGE, "seeds: \"%.*s\" %s", length < SHOWN ? length : SHOWN, word,
                     why);
}

/* The digits at *p; false where there are none or they pass 2^64 - 1 (*large). */
static bool read_seed(uint64_t *out, const char **p, const char *end, bool *large)
{
    const char *start = *p;
    *out = 0;
    *large = false;
    for (; *p < end && isdigit((unsigned char)**p); (*p)++) {
        unsigned digit = (unsigned)(**p - '0');
        if (*out > (UINT64_MAX - digit) / 10) *large = true;
        *out = *out * 10 + digit;
    }
    return *p > start && !*large;
}

/* "42" or "42-45"; -1 where it may be. */
static bool read_range(uint64_t *first, uint64_t *last, const char *word, const char *end,
                       bool random, error *e)
{
    const char *p = word;
    int length = (int)(end - word);
    bool large;
    if (p == end)
        return error_set(e, ERROR_USAGE,
                         "seeds: a number is missing; write them as 42,43 or 42-45");
    if (random && length == 2 && memcmp(word, "-1", 2) == 0) {
        *first = *last = random_number();
        return true;
    }
    if (*p == '-')
        return bad_seed(e, word, length, "is negative; seeds are 0 to 18446744073709551615");
    bool ok = read_seed(first, &p, end, &large);
    *last = *first;
    if (ok && p < end && *p == '-') {
        if (++p == end) return bad_seed(e, word, length, "has no end; write a range as 42-45");
        ok = read_seed(last, &p, end, &large);
    }
    if (large)
        return bad_seed(e, word, length, "is too large; seeds are 0 to 18446744073709551615");
    if (!ok || p < end)
        return bad_seed(e, word, length, "is no seed; write them as 42,43 or 42-45");
    if (*last < *first) return bad_seed(e, word, length, "ends before it begins");
    return true;
}

bool seeds_parse(uint64_t **seeds, size_t *count, const char *text, bool random, error *e)
{
    uint64_t *list = NULL;
    size_t used = 0;
    *seeds = NULL;
    *count = 0;
    for (const char *p = text, *comma; p; p = comma ? comma + 1 : NULL) {
        comma = strchr(p, ',');
        const char *end = comma ? comma : p + strlen(p);
        uint64_t first = 0, last = 0;
        while (p < end && isspace((unsigned char)*p)) p++;
        while (end > p && isspace((unsigned char)end[-1])) end--;
        if (!read_range(&first, &last, p, end, random, e)) break;
        if (last - first >= SEEDS_MOST - used) {
            error_set(e, ERROR_USAGE, "seeds: more than %d in all", SEEDS_MOST);
            break;
        }
        size_t more = (size_t)(last - first) + 1;
        uint64_t *grown = realloc(list, (used + more) * sizeof *list);
        if (!grown) {
            error_memory(e, "seeds", (used + more) * sizeof *list);
            break;
        }
        list = grown;
        for (size_t i = 0; i < more; i++) list[used++] = first + i;
        if (!comma) {
            *seeds = list;
            *count = used;
            return true;
        }
    }
    free(list);
    return false;
}
