/* SPDX-License-Identifier: Apache-2.0
 *
 * models: what training changes: whether the subject is learnt, under which other prompts it
 * appears, what stays as it was, and what prior preservation saves. */
#include <string.h>

#include "claims.h"
#include "roles.h"

enum { MOST_ITEMS = 64 }; /* prompts that a sentence lists */

/* A prompt with its number. */
typedef struct item {
    const char *prompt;
    const estimate *e;
} item;

typedef struct items {
    item list[MOST_ITEMS];
    int count;
} items;

static void items_add(items *all, const char *prompt, const estimate *e)
{
    if (all->count < MOST_ITEMS && e->n) all->list[all->count++] = (item){prompt, e};
}

typedef enum side { SIDE_BELOW, SIDE_ABOVE, SIDE_NEITHER, SIDE_UNKNOWN } side;

static side side_of(const estimate *e, double value)
{
    return is_above(e, value)   ? SIDE_ABOVE
           : is_below(e, value) ? SIDE_BELOW
           : has_interval(e)    ? SIDE_NEITHER
                                : SIDE_UNKNOWN;
}

static int count_side(const items *all, double value, side wanted)
{
    int n = 0;
    for (int i = 0; i < all->count; i++) n += side_of(all->list[i].e, value) == wanted;
    return n;
}

typedef void (*putter)(claims *c, const estimate *e);

/* "“a” +3 points (1 to 5) and “b” +4 points (2 to 6)": those of a side. */
static void put_side(claims *c, const items *all, double value, side wanted, putter puts)
{
    int n = count_side(all, value, wanted), k = 0;
    for (int i = 0; i < all->count; i++) {
        if (side_of(all->list[i].e, value) != wanted) continue;
        fputs(list_comma(k++, n), c->out);
        put_quoted(c, all->list[i].prompt);
        fputc(' ', c->out);
        puts(c, all->list[i].e);
    }
}

static void put_all(claims *c, const items *all, putter puts)
{
    for (int i = 0; i < all->count; i++) {
        fputs(list_comma(i, all->count), c->out);
        puts(c, all->list[i].e);
        fputs(" under ", c->out);
        put_quoted(c, all->list[i].prompt);
    }
}

/* " more under “a” ...; less under “b” ...; no measurable difference under “c” ...", as far as
 * there are such. */
static void put_sides(claims *c, const items *all)
{
    static const side order[] = {SIDE_ABOVE, SIDE_BELOW, SIDE_NEITHER, SIDE_UNKNOWN};
    static const char *const words[] = {"more under ", "less under ",
                                        "no measurable difference under ", "without an interval "};
    for (int i = 0, k = 0; i < 4; i++) {
        if (!count_side(all, 0, order[i])) continue;
        html_print(c->out, "%s %s", k++ ? ";" : "", words[i]);
        put_side(c, all, 0, order[i], put_points);
    }
    fputc('.', c->out);
}

/* ---- rows and places ------------------------------------------------------------------------ */

static unsigned bit(prompt_role r) { return 1u << r; }

static bool has_role(const subject_row *s, const char *prompt, unsigned roles)
{
    return bit(prompt_role_of(prompt, s->instance_prompt, s->class_prompt)) & roles;
}

/* Which of three models a section without switches shows alone: the best of those shown; -1: none.
 */
static int section_of(const claims *c, int a, int b, int d)
{
    int best = -1, most = 0;
    for (int i = 0; i < c->plan->sections; i++) {
        const study_section *s = &c->plan->section[i];
        const study_cell *first = s->cell;
        int which[3] = {a, b, d}, seen[3] = {0}, score = 0;
        bool plain = !s->hidden;
        for (int k = 0; k < s->rows * s->columns && plain; k++) {
            int alone = cell_model(&s->cell[k]);
            plain = alone >= 0 && s->cell[k].sampler == first->sampler &&
                    s->cell[k].steps == first->steps;
            for (int n = 0; n < 3; n++) seen[n] |= alone == which[n];
        }
        for (int n = 0; n < 3; n++) score += seen[n];
        if (!plain || score <= most) continue;
        most = score;
        best = i;
    }
    return best;
}

