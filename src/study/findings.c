/* SPDX-License-Identifier: Apache-2.0
 *
 * findings: what the numbers show, as sentences. A difference is claimed only where it is more than two
 * standard errors; else the sentence says that there is none that can be measured. */
#include <math.h>
#include <string.h>

#include "study/html.h"
#include "study/page_parts.h"

static const char *name_of(const page *p, int who) { return p->s->plan->model[who].name; }

static void item(page *p, const char *lead) { html_print(p->out, "<li><b>%s</b> ", lead); }
static void item_end(page *p) { fputs("</li>\n", p->out); }

static double joint(double a, double b) { return sqrt(a * a + b * b); }

/* a and b differ by more than their errors allow; both must have one. */
static bool differ(const estimate *a, const estimate *b)
{
    return a->n > 1 && b->n > 1 && is_measurable(a->mean - b->mean, joint(a->error, b->error));
}

static bool shows(const estimate *a) { return a->n > 1 && is_measurable(a->mean, a->error); }

/* “prompt” */
static void quote(page *p, const char *prompt)
{
    if (*prompt)
        html_print(p->out, "<q>%s</q>", prompt);
    else
        fputs("the empty prompt", p->out);
}

/* Between the items of a list. */
static void comma(page *p, int index) { fputs(index ? "; " : "", p->out); }

static bool has_word(const char *text, const char *word, size_t length)
{
    for (const char *at = text; *at;) {
        size_t n = strcspn(at, " ");
        if (n == length && !strncmp(at, word, n)) return true;
        at += n + strspn(at + n, " ");
    }
    return false;
}

/* Whether a prompt calls the subject by its word: one of the instance prompt's that the class prompt lacks. */
static bool names_subject(const study_model *m, const char *prompt)
{
    if (!strcmp(prompt, m->train.instance_prompt)) return true;
    if (!m->train.class_prompt) return false;
    for (const char *at = m->train.instance_prompt; *at;) {
        size_t n = strcspn(at, " ");
        if (n && !has_word(m->train.class_prompt, at, n) && has_word(prompt, at, n)) return true;
        at += n + strspn(at + n, " ");
    }
    return false;
}

/* ---- the measure itself -------------------------------------------------------------------- */

static const calibration_row *calibration_of(const page *p, int who)
{
    const study_measures *m = p->s->measures;
    for (int i = 0; i < m->calibrations; i++)
        if (m->calibration[i].model == who) return &m->calibration[i];
    return NULL;
}

static void calibration(page *p, const calibration_row *c)
{
    item(p, "The measure.");
    html_print(p->out, "By %s, the subject\xe2\x80\x99s own pictures have a likeness of %s", name_of(p, c->model),
               number_estimate(c->subject.mean, c->subject.error).text);
    if (!c->class_pictures.n) {
        fputs("; there are no class pictures to compare with.", p->out);
    } else {
        html_print(p->out, " and class pictures of %s: ",
                   number_estimate(c->class_pictures.mean, c->class_pictures.error).text);
        fputs(differ(&c->subject, &c->class_pictures) ? "it tells them apart."
                                                      : "no measurable difference.", p->out);
    }
    item_end(p);
}

/* ---- learnt and leaked --------------------------------------------------------------------- */

typedef bool (*row_filter)(const study_model *m, const drift_row *r);

static bool is_named(const study_model *m, const drift_row *r) { return names_subject(m, r->prompt); }
static bool is_raised(const study_model *m, const drift_row *r)
{
    return !is_named(m, r) && shows(&r->leakage) && r->leakage.mean > 0;
}
static bool is_lowered(const study_model *m, const drift_row *r)
{
    return !is_named(m, r) && shows(&r->leakage) && r->leakage.mean < 0;
}
static bool is_unmoved(const study_model *m, const drift_row *r)
{
    return !is_named(m, r) && r->leakage.n > 1 && !shows(&r->leakage);
}

/* The prompts of a model that pass, each with its leakage; their number. With out false only counts. */
static int leakages(page *p, int who, row_filter passes, bool write)
{
    const study_measures *m = p->s->measures;
    int count = 0;
    for (int i = 0; i < m->drifts; i++) {
        const drift_row *r = &m->drift[i];
        if (r->model != who || r->leakage.n < 1 || !passes(&p->s->plan->model[who], r)) continue;
        if (write) {
            comma(p, count);
            quote(p, r->prompt);
            html_print(p->out, " %s", number_signed(r->leakage.mean, r->leakage.error).text);
            if (passes == is_named && !shows(&r->leakage)) fputs(" (no measurable difference)", p->out);
        }
        count++;
    }
    return count;
}

