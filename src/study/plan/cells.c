/* SPDX-License-Identifier: Apache-2.0
 *
 * cells: the cells of a section out of its layers. */
#include "layers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"

/* What lk_schedule_open said, its advice on flags replaced by the plan's models. */
static bool wrong_schedule(const plan_reader *r, lk_error *why)
{
    char list[512];
    if (why->code == LK_MEMORY) return plan_no_memory(r);
    char *advice = strstr(why->text, "; give it with -m");
    if (!advice) return plan_wrong(r, "%.600s", why->text);
    *advice = '\0';
    return plan_wrong(r, "%.400s; there are %s", why->text, plan_list_models(r, list, sizeof list));
}

/* The mix and its normal text: the model's name where it is alone. */
static bool make_mix(plan_reader *r, study_cell *c)
{
    const study_plan *p = r->plan;
    lk_error why = {0};
    lk_generate_options o = cell_options(c);
    int steps = lk_generate_steps(&o);
    if (!lk_schedule_open(&c->mix, c->schedule, p->model_name, p->models, steps, &why))
        return wrong_schedule(r, &why);
    int alone = cell_model(c);
    if (alone >= 0) {
        c->schedule = p->model_name[alone];
        return true;
    }
    char *text = NULL;
    c->schedule = lk_schedule_text(&text, c->mix, p->model_name, NULL)
                      ? arena_strdup(&r->plan->memory, text)
                      : NULL;
    lk_free(text);
    return c->schedule || plan_no_memory(r);
}

/* A LoRA is a model's in a study: one that a prompt names would be left out. */
static bool check_loras(const plan_reader *r, const study_cell *c)
{
    const char *const text[2] = {c->prompt, c->negative};
    for (int i = 0; i < 2 && c->prompt_syntax == LK_PROMPT_A1111; i++) {
        lk_error why = {0};
        lk_prompt_lora *list;
        size_t count;
        char name[61] = "";
        if (!lk_prompt_loras(&list, &count, text[i], &why)) return plan_no_memory(r);
        if (count) snprintf(name, sizeof name, "%s", list[0].name);
        lk_free(list);
        if (count)
            return plan_wrong(r,
                              "\"%s\" names <lora:%s>; give it to the model (\"lora\" beside its "
                              "\"path\"), and leave it out here",
                              i ? "negative" : "prompt", name);
    }
    return true;
}

/* Whether it was meant for the cell's sampler, which does not look at it. */
static bool is_vain(const layer *all, setting_key k)
{
    const study_cell *c = &all->value;
    if (!(all->meant >> k & 1u)) return false;
    switch (k) {
    case KEY_SIGMAS:
        return c->sigmas && strcmp(c->sigmas, "model") != 0 && !lk_sampler_has_sigmas(c->sampler);
    case KEY_ETA: return c->eta > 0 && !lk_sampler_has_eta(c->sampler);
    default: return c->variance != LK_VARIANCE_MODEL && !lk_sampler_has_variance(c->sampler);
    }
}

/* What its sampler does not look at must not make a picture another one. What was chosen for a
 * sampler that has no such thing would make two rows of one picture: it is refused; what lies under
 * a sampler which a row, a column or a section chose is for its others. */
static bool check_sampler(const plan_reader *r, layer *all)
{
    study_cell *c = &all->value;
    static const char advice[] = "(only those that likeness samplers says so of); give another "
                                 "\"sampler\", or leave";
    const char *name = lk_sampler_name(c->sampler);
    if (is_vain(all, KEY_SIGMAS))
        return plan_wrong(r,
                          "\"sigmas\" is \"%.60s\", but the sampler %s has no sigmas to choose "
                          "%s \"sigmas\" out",
                          c->sigmas, name, advice);
    if (is_vain(all, KEY_ETA))
        return plan_wrong(r, "\"eta\" is %s, but the sampler %s has none %s \"eta\" out",
                          number_exact_float(c->eta).text, name, advice);
    if (is_vain(all, KEY_VARIANCE))
        return plan_wrong(r,
                          "\"variance\" is \"%s\", but the sampler %s has none to choose %s "
                          "\"variance\" out",
                          lk_variance_name(c->variance), name, advice);
    if (!lk_sampler_has_variance(c->sampler)) c->variance = LK_VARIANCE_MODEL;
    if (!lk_sampler_has_eta(c->sampler)) c->eta = 0;
    if (!lk_sampler_has_sigmas(c->sampler)) c->sigmas = NULL;
    return true;
}

static bool make_cell(plan_reader *r, const layer *base, const layer *column, const layer *row,
                      study_cell *out)
{
    layer all = *base;
    for (int k = 0; k < KEYS; k++)
        if (layer_has(column, (setting_key)k) && layer_has(row, (setting_key)k) &&
            !layer_equal(column, row, (setting_key)k))
            return plan_wrong(
                r, "row and column both give \"%s\", and differ; leave it to one of them",
                k == KEY_SCHEDULE ? "model or schedule" : layer_keys[k].name);
    layer_lay(&all, column);
    layer_lay(&all, row);
    all.meant |= column->meant;
    if (!layer_has(&all, KEY_PROMPT))
        return plan_wrong(
            r, "has no \"prompt\"; give it in the row, the column, the section's settings or "
               "the plan's defaults");
    if (!layer_has(&all, KEY_SCHEDULE)) {
        if (r->plan->models > 1)
            return plan_wrong(r, "has no \"model\" and no \"schedule\"; give one");
        all.value.schedule = r->plan->model_name[0];
    }
    study_cell *c = &all.value;
    lk_error why = {0};
    int listed = 0;
    if (!check_sampler(r, &all) || !check_loras(r, c)) return false;
    if (c->sigmas && !lk_sigmas_check(c->sigmas, &listed, &why))
        return plan_wrong(r, "%.600s", why.text);
    if (listed && listed != c->steps)
        return plan_wrong(r, "\"sigmas\" lists %d steps, but \"steps\" is %d", listed, c->steps);
    if (!plan_check_pass(r, &all)) return false;
    r->steps += c->steps + cell_second_steps(c);
    if (r->steps > MAX_ALL_STEPS)
        return plan_wrong(r, "more than %d steps in all; make the study smaller or split it",
                          MAX_ALL_STEPS);
    *out = all.value;
    return make_mix(r, out);
}

bool plan_make_cells(plan_reader *r, const layer *base, const axis *rows, const axis *columns,
                     study_section *s)
{
    int64_t count = (int64_t)rows->count * columns->count;
    r->cells += count;
    if (r->cells > MAX_CELLS)
        return plan_wrong(
            r,
            "its %d x %d pictures are more than the %d that a study may have; make it "
            "smaller or split it",
            rows->count, columns->count, MAX_CELLS);
    s->cell = arena_alloc(&r->plan->memory, (size_t)count * sizeof *s->cell);
    if (!s->cell) return plan_no_memory(r);
    s->rows = rows->count; /* from here on study_plan_close finds the mixes */
    s->columns = columns->count;
    s->row_label = rows->label;
    s->column_label = columns->label;
    s->row_levels = rows->levels;
    s->column_levels = columns->levels;
    s->row_part = rows->part;
    s->column_part = columns->part;
    for (int i = 0; i < (int)count; i++) {
        int row = i / s->columns, column = i % s->columns;
        size_t place = plan_enter(r, ".rows[%d] x columns[%d]", row, column);
        if (!make_cell(r, base, &columns->entry[column], &rows->entry[row], &s->cell[i]))
            return false;
        plan_leave(r, place);
    }
    return true;
}