static const change_row *change_of(const claims *c, int subject, int who, const char *prompt)
{
    for (int i = 0; i < c->m->changes; i++) {
        const change_row *r = &c->m->change[i];
        if (r->subject == subject && r->model == who && !strcmp(r->prompt, prompt)) return r;
    }
    return NULL;
}

/* The changes of a model under prompts of some roles: shares, or drifts. Whether there are such
 * prompts. */
static bool gather_changes(const claims *c, int subject, int who, unsigned roles, bool drift,
                           items *out)
{
    bool any = false;
    out->count = 0;
    for (int i = 0; i < c->m->changes; i++) {
        const change_row *r = &c->m->change[i];
        if (r->subject != subject || r->model != who) continue;
        if (!has_role(&c->m->subject[subject], r->prompt, roles)) continue;
        items_add(out, r->prompt, drift ? &r->drift : &r->share);
        any = true;
    }
    return any;
}

static bool keeps_prior(const claims *c, int who)
{
    return c->plan->model[who].train.with_prior_preservation;
}

/* Says why there is no share; false where there may be one. */
static bool no_scale(claims *c, const subject_row *s)
{
    if (s->tells_apart) return false;
    fputs(s->class_images ? "The measure does not tell the subject&rsquo;s own pictures from "
                            "those of the class here."
                          : "There are no pictures of the class to measure by.",
          c->out);
    claim_end(c, VERDICT_NOT_MEASURABLE);
    return true;
}

/* ---- before training ------------------------------------------------------------------------ */

static void said_before(claims *c, int subject)
{
    const subject_row *s = &c->m->subject[subject];
    items distance = {.count = 0};
    const wording_row *row = NULL;
    for (int i = 0; i < c->m->wordings; i++) {
        const wording_row *r = &c->m->wording[i];
        if (r->subject != subject || r->model != s->base) continue;
        if (!has_role(s, r->prompt, bit(ROLE_CLASS))) continue;
        items_add(&distance, r->prompt, &r->distance);
        if (!row) row = r;
    }
    if (!distance.count) return;
    claim_begin(c, section_of(c, s->base, s->model[0], -1), "Before training");
    html_print(c->out, "To <i>%s</i>, ", claim_base(c, s));
    put_quoted(c, s->instance_prompt);
    fputs(" means ", c->out);
    put_quoted(c, row->prompt);
    fputc('.', c->out);
    claim_answer(c);
    fputs("From equal noise its pictures of ", c->out);
    put_quoted(c, s->instance_prompt);
    fputs(" differ from those of the other prompt by ", c->out);
    put_all(c, &distance, put_share);
    fputs(" (100 %: as much as two seeds differ).", c->out);
    if (s->tells_apart) {
        fputs(" Likeness to the subject: ", c->out);
        put_points(c, &row->share);
        fputs(side_of(&row->share, 0) == SIDE_NEITHER ? ", no measurable difference." : ".",
              c->out);
    }
    int below = count_side(&distance, 100, SIDE_BELOW),
        unknown = count_side(&distance, 100, SIDE_UNKNOWN);
    claim_end(c, unknown == distance.count ? VERDICT_NOT_MEASURABLE
                 : below == distance.count ? VERDICT_SHOWN
                                           : VERDICT_NOT_SHOWN);
}

/* ---- one trained model ---------------------------------------------------------------------- */

