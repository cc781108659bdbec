/* SPDX-License-Identifier: Apache-2.0
 *
 * switches: one model for the first steps, another for the rest: which steps decide what.
 * Each section with switches has its own statements, about the switch points that it shows and the
 * prompts in it that name the subject. */
#include <string.h>

#include "claims.h"
#include "roles.h"

enum {
    MOST_POINTS = 128, /* of a section and prompt */
    FEW_POINTS = 4,    /* so many are told one by one; more are a sweep */
};

/* Rows of one direction and prompt, by switch point: those of a section. */
typedef struct curve {
    int subject;
    const switch_row *point[MOST_POINTS];
    int count;
    const switch_row *first_alone, *second_alone; /* wherever they are shown; NULL: nowhere */
} curve;

static const switch_row *row_of(const claims *c, const switch_row *like, int at)
{
    for (int i = 0; i < c->m->switch_count; i++) {
        const switch_row *r = &c->m->switches[i];
        if (r->subject == like->subject && r->first == like->first && r->second == like->second &&
            r->steps == like->steps && r->at == at && !strcmp(r->prompt, like->prompt))
            return r;
    }
    return NULL;
}

static bool in_mix(const study_cell *cell, const switch_row *r)
{
    int first, second, at;
    if (strcmp(cell->prompt, r->prompt) || cell->steps != r->steps) return false;
    if (lk_schedule_switch(cell->mix, &first, &second, &at))
        return first == r->first && second == r->second && at == r->at;
    return (r->at == 0 && cell_model(cell) == r->second) ||
           (r->at == r->steps && cell_model(cell) == r->first);
}

static bool shows(const study_section *s, const switch_row *r)
{
    for (int k = 0; k < s->rows * s->columns; k++)
        if (in_mix(&s->cell[k], r)) return true;
    return false;
}

/* Fills a curve with what a section shows of the direction and prompt of `of`. */
static void curve_fill(const claims *c, const study_section *s, const switch_row *of, curve *out)
{
    *out = (curve){.subject = of->subject};
    for (int at = 0; at <= of->steps && out->count < MOST_POINTS; at++) {
        const switch_row *r = row_of(c, of, at);
        if (r && r->share.n && shows(s, r)) out->point[out->count++] = r;
    }
    out->first_alone = row_of(c, of, of->steps);
    out->second_alone = row_of(c, of, 0);
}

static bool is_inner(const switch_row *r) { return r->at > 0 && r->at < r->steps; }

/* The first inner point from `from` on in direction step; -1: none. */
static int inner(const curve *k, int from, int step)
{
    for (; from >= 0 && from < k->count; from += step)
        if (is_inner(k->point[from])) return from;
    return -1;
}

static void put_after(claims *c, const switch_row *r)
{
    if (r->at == 0 || r->at == r->steps)
        html_print(c->out, "<i>%s</i> alone ", claim_name(c, r->at ? r->first : r->second));
    else
        html_print(c->out, "after %d ", r->at);
}

/* "after 10 61 % (50 to 72), after 35 ..." of one of a row's numbers. */
static void put_points_of(claims *c, const curve *k, bool kept)
{
    int told = 0, shown = 0;
    for (int i = 0; i < k->count; i++) shown += is_inner(k->point[i]);
    for (int i = 0; i < k->count; i++) {
        const switch_row *r = k->point[i];
        if (!is_inner(r)) continue;
        fputs(list_comma(told++, shown), c->out);
        put_after(c, r);
        put_share(c, kept ? &r->kept : &r->share);
    }
}

static void begin(claims *c, const curve *k, int section, bool several)
{
    const switch_row *r = k->point[0];
    char group[400] = "";
    if (several) snprintf(group, sizeof group, "\xe2\x80\x9c%.300s\xe2\x80\x9d", r->prompt);
    claim_begin(c, section, group);
}

/* ---- the trained model first ---------------------------------------------------------------- */

/* Kept: what the switch loses of the trained model's share is less than half of it. */
static bool keeps_subject(const curve *k, const switch_row *r)
{
    return is_above(&r->lost, -k->first_alone->share.mean / 2);
}

/* Whether it is more than half, and up to which point from the first on: an index, -1: not even
 * there. */
static int lost_up_to(const curve *k)
{
    int last = -1;
    for (int i = 0; i < k->count; i++) {
        const switch_row *r = k->point[i];
        if (!is_inner(r)) continue;
        if (!is_below(&r->lost, -k->first_alone->share.mean / 2)) break;
        last = i;
    }
    return last;
}

/* From which point on the subject stays (`from`: an index, -1: nowhere), and up to which it is
 * lost. */
