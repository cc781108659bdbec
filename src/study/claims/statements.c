/* SPDX-License-Identifier: Apache-2.0
 *
 * statements: their making, and what all kinds of them need. */
#include "statements.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "claims.h"

/* ---- one statement -------------------------------------------------------------------------- */

static bool make_room(claims *c)
{
    if (c->count < c->room) return true;
    int room = c->room ? 2 * c->room : 32;
    size_t n = (size_t)room, used = (size_t)c->count;
    statement *list = arena_alloc(c->memory, n * sizeof *list);
    long *at = arena_alloc(c->memory, 3 * n * sizeof *at);
    if (!list || !at) return false;
    if (used) {
        memcpy(list, c->list, used * sizeof *list);
        memcpy(at, c->group_at, used * sizeof *at);
        memcpy(at + n, c->claim_at, used * sizeof *at);
        memcpy(at + 2 * n, c->answer_at, used * sizeof *at);
    }
    c->list = list;
    c->group_at = at;
    c->claim_at = at + n;
    c->answer_at = at + 2 * n;
    c->room = room;
    return true;
}

void claim_begin(claims *c, int section, const char *group)
{
    if (!make_room(c)) {
        c->no_memory = true;
        c->count = 0; /* nothing of it will be used */
        if (!c->room) return;
    }
    c->list[c->count] = (statement){.section = section};
    c->group_at[c->count] = ftell(c->out);
    html_print(c->out, "%s", group);
    fputc('\0', c->out);
    c->claim_at[c->count] = ftell(c->out);
}

void claim_answer(claims *c)
{
    fputc('\0', c->out);
    if (c->room) c->answer_at[c->count] = ftell(c->out);
}

void claim_end(claims *c, verdict v)
{
    fputc('\0', c->out);
    if (c->room) c->list[c->count++].verdict = v;
}

/* ---- intervals ------------------------------------------------------------------------------ */

bool has_interval(const estimate *e) { return e->n > 1 && isfinite(e->low) && isfinite(e->high); }
bool is_above(const estimate *e, double value) { return has_interval(e) && e->low > value; }
bool is_below(const estimate *e, double value) { return has_interval(e) && e->high < value; }

bool are_apart(const estimate *a, const estimate *b)
{
    return has_interval(a) && has_interval(b) && (a->low > b->high || a->high < b->low);
}

/* ---- text ----------------------------------------------------------------------------------- */

void put_quoted(claims *c, const char *prompt)
{
    if (*prompt)
        html_print(c->out, "<q>%s</q>", prompt);
    else
        fputs("the empty prompt", c->out);
}

static void put(claims *c, const estimate *e, const char *unit, bool sign)
{
    if (e->n < 1) {
        fputs("not measured", c->out);
        return;
    }
    html_print(c->out, "%s", number_interval(e->mean, e->low, e->high, unit, sign).text);
    if (e->n == 1) fputs(" (of one seed: no interval)", c->out);
}

void put_share(claims *c, const estimate *e) { put(c, e, "\xc2\xa0%", false); }
void put_points(claims *c, const estimate *e) { put(c, e, " points", true); }

const char *list_comma(int index, int count)
{
    return index == 0 ? "" : index == count - 1 ? " and " : ", ";
}

const likeness_row *likeness_of(const claims *c, int subject, int who, const char *prompt)
{
    for (int i = 0; i < c->m->likenesses; i++) {
        const likeness_row *r = &c->m->likeness[i];
        if (r->subject == subject && r->model == who && !strcmp(r->prompt, prompt)) return r;
    }
    return NULL;
}

/* ---- all of them ---------------------------------------------------------------------------- */

/* Stable: by section, those of none last. */
static void sort_by_section(statement *list, int count)
{
    for (int i = 1; i < count; i++) {
        statement s = list[i];
        int k = i;
        for (; k > 0 && (unsigned)list[k - 1].section > (unsigned)s.section; k--)
            list[k] = list[k - 1];
        list[k] = s;
    }
}

bool statements_make(statements *out, arena *memory, const study_plan *p, const study_measures *m)
{
    claims c = {.plan = p, .m = m, .memory = memory};
    char *text = NULL;
    size_t size = 0;
    *out = (statements){0};
    c.out = open_memstream(&text, &size);
    if (!c.out) return false;
    claims_samplers(&c);
    claims_models(&c);
    claims_switches(&c);
    claims_deep(&c);
    bool ok = !ferror(c.out) && !c.no_memory;
    if (fclose(c.out) != 0) ok = false;
    char *kept = ok ? arena_alloc(memory, size + 1) : NULL;
    if (kept) memcpy(kept, text, size);
    free(text);
    if (!kept) return false;
    for (int i = 0; i < c.count; i++) {
        c.list[i].group = kept + c.group_at[i];
        c.list[i].claim = kept + c.claim_at[i];
        c.list[i].answer = kept + c.answer_at[i];
    }
    sort_by_section(c.list, c.count);
    *out = (statements){c.list, c.count};
    return true;
}
