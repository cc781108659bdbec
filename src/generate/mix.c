/* SPDX-License-Identifier: Apache-2.0
 *
 * mix: reads and writes schedules of models. */
#include "generate/mix.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"

enum { MOST_SHARE = 1000 }; /* of a model in a step: what is larger was mistyped */

typedef struct reader {
    const char *what, *example; /* for messages: "the schedule", "base x15, tuned rest" */
    const char *text, *at;
    const char *const *names;
    int models;
    error *e;
} reader;

static void spaces(reader *r)
{
    while (isspace((unsigned char)*r->at)) r->at++;
}

static bool wrong(const reader *r, const char *what)
{
    char where[80] = ", at its end";
    if (*r->at) snprintf(where, sizeof where, ", at \"%.40s\"", r->at);
    return error_set(r->e, ERROR_USAGE, "%s \"%s\" %s%s; write it as \"%s\"", r->what, r->text,
                     what, where, r->example);
}

bool mix_name_character(char c)
{
    return isalnum((unsigned char)c) || c == '_' || c == '-' || c == '.' || (unsigned char)c >= 128;
}

static bool read_name(reader *r, int *model)
{
    size_t n = 0;
    spaces(r);
    while (mix_name_character(r->at[n])) n++;
    if (!n) return wrong(r, "lacks the name of a model");
    size_t longest = 0; /* "base+0.8*dog" rather than "base" */
    for (int i = 0; i < r->models; i++) {
        size_t length = strlen(r->names[i]);
        if (length < n || length <= longest || strncmp(r->names[i], r->at, length) != 0 ||
            mix_name_character(r->at[length]))
            continue;
        longest = length;
        *model = i;
    }
    if (longest) {
        r->at += longest;
        return true;
    }
    return error_set(r->e, ERROR_USAGE,
                     "%s \"%s\" names %.*s, and no model has that name; give it with "
                     "-m %.*s=PATH",
                     r->what, r->text, (int)n, r->at, (int)n, r->at);
}

/* "0.3*base" or "base". */
static bool read_term(reader *r, mix_step *s)
{
    if (s->terms == MIX_MAX_TERMS) return wrong(r, "has more than 8 models in one step");
    const char *end;
    double share = 0;
    spaces(r);
    number_parse(r->at, &end, &share);
    const char *after = end;
    while (isspace((unsigned char)*after)) after++;
    bool weighted = end > r->at && *after == '*';
    if (weighted && !isfinite((float)share)) return wrong(r, "has a weight that is no number");
    if (weighted && fabs(share) > MOST_SHARE) return wrong(r, "has a weight beyond 1000");
    if (weighted) r->at = after + 1;
    s->share[s->terms] = weighted ? (float)share : 1;
    return read_name(r, &s->model[s->terms++]);
}

static bool read_models(reader *r, mix_step *s)
{
    *s = (mix_step){0};
    if (!read_term(r, s)) return false;
    spaces(r);
    if (*r->at == '|') {
        r->at++;
        s->split = true;
        if (!read_term(r, s)) return false;
        return (s->share[0] == 1 && s->share[1] == 1) || wrong(r, "weights the halves of a split");
    }
    while (*r->at == '+') {
        r->at++;
        if (!read_term(r, s)) return false;
        spaces(r);
    }
    return true;
}

/* "x15", "rest" or nothing; -1: what is left. */
static bool read_count(reader *r, int *count)
{
    spaces(r);
    *count = -1;
    if (strncmp(r->at, "rest", 4) == 0 && !mix_name_character(r->at[4])) {
        r->at += 4;
        return true;
    }
    if (*r->at != 'x') return true;
    char *end;
    long n = strtol(r->at + 1, &end, 10);
    if (end == r->at + 1 || n < 0 || n > MIX_MAX_STEPS || !isdigit((unsigned char)r->at[1]))
        return wrong(r, "has a count that is no number of steps");
    r->at = end;
    *count = (int)n;
    return true;
}