static void leaked(page *p, int who)
{
    if (leakages(p, who, is_named, false)) {
        item(p, "Learnt.");
        html_print(p->out, "Against its base, %s\xe2\x80\x99s pictures changed in likeness under the subject\xe2\x80\x99s name: ",
                   name_of(p, who));
        leakages(p, who, is_named, true);
        fputs(".", p->out);
        item_end(p);
    }
    int raised = leakages(p, who, is_raised, false), lowered = leakages(p, who, is_lowered, false),
        unmoved = leakages(p, who, is_unmoved, false);
    if (!(raised + lowered + unmoved)) return;
    item(p, "Leaked.");
    html_print(p->out, "Of %d prompts that do not name the subject, %d took on likeness to it in %s",
               raised + lowered + unmoved, raised, name_of(p, who));
    if (raised) fputs(": ", p->out);
    leakages(p, who, is_raised, true);
    fputs(".", p->out);
    if (lowered) {
        fputs(" Likeness fell under ", p->out);
        leakages(p, who, is_lowered, true);
        fputs(".", p->out);
    }
    if (unmoved) {
        fputs(" No measurable difference: ", p->out);
        leakages(p, who, is_unmoved, true);
        fputs(".", p->out);
    }
    item_end(p);
}

static const likeness_row *likeness_of(const page *p, int who, int subject, const char *prompt)
{
    const study_measures *m = p->s->measures;
    for (int i = 0; i < m->likenesses; i++) {
        const likeness_row *r = &m->likeness[i];
        if (r->model == who && r->subject == subject && !strcmp(r->prompt, prompt)) return r;
    }
    return NULL;
}

/* Prompts where two trained models' pictures differ, measured by one of them (`differing`), or do not. */
static int compared(page *p, int a, int b, bool differing, bool write)
{
    const study_measures *m = p->s->measures;
    int count = 0;
    for (int i = 0; i < m->likenesses; i++) {
        const likeness_row *r = &m->likeness[i];
        if (r->model != a || r->subject != a || names_subject(&p->s->plan->model[a], r->prompt)) continue;
        const likeness_row *other = likeness_of(p, b, a, r->prompt);
        if (!other || r->likeness.n < 2 || other->likeness.n < 2) continue;
        if (differ(&r->likeness, &other->likeness) != differing) continue;
        if (write) {
            comma(p, count);
            quote(p, r->prompt);
            if (differing)
                html_print(p->out, " (%s in %s, %s in %s)",
                           number_estimate(r->likeness.mean, r->likeness.error).text, name_of(p, a),
                           number_estimate(other->likeness.mean, other->likeness.error).text,
                           name_of(p, b));
        }
        count++;
    }
    return count;
}

static void compare_models(page *p, int a, int b)
{
    int apart = compared(p, a, b, true, false), alike = compared(p, a, b, false, false);
    if (!apart && !alike) return;
    bool prior_a = p->s->plan->model[a].train.with_prior_preservation;
    bool prior_b = p->s->plan->model[b].train.with_prior_preservation;
    item(p, prior_a != prior_b ? "Prior preservation." : "Compared.");
    html_print(p->out, "Measured by %s, of %d prompts that do not name the subject, %s\xe2\x80\x99s and %s\xe2\x80\x99s "
               "pictures differ in likeness under %d", name_of(p, a), apart + alike, name_of(p, a),
               name_of(p, b), apart);
    if (apart) fputs(": ", p->out);
    compared(p, a, b, true, true);
    fputs(".", p->out);
    if (alike) {
        fputs(" No measurable difference: ", p->out);
        compared(p, a, b, false, true);
        fputs(".", p->out);
    }
    item_end(p);
}

/* ---- drift --------------------------------------------------------------------------------- */

static void drifted(page *p, int who)
{
    const study_measures *m = p->s->measures;
    const drift_row *least = NULL, *most = NULL;
    int count = 0;
    for (int i = 0; i < m->drifts; i++) {
        const drift_row *r = &m->drift[i];
        if (r->model != who || r->pixels.n < 1) continue;
        count++;
        if (!least || r->pixels.mean < least->pixels.mean) least = r;
        if (!most || r->pixels.mean > most->pixels.mean) most = r;
    }
    if (count < 2) return;
    item(p, "Drift.");
    if (differ(&least->pixels, &most->pixels)) {
        html_print(p->out, "From equal noise, %s departs most from its base under ", name_of(p, who));
        quote(p, most->prompt);
        html_print(p->out, " (%s grey levels) and least under ",
                   number_estimate(most->pixels.mean, most->pixels.error).text);
        quote(p, least->prompt);
        html_print(p->out, " (%s).", number_estimate(least->pixels.mean, least->pixels.error).text);
    } else {
        html_print(p->out, "From equal noise, %s departs from its base by %s to %s grey levels: no measurable "
                   "difference between prompts.", name_of(p, who), number_plain(least->pixels.mean).text,
                   number_plain(most->pixels.mean).text);
    }
    item_end(p);
}