static void said_learnt(claims *c, int subject, int who, const char *group)
{
    const subject_row *s = &c->m->subject[subject];
    const change_row *r = change_of(c, subject, who, s->instance_prompt);
    const likeness_row *after = likeness_of(c, subject, who, s->instance_prompt);
    const likeness_row *before = likeness_of(c, subject, s->base, s->instance_prompt);
    if (!r || !after) return;
    claim_begin(c, section_of(c, who, s->base, -1), group);
    html_print(c->out, "<i>%s</i> has learnt the subject.", claim_name(c, who));
    claim_answer(c);
    if (no_scale(c, s)) return;
    fputs("Under ", c->out);
    put_quoted(c, s->instance_prompt);
    fputs(" its pictures are ", c->out);
    put_share(c, &after->share);
    fputs(" of the way from the class to the subject", c->out);
    if (before) {
        html_print(c->out, ", those of <i>%s</i> ", claim_base(c, s));
        put_share(c, &before->share);
    }
    fputs("; from equal noise that is a change of ", c->out);
    put_points(c, &r->share);
    fputs(side_of(&r->share, 0) == SIDE_NEITHER ? ": no measurable difference." : ".", c->out);
    claim_end(c, !has_interval(&r->share) ? VERDICT_NOT_MEASURABLE
                 : is_above(&r->share, 0) ? VERDICT_SHOWN
                                          : VERDICT_NOT_SHOWN);
}

/* The class's prompt against the subject's, to a trained model. Half: of what the subject's name
 * has. */
static void said_wording(claims *c, int subject, int who, const char *group)
{
    const subject_row *s = &c->m->subject[subject];
    const likeness_row *own = likeness_of(c, subject, who, s->instance_prompt);
    for (int i = 0; i < c->m->wordings; i++) {
        const wording_row *r = &c->m->wording[i];
        if (r->subject != subject || r->model != who || !own) continue;
        if (!has_role(s, r->prompt, bit(ROLE_CLASS))) continue;
        const likeness_row *other = likeness_of(c, subject, who, r->prompt);
        bool prior = keeps_prior(c, who);
        double half = own->share.mean / 2;
        claim_begin(c, section_of(c, who, s->base, -1), group);
        html_print(c->out, prior ? "<i>%s</i> keeps " : "To <i>%s</i>, ", claim_name(c, who));
        put_quoted(c, r->prompt);
        fputs(prior ? " apart from " : " is nearly ", c->out);
        put_quoted(c, s->instance_prompt);
        fputc('.', c->out);
        claim_answer(c);
        if (no_scale(c, s)) continue;
        if (other) {
            fputs("Under ", c->out);
            put_quoted(c, r->prompt);
            fputs(" its pictures are ", c->out);
            put_share(c, &other->share);
            fputs(" of the way to the subject, under ", c->out);
            put_quoted(c, s->instance_prompt);
            fputc(' ', c->out);
            put_share(c, &own->share);
            fputs("; from equal noise ", c->out);
        } else {
            fputs("From equal noise ", c->out);
        }
        fputs("the subject&rsquo;s name brings ", c->out);
        put_points(c, &r->share);
        fputs(", and the two pictures differ by ", c->out);
        put_share(c, &r->distance);
        fputs(" of what two seeds of the class&rsquo;s do.", c->out);
        if (is_above(&own->share, 0))
            html_print(c->out, " (%s: by %s than half of what the subject&rsquo;s name has.)",
                       prior ? "Apart" : "Nearly", prior ? "more" : "less");
        claim_end(c, !has_interval(&r->share) || !is_above(&own->share, 0) ? VERDICT_NOT_MEASURABLE
                     : (prior ? is_above(&r->share, half) : is_below(&r->share, half))
                         ? VERDICT_SHOWN
                         : VERDICT_NOT_SHOWN);
    }
}