static void put_from(claims *c, const curve *k, int from)
{
    int lost = lost_up_to(k), end = inner(k, k->count - 1, -1);
    if (from >= 0) {
        html_print(c->out,
                   " More than half of that stays from a switch after %d on; there the loss, "
                   "from equal noise, is ",
                   k->point[from]->at);
        put_points(c, &k->point[from]->lost);
        fputc('.', c->out);
    }
    if (lost == end)
        fputs(" More than half of that is lost, whatever the switch.", c->out);
    else if (lost >= 0)
        html_print(c->out, " More than half of that is lost with a switch after %d or earlier.",
                   k->point[lost]->at);
    else if (from < 0)
        fputs(" At no switch is it certain that more than half of that stays, or is lost.", c->out);
}

static void said_trained_first(claims *c, const curve *k, int section, bool several)
{
    const switch_row *alone = k->first_alone;
    int early = inner(k, 0, 1), from = -1;
    if (early < 0 || !alone) return;
    const switch_row *first = k->point[early];
    for (int i = k->count - 1; i >= 0; i--) {
        if (!is_inner(k->point[i])) continue;
        if (!keeps_subject(k, k->point[i])) break;
        from = i;
    }
    bool few = k->count <= FEW_POINTS, all = from == early;
    begin(c, k, section, several);
    if (few)
        html_print(c->out, "With <i>%s</i> first the subject stays, whatever the switch.",
                   claim_name(c, first->first));
    else
        html_print(c->out,
                   "With <i>%s</i> first the subject is decided in the first half of the steps.",
                   claim_name(c, first->first));
    claim_answer(c);
    if (few) {
        fputs("On the way from class to subject, with the switch ", c->out);
        put_points_of(c, k, false);
        html_print(c->out, "; <i>%s</i> alone ", claim_name(c, alone->first));
    } else {
        html_print(c->out, "With the switch after %d the pictures are ", first->at);
        put_share(c, &first->share);
        html_print(c->out, " of the way from class to subject, with <i>%s</i> alone ",
                   claim_name(c, alone->first));
    }
    put_share(c, &alone->share);
    fputc('.', c->out);
    put_from(c, k, from);
    bool known = has_interval(&first->lost) && is_above(&alone->share, 0);
    bool shown = few ? all : from >= 0 && 2 * k->point[from]->at <= alone->steps;
    claim_end(c, !known ? VERDICT_NOT_MEASURABLE : shown ? VERDICT_SHOWN : VERDICT_NOT_SHOWN);
}

/* ---- the base first ------------------------------------------------------------------------- */

/* Between which two points the share passes half of the way from the second model's to the first's.
 */
static void put_half(claims *c, const curve *k)
{
    double half = (k->first_alone->share.mean + k->second_alone->share.mean) / 2;
    int times = 0, at = 0;
    for (int i = 0; i + 1 < k->count; i++) {
        if ((k->point[i]->share.mean < half) == (k->point[i + 1]->share.mean < half)) continue;
        if (!times++) at = i;
    }
    if (times == 1)
        html_print(c->out, " It passes half-way between switches after %d and %d.",
                   k->point[at]->at, k->point[at + 1]->at);
    else if (times)
        html_print(c->out, " It passes half-way %d times, first between switches after %d and %d.",
                   times, k->point[at]->at, k->point[at + 1]->at);
}

static void said_base_first(claims *c, const curve *k, int section, bool several)
{
    int early = inner(k, 0, 1), late = inner(k, k->count - 1, -1);
    if (early < 0 || early == late || !k->first_alone) return;
    const switch_row *a = k->point[early], *b = k->point[late], *alone = k->first_alone;
    bool few = k->count <= FEW_POINTS;
    bool brings = is_above(&a->share, alone->share.high), stays = is_above(&b->kept, 50);
    begin(c, k, section, several);
    html_print(c->out,
               "With <i>%s</i> first, a switch after %d brings the subject, and one after %d "
               "hardly changes the picture.",
               claim_name(c, a->first), a->at, b->at);
    claim_answer(c);
    fputs("On the way from class to subject, with the switch ", c->out);
    if (few) {
        put_points_of(c, k, false);
    } else {
        put_after(c, a);
        put_share(c, &a->share);
        fputs(" and ", c->out);
        put_after(c, b);
        put_share(c, &b->share);
    }
    html_print(c->out, "; <i>%s</i> alone ", claim_name(c, alone->first));
    put_share(c, &alone->share);
    if (has_interval(&a->share) && has_interval(&alone->share) && !brings)
        html_print(c->out, ", so after %d no measurable difference", a->at);
    fputc('.', c->out);
    if (!few && k->second_alone && are_apart(&alone->share, &k->second_alone->share))
        put_half(c, k);
    html_print(c->out,
               " Of the structure of <i>%s</i>&rsquo;s own picture the switch after %d keeps ",
               claim_name(c, a->first), a->at);
    put_share(c, &a->kept);
    html_print(c->out, ", after %d ", b->at);
    put_share(c, &b->kept);
    fputs(". (Hardly: more than half is kept.)", c->out);
    bool known = has_interval(&a->share) && has_interval(&alone->share) && has_interval(&b->kept);
    claim_end(c, !known            ? VERDICT_NOT_MEASURABLE
                 : brings && stays ? VERDICT_SHOWN
                                   : VERDICT_NOT_SHOWN);
}

