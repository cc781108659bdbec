/* SPDX-License-Identifier: Apache-2.0
 *
 * emphasis: see emphasis.h. What parse_prompt_attention makes of a text, in one pass: stretches are
 * put one behind another in one memory, so that equal neighbours join by becoming longer. */
#include "emphasis.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "prompt_words.h"

#define UP 1.1
#define DOWN (1 / 1.1)
enum { WEIGHT_SHOWN = 40 };
static const double break_weight = -1;

typedef struct stretch {
    size_t at, length; /* in memory */
    double weight;
} stretch;

typedef struct reader {
    char *memory;
    size_t length;
    stretch *list;
    size_t count;
    size_t *open[2], depth[2]; /* of ( and of [: the stretch that each begins at */
} reader;

bool emphasis_is_break(const emphasis_run *r)
{
    return r->weight == break_weight && strcmp(r->text, PROMPT_BREAK) == 0;
}

void emphasis_close(emphasis *m)
{
    free(m->run);
    free(m->memory);
    *m = (emphasis){0};
}

static void put(reader *r, const char *text, size_t length, double weight)
{
    memcpy(r->memory + r->length, text, length);
    r->list[r->count++] = (stretch){r->length, length, weight};
    r->length += length;
}

/* The innermost open bracket ends here. */
static void end_bracket(reader *r, int square, double by)
{
    for (size_t i = r->open[square][--r->depth[square]]; i < r->count; i++) r->list[i].weight *= by;
}

/* A text in which BREAK may stand; the spaces around one go with it. */
static void put_text(reader *r, const char *text, size_t length)
{
    const char *end = text + length, *from, *to, *at = text;
    while (prompt_find_word(PROMPT_BREAK, text, end, &at)) {
        from = prompt_trim_end(text, at);
        to = prompt_skip_spaces(at + strlen(PROMPT_BREAK), end);
        put(r, text, (size_t)(from - text), 1);
        put(r, PROMPT_BREAK, strlen(PROMPT_BREAK), break_weight);
        text = at = to;
    }
    put(r, text, (size_t)(end - text), 1);
}

/* ":1.3)" at p: its length, and the number's span; 0: there is none. */
static size_t weight_at(const char *p, const char *end, const char **number, size_t *digits)
{
    const char *q = prompt_skip_spaces(p + 1, end);
    *number = q;
    if (*q == '+' || *q == '-') q++;
    size_t n = strspn(q, ".0123456789");
    *digits = (size_t)(q + n - *number);
    q = prompt_skip_spaces(q + n, end);
    return n && *q == ')' ? (size_t)(q + 1 - p) : 0;
}

static bool end_weighted(reader *r, const char *number, size_t digits, error *e)
{
    char copy[WEIGHT_SHOWN + 1];
    const char *stop = NULL;
    double weight = 0;
    snprintf(copy, sizeof copy, "%.*s", (int)(digits < WEIGHT_SHOWN ? digits : WEIGHT_SHOWN),
             number);
    if (digits > WEIGHT_SHOWN || !number_parse(copy, &stop, &weight) || *stop)
        return error_set(e, ERROR_USAGE,
                         "the prompt's weight \"%s\" is no number; (word:1.3) is right", copy);
    end_bracket(r, 0, weight);
    return true;
}

/* One sign or stretch of text at p; its length. 0: a weight is no number. */
static size_t take(reader *r, const char *p, const char *end, error *e)
{
    const char *number;
    size_t digits, n;
    if (*p == '\\') {
        bool sign = p[1] && strchr("()[]\\", p[1]);
        put(r, p + 1, sign, 1);
        return 1 + sign;
    }
    if (*p == '(' || *p == '[') {
        int square = *p == '[';
        r->open[square][r->depth[square]++] = r->count;
        return 1;
    }
    n = *p == ':' ? weight_at(p, end, &number, &digits) : 0;
    if (n && r->depth[0]) return end_weighted(r, number, digits, e) ? n : 0;
    if ((*p == ')' && r->depth[0]) || (*p == ']' && r->depth[1])) {
        end_bracket(r, *p == ']', *p == ']' ? DOWN : UP);
        return 1;
    }
    if (!n) n = strchr("\\()[]:", *p) ? 1 : strcspn(p, "\\()[]:");
    put_text(r, p, n);
    return n;
}

static bool read_all(reader *r, const char *text, error *e)
{
    const char *end = text + strlen(text);
    for (const char *p = text; p < end;) {
        size_t n = take(r, p, end, e);
        if (!n) return false;
        p += n;
    }
    while (r->depth[0]) end_bracket(r, 0, UP);
    while (r->depth[1]) end_bracket(r, 1, DOWN);
    if (!r->count) put(r, "", 0, 1);
    return true;
}

/* Neighbours of one weight are one. */
static void join(reader *r)
{
    size_t n = 0;
    for (size_t i = 1; i < r->count; i++)
        if (r->list[n].weight == r->list[i].weight)
            r->list[n].length += r->list[i].length;
        else
            r->list[++n] = r->list[i];
    r->count = n + 1;
}

static bool finish(emphasis *out, const reader *r, error *e)
{
    size_t bytes = r->length + r->count;
    *out = (emphasis){.run = malloc(r->count * sizeof *out->run),
                      .count = (int)r->count,
                      .memory = malloc(bytes)};
    if (!out->run || !out->memory) return error_memory(e, "a prompt", bytes);
    char *to = out->memory;
    for (size_t i = 0; i < r->count; i++) {
        const stretch *s = &r->list[i];
        memcpy(to, r->memory + s->at, s->length);
        to[s->length] = '\0';
        out->run[i] = (emphasis_run){to, s->weight};
        to += s->length + 1;
    }
    return true;
}

bool emphasis_read(emphasis *out, const char *text, error *e)
{
    /* a text of BREAKs makes the most stretches: two for six bytes, and one */
    size_t n = strlen(text) + 2;
    reader r = {.memory = malloc(n),
                .list = malloc(n * sizeof *r.list),
                .open = {malloc(n * sizeof(size_t)), malloc(n * sizeof(size_t))}};
    *out = (emphasis){0};
    bool ok = (r.memory && r.list && r.open[0] && r.open[1]) ||
              error_memory(e, "a prompt", n * 3 * sizeof(size_t));
    ok = ok && read_all(&r, text, e);
    if (ok) join(&r);
    ok = ok && finish(out, &r, e);
    if (!ok) emphasis_close(out);
    free(r.memory);
    free(r.list);
    free(r.open[0]);
    free(r.open[1]);
    return ok;
}