/* Prompts of some roles: does the subject appear under them? */
static void said_leaks(claims *c, int subject, int who, const char *group, bool things)
{
    const subject_row *s = &c->m->subject[subject];
    items all;
    unsigned roles = things ? bit(ROLE_OTHER) : bit(ROLE_CLASS) | bit(ROLE_SCENE);
    if (!gather_changes(c, subject, who, roles, false, &all) || (s->tells_apart && !all.count))
        return;
    claim_begin(c, section_of(c, who, s->base, -1), group);
    if (keeps_prior(c, who))
        html_print(c->out, "In <i>%s</i> some of the subject remains under prompts for %s.",
                   claim_name(c, who),
                   !s->class_prompt ? "something else"
                   : things         ? "other things"
                                    : "the class");
    else
        html_print(c->out, "In <i>%s</i> %s the subject.", claim_name(c, who),
                   !s->class_prompt ? "other prompts take on marks of"
                   : things         ? "other things take on marks of"
                                    : "prompts for the class draw");
    claim_answer(c);
    if (no_scale(c, s)) return;
    html_print(c->out,
               "Likeness to the subject, against <i>%s</i>&rsquo;s pictures from the same noise:",
               claim_base(c, s));
    put_sides(c, &all);
    claim_end(c, count_side(&all, 0, SIDE_UNKNOWN) == all.count ? VERDICT_NOT_MEASURABLE
                 : count_side(&all, 0, SIDE_ABOVE)              ? VERDICT_SHOWN
                                                                : VERDICT_NOT_SHOWN);
}

static void sort_items(items *all)
{
    for (int i = 1; i < all->count; i++) {
        item one = all->list[i];
        int k = i;
        for (; k > 0 && all->list[k - 1].e->mean > one.e->mean; k--)
            all->list[k] = all->list[k - 1];
        all->list[k] = one;
    }
}

static void said_unchanged(claims *c, int subject, int who, const char *group)
{
    const subject_row *s = &c->m->subject[subject];
    items all;
    gather_changes(c, subject, who, bit(ROLE_OTHER), true, &all);
    if (!all.count) return;
    sort_items(&all);
    claim_begin(c, section_of(c, who, s->base, -1), group);
    html_print(c->out, "In <i>%s</i> some other things hardly change.", claim_name(c, who));
    claim_answer(c);
    html_print(c->out, "From equal noise its pictures differ from <i>%s</i>&rsquo;s by ",
               claim_base(c, s));
    put_all(c, &all, put_share);
    html_print(c->out, ", of what two seeds of <i>%s</i> differ. (Hardly: less than half.)",
               claim_base(c, s));
    if (all.count > 1 && are_apart(all.list[0].e, all.list[1].e)) {
        fputs(" Least: ", c->out);
        put_quoted(c, all.list[0].prompt);
        fputc('.', c->out);
    } else if (all.count > 1 && has_interval(all.list[0].e)) {
        fputs(" Which of them changes least cannot be told.", c->out);
    }
    claim_end(c, count_side(&all, 50, SIDE_UNKNOWN) == all.count ? VERDICT_NOT_MEASURABLE
                 : count_side(&all, 50, SIDE_BELOW)              ? VERDICT_SHOWN
                                                                 : VERDICT_NOT_SHOWN);
}

static void gather_diversity(const claims *c, int subject, int who, unsigned roles, items *out)
{
    out->count = 0;
    for (int i = 0; i < c->m->diversities; i++) {
        const diversity_row *r = &c->m->diversity[i];
        if (r->model == who && has_role(&c->m->subject[subject], r->prompt, roles))
            items_add(out, r->prompt, &r->of_base);
    }
}

static void said_diverse(claims *c, int subject, int who, const char *group)
{
    const subject_row *s = &c->m->subject[subject];
    items scenes, plain;
    gather_diversity(c, subject, who, bit(ROLE_SCENE), &scenes);
    gather_diversity(c, subject, who, bit(ROLE_CLASS) | bit(ROLE_SUBJECT), &plain);
    if (!scenes.count) return;
    claim_begin(c, section_of(c, who, s->base, -1), group);
    html_print(c->out, "In <i>%s</i> scenes with the class stay diverse.", claim_name(c, who));
    claim_answer(c);
    html_print(c->out, "From seed to seed its pictures differ by ");
    put_all(c, &scenes, put_share);
    html_print(c->out, " of what <i>%s</i>&rsquo;s do", claim_base(c, s));
    if (plain.count) {
        fputs("; without a scene by ", c->out);
        put_all(c, &plain, put_share);
    }
    fputs(". (Diverse: more than half.)", c->out);
    claim_end(c, count_side(&scenes, 50, SIDE_UNKNOWN) == scenes.count ? VERDICT_NOT_MEASURABLE
                 : count_side(&scenes, 50, SIDE_ABOVE) == scenes.count ? VERDICT_SHOWN
                                                                       : VERDICT_NOT_SHOWN);
}