/* ---- when identity appears ----------------------------------------------------------------- */

static bool same_curve(const switch_row *a, const switch_row *b)
{
    return a->first == b->first && a->second == b->second && a->subject == b->subject &&
           a->steps == b->steps && !strcmp(a->prompt, b->prompt);
}

/* The points of the curve that begins at `start`, by switch point: previous < at. */
static const switch_row *next_point(const study_measures *m, const switch_row *start, int previous)
{
    const switch_row *next = NULL;
    for (int i = 0; i < m->switch_count; i++) {
        const switch_row *r = &m->switches[i];
        if (same_curve(r, start) && r->at > previous && r->likeness.n && (!next || r->at < next->at)) next = r;
    }
    return next;
}

/* Between which two points the curve passes half of the way first, and how often it passes it. */
static int find_half(const study_measures *m, const switch_row *start, double half, int *from, int *to)
{
    int crossings = 0;
    const switch_row *a = next_point(m, start, -1), *b;
    for (; a && (b = next_point(m, start, a->at)); a = b) {
        if ((a->likeness.mean < half) == (b->likeness.mean < half)) continue;
        if (!crossings++) {
            *from = a->at;
            *to = b->at;
        }
    }
    return crossings;
}

static void switched(page *p, const switch_row *start)
{
    const study_measures *m = p->s->measures;
    const switch_row *low = next_point(m, start, -1), *high = low;
    if (!low) return;
    for (const switch_row *r = low; r; r = next_point(m, start, r->at)) high = r;
    if (low == high || low->likeness.n < 2 || high->likeness.n < 2) return;
    item(p, "When identity appears.");
    quote(p, start->prompt);
    html_print(p->out, ", %s first, then %s: likeness is %s with the switch at step %d and %s with it at %d of %d",
               name_of(p, start->first), name_of(p, start->second),
               number_estimate(low->likeness.mean, low->likeness.error).text, low->at,
               number_estimate(high->likeness.mean, high->likeness.error).text, high->at, start->steps);
    int from = 0, to = 0;
    int times = find_half(m, start, (low->likeness.mean + high->likeness.mean) / 2, &from, &to);
    if (!differ(&low->likeness, &high->likeness))
        fputs(": no measurable difference.", p->out);
    else if (times == 1)
        html_print(p->out, "; it is half-way between switches at %d and %d.", from, to);
    else
        html_print(p->out, "; it passes half-way %d times, first between switches at %d and %d.", times, from, to);
    item_end(p);
}

static int points_of(const study_measures *m, const switch_row *start)
{
    int n = 0;
    for (const switch_row *r = next_point(m, start, -1); r; r = next_point(m, start, r->at)) n++;
    return n;
}

/* Of each direction the curve with the most points, the first of several: the others are in the charts. */
static void switches(page *p)
{
    const study_measures *m = p->s->measures;
    for (int i = 0; i < m->switch_count; i++) {
        const switch_row *r = &m->switches[i];
        int points = points_of(m, r);
        bool told = true;
        for (int k = 0; k < m->switch_count && told; k++) {
            const switch_row *other = &m->switches[k];
            bool same_way = other->first == r->first && other->second == r->second &&
                            other->subject == r->subject;
            int others = same_way ? points_of(m, other) : 0;
            told = others < points || (others == points && k >= i);
        }
        if (told) switched(p, r);
    }
}

/* ---- structure and diversity --------------------------------------------------------------- */

/* The mean over prompts at a number of steps. */
static estimate structure_at(const study_measures *m, sampler_kind kind, int steps, int *most)
{
    estimate e = {0, 0, 0};
    int rows = 0;
    for (int i = 0; i < m->structures; i++) {
        const structure_row *r = &m->structure[i];
        if (r->sampler != kind || r->steps != steps || !r->correlation.n) continue;
        e.mean += r->correlation.mean;
        e.error += r->correlation.error * r->correlation.error;
        e.n += r->correlation.n;
        *most = r->most;
        rows++;
    }
    if (rows) {
        e.mean /= rows;
        e.error = sqrt(e.error) / rows;
    }
    return e;
}

