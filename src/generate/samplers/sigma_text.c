/* SPDX-License-Identifier: Apache-2.0
 *
 * sigma_text: see sigma_text.h. */
#include "sigma_text.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "base/number.h"

enum { SHOWN = 60, MOST = 1000 };

/* The first word of each is its name; then those of other programs, without spaces, - and _. */
static const struct {
    const char *name, *label;
    const char *words[6];
    sigma_kind kind;
} kinds[] = {
    {"model",
     "Automatic",
     {"model", "automatic", "uniform", "normal", "discrete", "default"},
     SIGMAS_MODEL},
    {"karras", "Karras", {"karras"}, SIGMAS_KARRAS},
    {"exponential", "Exponential", {"exponential"}, SIGMAS_EXPONENTIAL},
    {"beta", "Beta", {"beta"}, SIGMAS_BETA},
    {"trailing", "SGM Uniform", {"trailing", "sgmuniform", "simple"}, SIGMAS_TRAILING},
};
enum { KINDS = sizeof kinds / sizeof *kinds, WORDS = 6 };

/* Whether a word is the text, but for its spaces, - and _ and capitals. */
static bool is_word(const char *word, const char *text)
{
    for (;; text++) {
        if (strchr(" _-", *text) && *text) continue;
        if (tolower((unsigned char)*text) != *word) return false;
        if (!*word++) return true;
    }
}

static int find_kind(const char *text)
{
    for (int k = 0; k < KINDS; k++)
        for (int i = 0; i < WORDS && kinds[k].words[i]; i++)
            if (is_word(kinds[k].words[i], text)) return k;
    return -1;
}

const char *sigmas_name(const char *text)
{
    int k = find_kind(text);
    return k < 0 ? NULL : kinds[k].name;
}

const char *sigmas_label(const char *text)
{
    int k = find_kind(text);
    return k < 0 ? NULL : kinds[k].label;
}

const char *sigmas_ending(const char *text, size_t *length)
{
    size_t n = strlen(text), longest = 0; /* "sgmuniform" also ends with "uniform" */
    const char *found = NULL;
    for (int k = 0; k < KINDS; k++)
        for (int i = 0; i < WORDS && kinds[k].words[i]; i++) {
            size_t m = strlen(kinds[k].words[i]);
            if (m >= n || m <= longest || strcmp(text + n - m, kinds[k].words[i]) != 0) continue;
            longest = m;
            *length = n - m;
            found = kinds[k].name;
        }
    return found;
}

static bool wrong(error *e, const char *text, const char *why)
{
    return error_set(e, ERROR_USAGE,
                     "sigmas are \"%.*s\"; give model, karras, exponential, beta or trailing, or "
                     "falling numbers that end with 0, such as 14.6,7,2,0.5,0 (%s)",
                     SHOWN, text, why);
}

bool sigmas_read(const char *text, sigma_kind *kind, int *steps, error *e)
{
    int k = find_kind(text), count = 0;
    double value, last = 0;
    *steps = 0;
    if (k >= 0) {
        *kind = kinds[k].kind;
        return true;
    }
    *kind = SIGMAS_GIVEN;
    for (const char *p = text, *end;; p = end + 1) {
        while (*p == ' ') p++;
        if (!number_parse(p, &end, &value)) return wrong(e, text, "this is neither");
        if (!(value >= 0 && value < 1e6)) return wrong(e, text, "one is out of range");
        if (count && !((float)value < (float)last)) return wrong(e, text, "one does not fall");
        if (++count > MOST) return wrong(e, text, "these are too many");
        last = value;
        while (*end == ' ') end++;
        if (!*end) break;
        if (*end != ',') return wrong(e, text, "this is neither");
    }
    if (last > 0) return wrong(e, text, "the last is not 0");
    if (count < 2) return wrong(e, text, "one alone is no list");
    *steps = count - 1;
    return true;
}

void sigma_list_read(const char *text, float *out, int count)
{
    double value;
    for (int i = 0; i < count; i++) {
        const char *end = text;
        number_parse(text, &end, &value);
        out[i] = (float)value;
        text = end + strspn(end, " ,");
    }
}