/* Whether class pictures under one wording keep other wordings, too. */
static void said_carries(claims *c, int subject, int who, const char *group)
{
    const subject_row *s = &c->m->subject[subject];
    const char *by = c->plan->model[who].train.class_prompt;
    const change_row *own = by ? change_of(c, subject, who, by) : NULL;
    items all;
    if (!keeps_prior(c, who) || !by) return;
    gather_changes(c, subject, who, bit(ROLE_CLASS) | bit(ROLE_SCENE), false, &all);
    for (int i = 0; i < all.count; i++)
        if (!strcmp(all.list[i].prompt, by))
            memmove(&all.list[i], &all.list[i + 1], (size_t)(--all.count - i) * sizeof(item));
    if (!all.count) return;
    claim_begin(c, section_of(c, who, s->base, -1), group);
    fputs("Prior preservation by ", c->out);
    put_quoted(c, by);
    fputs(" carries over to other prompts for the class.", c->out);
    claim_answer(c);
    if (no_scale(c, s)) return;
    if (own && own->share.n) {
        fputs("Under the class prompt itself likeness to the subject changes by ", c->out);
        put_points(c, &own->share);
        fputs(". ", c->out);
    }
    int above = count_side(&all, 0, SIDE_ABOVE), close = count_side(&all, 50, SIDE_BELOW);
    if (above) {
        html_print(c->out, "It does not to %d of %d: ", above, all.count);
        put_side(c, &all, 0, SIDE_ABOVE, put_points);
        fputc('.', c->out);
    }
    if (above < all.count) {
        fputs(" No measurable rise under ", c->out);
        for (int i = 0, k = 0; i < all.count; i++) {
            if (is_above(all.list[i].e, 0)) continue;
            fputs(list_comma(k++, all.count - above), c->out);
            put_quoted(c, all.list[i].prompt);
            fputc(' ', c->out);
            put_points(c, all.list[i].e);
        }
        fputc('.', c->out);
    }
    claim_end(c, count_side(&all, 0, SIDE_UNKNOWN) == all.count ? VERDICT_NOT_MEASURABLE
                 : !above && close == all.count                 ? VERDICT_SHOWN
                                                                : VERDICT_NOT_SHOWN);
}

/* ---- two trained models --------------------------------------------------------------------- */

/* flipped: the pair as the measures have it, the other way round. Its estimates are of the arena.
 */
static bool add_contrast(claims *c, items *all, const char *prompt, const estimate *e, bool flipped)
{
    if (!flipped) {
        items_add(all, prompt, e);
        return true;
    }
    estimate *turned = arena_alloc(c->memory, sizeof *turned);
    if (!turned) return false;
    *turned = (estimate){-e->mean, -e->high, -e->low, e->n};
    items_add(all, prompt, turned);
    return true;
}

static bool gather_contrasts(claims *c, int subject, int without, int with, unsigned roles,
                             bool drift, items *out)
{
    out->count = 0;
    for (int i = 0; i < c->m->contrasts; i++) {
        const contrast_row *r = &c->m->contrast[i];
        bool straight = r->model == without && r->other == with,
             turned = r->model == with && r->other == without;
        if (r->subject != subject || !(straight || turned)) continue;
        if (!has_role(&c->m->subject[subject], r->prompt, roles)) continue;
        if (!add_contrast(c, out, r->prompt, drift ? &r->drift : &r->share, turned)) return false;
    }
    return true;
}