static void structure(page *p)
{
    const study_measures *m = p->s->measures;
    for (int i = 0, last = -1; i < m->structures; i++) {
        int steps = m->structure[i].steps, most = 0;
        bool seen = steps == last || steps == m->structure[i].most;
        for (int k = 0; k < i; k++) seen |= m->structure[k].steps == steps;
        if (seen) continue;
        last = steps;
        estimate ddim = structure_at(m, SAMPLER_DDIM, steps, &most),
                 ddpm = structure_at(m, SAMPLER_DDPM, steps, &most);
        if (!ddim.n || !ddpm.n) continue;
        item(p, "Structure kept.");
        html_print(p->out, "With %d steps, correlation with the picture of %d steps is %s for DDIM and %s for DDPM: ",
                   steps, most, number_estimate(ddim.mean, ddim.error).text,
                   number_estimate(ddpm.mean, ddpm.error).text);
        if (differ(&ddim, &ddpm))
            html_print(p->out, "%s keeps more.", ddim.mean > ddpm.mean ? "DDIM" : "DDPM");
        else
            fputs("no measurable difference.", p->out);
        item_end(p);
    }
}

static const diversity_row *diversity_of(const study_measures *m, int who, const char *prompt)
{
    for (int i = 0; i < m->diversities; i++)
        if (m->diversity[i].model == who && !strcmp(m->diversity[i].prompt, prompt))
            return &m->diversity[i];
    return NULL;
}

/* Prompts with the sign of the change of diversity against the base (0: none measurable). */
static int diversities(page *p, int who, int sign, bool write)
{
    const study_measures *m = p->s->measures;
    int count = 0;
    for (int i = 0; i < m->diversities; i++) {
        const diversity_row *r = &m->diversity[i];
        if (r->model != who || r->pixels.n < 2) continue;
        const diversity_row *base = diversity_of(m, p->s->plan->model[who].base, r->prompt);
        if (!base || base->pixels.n < 2) continue;
        double change = r->pixels.mean - base->pixels.mean;
        if ((differ(&r->pixels, &base->pixels) ? change > 0 ? 1 : -1 : 0) != sign) continue;
        if (write) {
            comma(p, count);
            quote(p, r->prompt);
            if (sign)
                html_print(p->out, " (%s \xe2\x86\x92 %s)",
                           number_estimate(base->pixels.mean, base->pixels.error).text,
                           number_estimate(r->pixels.mean, r->pixels.error).text);
        }
        count++;
    }
    return count;
}

static void diverse(page *p, int who)
{
    int less = diversities(p, who, -1, false), more = diversities(p, who, 1, false),
        same = diversities(p, who, 0, false);
    if (!(less + more + same)) return;
    item(p, "Diversity.");
    html_print(p->out, "Of %d prompts, %s\xe2\x80\x99s pictures differ from seed to seed measurably less than %s\xe2\x80\x99s "
               "under %d, and more under %d.", less + more + same, name_of(p, who),
               name_of(p, p->s->plan->model[who].base), less, more);
    if (less) {
        fputs(" Less: ", p->out);
        diversities(p, who, -1, true);
        fputs(".", p->out);
    }
    if (more) {
        fputs(" More: ", p->out);
        diversities(p, who, 1, true);
        fputs(".", p->out);
    }
    item_end(p);
}

bool findings_any(const page_source *s)
{
    const study_measures *m = s->measures;
    return m->drifts || m->likenesses || m->switch_count || m->structures || m->diversities || m->calibrations;
}

void findings_write(page *p)
{
    const study_plan *plan = p->s->plan;
    structure(p);
    for (int i = 0; i < plan->models; i++) {
        const calibration_row *c = calibration_of(p, i);
        if (c) calibration(p, c);
    }
    for (int i = 0; i < plan->models; i++)
        if (is_trained(&plan->model[i])) leaked(p, i);
    for (int a = 0; a < plan->models; a++)
        for (int b = a + 1; b < plan->models; b++)
            if (is_trained(&plan->model[a]) && is_trained(&plan->model[b])) compare_models(p, a, b);
    for (int i = 0; i < plan->models; i++)
        if (is_trained(&plan->model[i])) drifted(p, i);
    switches(p);
    for (int i = 0; i < plan->models; i++)
        if (is_trained(&plan->model[i])) diverse(p, i);
}