static bool append(mix *m, const mix_step *s, int count, int steps, const reader *r)
{
    if (count < 0) count = steps - m->count;
    if (count > steps - m->count)
        return error_set(r->e, ERROR_USAGE,
                         "the schedule \"%s\" has more steps than the run, which has "
                         "%d; make them add up, or end with rest",
                         r->text, steps);
    for (int i = 0; i < count; i++) m->step[m->count++] = *s;
    return true;
}

bool mix_parse(mix *out, const char *text, const char *const *names, int models, int steps,
               error *e)
{
    reader r = {"the schedule", "base x15, tuned rest", text, text, names, models, e};
    *out = (mix){0};
    if (steps < 1 || steps > MIX_MAX_STEPS)
        return error_set(e, ERROR_USAGE, "steps is %d; give 1 to %d", steps, MIX_MAX_STEPS);
    out->step = malloc((size_t)steps * sizeof *out->step);
    bool ok = out->step || error_memory(e, "a schedule", (size_t)steps * sizeof *out->step);
    for (bool more = true; ok && more;) {
        mix_step s;
        int count = -1;
        ok = read_models(&r, &s) && read_count(&r, &count) && append(out, &s, count, steps, &r);
        spaces(&r);
        more = ok && *r.at == ',';
        if (ok && !more && *r.at) ok = wrong(&r, "has something it should not");
        if (more && count < 0) ok = wrong(&r, "goes on after what takes all that is left");
        if (more) r.at++;
    }
    if (ok && out->count < steps)
        ok = error_set(e, ERROR_USAGE,
                       "the schedule \"%s\" has %d steps and the run has %d; make them "
                       "add up, or end with rest",
                       text, out->count, steps);
    if (!ok) mix_close(out);
    return ok;
}

bool mix_parse_sum(mix_step *out, const char *text, const char *const *names, int models, error *e)
{
    reader r = {"the blend", "0.5*base+0.5*tuned", text, text, names, models, e};
    if (!read_models(&r, out)) return false;
    spaces(&r);
    if (out->split) return wrong(&r, "has a |, which is for schedules");
    return !*r.at || wrong(&r, "has something it should not");
}

void mix_close(mix *m)
{
    free(m->step);
    *m = (mix){0};
}

bool mix_step_equal(const mix_step *a, const mix_step *b)
{
    if (a->terms != b->terms || a->split != b->split) return false;
    for (int i = 0; i < a->terms; i++)
        if (a->model[i] != b->model[i] || a->share[i] != b->share[i]) return false;
    return true;
}

int mix_common(const mix *a, const mix *b)
{
    int n = 0;
    while (n < a->count && n < b->count && mix_step_equal(&a->step[n], &b->step[n])) n++;
    return n;
}

int mix_last_model(const mix *m)
{
    const mix_step *s = &m->step[m->count - 1];
    return s->model[s->terms - 1];
}

static bool is_single(const mix_step *s) { return s->terms == 1 && s->share[0] == 1; }

bool mix_is_switch(const mix *m, int *first, int *second, int *at)
{
    *at = 0;
    for (int i = 0; i < m->count; i++) {
        if (!is_single(&m->step[i])) return false;
        if (i == 0 || m->step[i].model[0] == m->step[i - 1].model[0]) continue;
        if (*at) return false;
        *at = i;
    }
    if (!*at) return false;
    *first = m->step[0].model[0];
    *second = m->step[*at].model[0];
    return true;
}

static void write_step(FILE *out, const mix_step *s, const char *const *names)
{
    for (int i = 0; i < s->terms; i++) {
        if (i) fputc(s->split ? '|' : '+', out);
        if (s->share[i] != 1) fprintf(out, "%s*", number_exact_float(s->share[i]).text);
        fputs(names[s->model[i]], out);
    }
}

char *mix_text(const mix *m, const char *const *names)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (!out) return NULL;
    for (int i = 0, next; i < m->count; i = next) {
        for (next = i + 1; next < m->count && mix_step_equal(&m->step[i], &m->step[next]);) next++;
        if (i) fputs(", ", out);
        write_step(out, &m->step[i], names);
        fprintf(out, " x%d", next - i);
    }
    bool bad = ferror(out);
    if (fclose(out) != 0 || bad) {
        free(text);
        return NULL;
    }
    return text;
}