static void said_contrast(claims *c, int subject, int without, int with, const char *group,
                          bool drift)
{
    const subject_row *s = &c->m->subject[subject];
    unsigned roles = bit(ROLE_CLASS) | bit(ROLE_SCENE) | bit(ROLE_OTHER);
    items all;
    if (!gather_contrasts(c, subject, without, with, roles, drift, &all)) c->no_memory = true;
    if (!all.count) return;
    bool prior = keeps_prior(c, with) && !keeps_prior(c, without);
    claim_begin(c, section_of(c, with, without, s->base), group);
    if (prior && drift)
        html_print(c->out,
                   "With prior preservation other pictures stay nearer to <i>%s</i>&rsquo;s.",
                   claim_base(c, s));
    else if (prior)
        fputs("With prior preservation less of the subject leaks.", c->out);
    else if (drift)
        html_print(c->out,
                   "<i>%s</i>&rsquo;s other pictures are nearer to <i>%s</i>&rsquo;s than "
                   "<i>%s</i>&rsquo;s.",
                   claim_name(c, with), claim_base(c, s), claim_name(c, without));
    else
        html_print(c->out, "Less of the subject leaks in <i>%s</i> than in <i>%s</i>.",
                   claim_name(c, with), claim_name(c, without));
    claim_answer(c);
    if (!drift && no_scale(c, s)) return;
    if (drift)
        html_print(c->out, "Difference from <i>%s</i>&rsquo;s picture of the same noise",
                   claim_base(c, s));
    else
        fputs("Likeness to the subject from equal noise", c->out);
    html_print(c->out, ", <i>%s</i> against <i>%s</i>:", claim_name(c, with),
               claim_name(c, without));
    put_sides(c, &all);
    if (drift) fputs(" (100 points: as much as two seeds differ.)", c->out);
    int below = count_side(&all, 0, SIDE_BELOW), above = count_side(&all, 0, SIDE_ABOVE);
    claim_end(c, count_side(&all, 0, SIDE_UNKNOWN) == all.count ? VERDICT_NOT_MEASURABLE
                 : below && !above                              ? VERDICT_SHOWN
                                                                : VERDICT_NOT_SHOWN);
}

/* Of two models of one subject, the one without prior preservation first; else in the plan's order.
 */
static void pairs(claims *c, int subject)
{
    const subject_row *s = &c->m->subject[subject];
    for (int a = 0; a < s->models; a++)
        for (int b = a + 1; b < s->models; b++) {
            bool turn = keeps_prior(c, s->model[a]) && !keeps_prior(c, s->model[b]);
            int without = s->model[turn ? b : a], with = s->model[turn ? a : b];
            const char *group = arena_format(c->memory, "%s against %s", claim_name(c, with),
                                             claim_name(c, without));
            if (!group) c->no_memory = true;
            if (!group) return;
            said_contrast(c, subject, without, with, group, false);
            said_contrast(c, subject, without, with, group, true);
        }
}

void claims_models(claims *c)
{
    for (int i = 0; i < c->m->subjects; i++) {
        const subject_row *s = &c->m->subject[i];
        said_before(c, i);
        for (int k = 0; k < s->models; k++) {
            int who = s->model[k];
            const char *group = arena_format(c->memory, "%s: trained with%s prior preservation",
                                             claim_name(c, who), keeps_prior(c, who) ? "" : "out");
            if (!group) c->no_memory = true;
            if (!group) return;
            said_learnt(c, i, who, group);
            said_wording(c, i, who, group);
            said_leaks(c, i, who, group, false);
            said_leaks(c, i, who, group, true);
            said_carries(c, i, who, group);
            said_unchanged(c, i, who, group);
            said_diverse(c, i, who, group);
        }
        pairs(c, i);
    }
}