/* Of a point the smaller of subject and kept. */
static const estimate *smaller(const switch_row *r)
{
    return r->share.mean < r->kept.mean ? &r->share : &r->kept;
}

static void said_best(claims *c, const curve *k, int section, bool several)
{
    int best = -1, inners = 0, rivals = 0, told = 0;
    for (int i = 0; i < k->count; i++) {
        const switch_row *r = k->point[i];
        if (!is_inner(r) || !r->kept.n) continue;
        inners++;
        if (best < 0 || smaller(r)->mean > smaller(k->point[best])->mean) best = i;
    }
    if (inners < 2) return;
    const switch_row *b = k->point[best];
    for (int i = 0; i < k->count; i++)
        rivals += i != best && is_inner(k->point[i]) &&
                  !are_apart(smaller(k->point[i]), smaller(b));
    begin(c, k, section, several);
    html_print(c->out, "A switch after %d is the best compromise.", b->at);
    claim_answer(c);
    html_print(c->out, "Its smaller half is the largest: the share of the subject is ");
    put_share(c, &b->share);
    html_print(c->out, ", and of the structure of <i>%s</i>&rsquo;s picture it keeps ",
               claim_name(c, b->first));
    put_share(c, &b->kept);
    fputs(". (Best: the largest minimum of the two.)", c->out);
    if (rivals) fputs(" No measurable difference from a switch after ", c->out);
    for (int i = 0; i < k->count; i++) {
        if (i == best || !is_inner(k->point[i]) || are_apart(smaller(k->point[i]), smaller(b)))
            continue;
        html_print(c->out, "%s%d", list_comma(told++, rivals), k->point[i]->at);
    }
    if (rivals) fputc('.', c->out);
    claim_end(c, !has_interval(smaller(b)) ? VERDICT_NOT_MEASURABLE
                 : rivals                  ? VERDICT_NOT_SHOWN
                                           : VERDICT_SHOWN);
}

/* ---- sections ------------------------------------------------------------------------------- */

/* Whether row i is the first of its direction and prompt, names the subject, and a section shows
 * it. */
static bool begins(const claims *c, const study_section *s, int i)
{
    const switch_row *r = &c->m->switches[i];
    const subject_row *of = &c->m->subject[r->subject];
    if (prompt_role_of(r->prompt, of->instance_prompt, of->class_prompt) != ROLE_SUBJECT)
        return false;
    for (int k = 0; k < i; k++) {
        const switch_row *other = &c->m->switches[k];
        if (other->subject == r->subject && other->first == r->first &&
            other->second == r->second && other->steps == r->steps &&
            !strcmp(other->prompt, r->prompt))
            return false;
    }
    for (int k = 0; k < s->rows * s->columns; k++) {
        int first, second, at;
        if (lk_schedule_switch(s->cell[k].mix, &first, &second, &at) && first == r->first &&
            second == r->second && s->cell[k].steps == r->steps &&
            !strcmp(s->cell[k].prompt, r->prompt))
            return true;
    }
    return false;
}

static bool is_trained_on(const claims *c, int who, int subject)
{
    const subject_row *s = &c->m->subject[subject];
    for (int i = 0; i < s->models; i++)
        if (s->model[i] == who) return true;
    return false;
}

static void section_claims(claims *c, int section)
{
    const study_section *s = &c->plan->section[section];
    int curves = 0;
    for (int i = 0; i < c->m->switch_count; i++) curves += begins(c, s, i);
    for (int i = 0; i < c->m->switch_count; i++) {
        const switch_row *r = &c->m->switches[i];
        curve k;
        if (!begins(c, s, i) || !c->m->subject[r->subject].tells_apart) continue;
        curve_fill(c, s, r, &k);
        if (!k.count) continue;
        if (is_trained_on(c, r->first, r->subject) && !is_trained_on(c, r->second, r->subject)) {
            said_trained_first(c, &k, section, curves > 1);
        } else if (is_trained_on(c, r->second, r->subject) &&
                   !is_trained_on(c, r->first, r->subject)) {
            said_base_first(c, &k, section, curves > 1);
            said_best(c, &k, section, curves > 1);
        }
    }
}

void claims_switches(claims *c)
{
    for (int i = 0; i < c->plan->sections; i++)
        if (!c->plan->section[i].hidden) section_claims(c, i);
}
