/* SPDX-License-Identifier: Apache-2.0
 *
 * generate: likeness generate. All that can be found wrong is found before the first step. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/generate.h"

int no_memory(void) { return fail(STATUS_FAILED, "not enough memory"); }
static int failed(const task *t) { return fail_error(&t->error); }

char *text_format(const char *format, ...)
{
    char *out = NULL;
    __builtin_va_list list;
    __builtin_va_start(list, format);
    if (vasprintf(&out, format, list) < 0) out = NULL;
    __builtin_va_end(list);
    return out;
}
/* ---- where they go ------------------------------------------------------------------------- */

/* Every label on one line, "; " between them; malloc'ed. */
static char *join(char *const *label, size_t count)
{
    char *text = strdup("");
    for (size_t i = 0; text && i < count; i++) {
        char *longer = text_format("%s%s%s", text, i ? "; " : "", label[i]);
        free(text);
        text = longer;
    }
    return text;
}

char *cell_settings(task *t, const cell *c)
{
    char *text = NULL;
    bool ok = t->schedule ? lk_generate_settings_mixed(&text, t->work.session, c->models,
                                                       (const char *const *)t->models.name,
                                                       (int)t->models.count, t->schedule,
                                                       &c->options, &t->error)
                          : lk_generate_settings(&text, t->work.session, c->models[0], &c->options,
                                                 &t->error);
    if (!ok) failed(t);
    return text;
}

/* A grid says what its first picture says, and how the others differ. */
static char *grid_settings(task *t)
{
    char *first = cell_settings(t, &t->cells[0]), *rows = join(t->row_label, t->rows), *half = NULL;
    char *columns = join(t->seed_label, t->seed_count), *text = NULL;
    if (first && (!rows || !columns)) no_memory();
    if (first && rows && columns &&
        (!lk_settings_add(&half, first, "Rows", rows, &t->error) ||
         !lk_settings_add(&text, half, "Columns", columns, &t->error)))
        failed(t);
    lk_free(half);
    lk_free(first);
    free(columns);
    free(rows);
    return text;
}

static char *output_settings(void *user, const output *out)
{
    task *t = user;
    return out == &t->grid_file ? grid_settings(t) : cell_settings(t, (const cell *)out);
}

static bool list_inputs(task *t)
{
    bool ok = !t->init_latents || text_list_add(&t->outputs.inputs, t->init_latents);
    ok = ok && (!t->init_image || text_list_add(&t->outputs.inputs, t->init_image));
    ok = ok && (!t->mask || text_list_add(&t->outputs.inputs, t->mask));
    ok = ok && (!t->vae || text_list_add(&t->outputs.inputs, t->vae));
    ok = ok && (!t->models.taesd || text_list_add(&t->outputs.inputs, t->models.taesd));
    ok = ok && controls_list_inputs(t, &t->outputs.inputs);
    for (size_t i = 0; ok && i < t->models.loras.count; i++)
        ok = text_list_add(&t->outputs.inputs, t->models.lora[i].path);
    for (size_t s = 0; ok && s < t->set_count; s++)
        for (size_t i = 0; ok && i < t->sets[s].count; i++)
            ok = text_list_add(&t->outputs.inputs, t->sets[s].lora[i].path);
    for (size_t i = 0; ok && i < t->models.embeddings.count; i++)
        ok = text_list_add(&t->outputs.inputs, t->models.embedding[i].path);
    for (size_t i = 0; ok && i < t->models.count; i++)
        ok = !t->models.path[i] || text_list_add(&t->outputs.inputs, t->models.path[i]);
    return ok;
}

static int outputs_check(task *t)
{
    int status = STATUS_DONE;
    t->outputs.settings = output_settings;
    t->outputs.user = t;
    if (t->grid) {
        t->grid_file.is_named[0] = true;
        t->grid_file.base[0] = strdup(t->grid);
    }
    if ((t->grid && !t->grid_file.base[0]) || !list_inputs(t)) return no_memory();
    for (size_t i = 0; status == STATUS_DONE && i < t->count; i++)
        status = output_settle(&t->outputs, &t->cells[i].out);
    if (status == STATUS_DONE && t->grid) status = output_settle(&t->outputs, &t->grid_file);
    if (status == STATUS_DONE) outputs_tell(&t->outputs);
    return status;
}

static int folders_check(task *t)
{
    bool ok = true;
    for (size_t i = 0; ok && i < t->count; i++)
        for (int k = 0; ok && k < OUTPUT_FILES; k++) {
            const char *path = t->cells[i].out.path[k];
            ok = !path || lk_can_write(path, i == 0, &t->error); /* all lie beside the first */
        }
    ok = ok && (!t->grid || lk_can_write(t->grid_file.path[0], true, &t->error));
    return ok ? STATUS_DONE : failed(t);
}

/* ---- work ---------------------------------------------------------------------------------- */

/* Marks the models of -m whose turn comes in the schedule of so many steps. */
static bool schedule_mark(task *t, int steps, bool *used)
{
    const model_list *m = &t->models;
    lk_schedule *s = NULL;
    if (!lk_schedule_open(&s, t->schedule, (const char *const *)m->name, (int)m->count, steps,
                          &t->error))
        return false;
    for (int i = 0; i < lk_schedule_steps(s); i++) {
        const lk_schedule_step *step = lk_schedule_at(s, i);
        for (int k = 0; k < step->parts; k++) {
            size_t which = (size_t)step->model[k];
            used[which < m->given_count ? which
                                        : (size_t)m->variant[which - m->given_count].model] = true;
        }
    }
    lk_schedule_close(&s);
    return true;
}

/* Each setting may have its own number of steps. */
static int schedule_check(task *t)
{
    size_t settings = t->sweep ? lk_sweep_count(t->sweep) : 1;
    const model_list *m = &t->models;
    for (size_t i = 0; t->schedule && i < settings; i++) {
        lk_generate_options o = t->base;
        if (t->sweep) lk_sweep_apply(t->sweep, i, &o);
        if (!lk_schedule_check(t->schedule, (const char *const *)m->name, (int)m->count,
                               lk_generate_steps(&o), &t->error))
            return failed(t);
    }
    return STATUS_DONE;
}

/* A model that no step asks for is told. */
static int unused_check(task *t)
{
    const model_list *m = &t->models;
    bool *used = t->schedule ? calloc(m->count, sizeof *used) : NULL, ok = true;
    if (!t->schedule) return STATUS_DONE;
    if (!used) return no_memory();
    for (size_t r = 0; ok && r < t->rows; r++)
        ok = schedule_mark(t, lk_generate_steps(&t->cells[r * t->seed_count].options), used);
    for (size_t i = 0; ok && i < m->given_count; i++)
        if (!used[i])
            fail(STATUS_DONE, "warning: -m %s: the schedule \"%s\" never uses %s", m->given.item[i],
                 t->schedule, m->name[i]);
    free(used);
    return ok ? STATUS_DONE : failed(t);
}

static bool open_images(task *t)
{
    if ((t->init_image && !lk_image_open(&t->init, t->init_image, &t->error)) ||
        (t->mask && !lk_image_open(&t->mask_image, t->mask, &t->error)))
        return false;
    t->base.init_image = t->init;
    t->base.mask = t->mask_image;
    return true;
}

static int open_all(task *t)
{
    lk_model_info info;
    if (!workplace_open(&t->work, &t->context_options, &t->error) || !loras_open(t))
        return failed(t);
    lk_model_describe(t->models.opened[0], &info);
    if (!info.unconditional && !t->prompts.count)
        return fail(STATUS_WRONG_USAGE, "what should be in the picture? Say it with -p \"...\"");
    if (!t->prompts.count && !text_list_add(&t->prompts, "")) return no_memory();
    return STATUS_DONE;
}

/* Says each line of notes that was not said yet. */
static bool tell_notes(text_list *said, char *notes)
{
    for (char *line = notes, *end; line && (end = strchr(line, '\n')); line = end + 1) {
        bool known = false;
        *end = '\0';
        for (size_t i = 0; !known && i < said->count; i++) known = strcmp(said->item[i], line) == 0;
        if (known) continue;
        char *copy = strdup(line);
        if (!copy || !text_list_add(said, copy)) {
            free(copy);
            return false;
        }
        fail(STATUS_DONE, "warning: %s", line);
    }
    return true;
}

/* Rows differ in what can be wrong with them; a row's seeds do not. */
static int rows_check(task *t)
{
    text_list said = {0};
    int status = STATUS_DONE;
    for (size_t r = 0; status == STATUS_DONE && r < t->rows; r++) {
        const cell *c = &t->cells[r * t->seed_count];
        char *notes = NULL;
        bool ok = t->schedule ? lk_generate_check_mixed(t->work.session, c->models,
                                                        (const char *const *)t->models.name,
                                                        (int)t->models.count, t->schedule,
                                                        &c->options, &notes, &t->error)
                              : lk_generate_check(t->work.session, c->models[0], &c->options,
                                                  &notes, &t->error);
        if (!ok)
            status = failed(t);
        else if (!tell_notes(&said, notes))
            status = no_memory();
        lk_free(notes);
    }
    for (size_t i = 0; i < said.count; i++) free((char *)(uintptr_t)said.item[i]);
    free(said.item);
    return status;
}

static bool is_in_prompts(const task *t, const char *word)
{
    bool found = t->negative && strcasestr(t->negative, word);
    for (size_t i = 0; !found && i < t->prompts.count; i++)
        found = strcasestr(t->prompts.item[i], word) != NULL;
    return found;
}

/* An embedding does nothing where no prompt has its word, which only its file may tell. */
static int embeddings_check(task *t)
{
    lk_settings *now = NULL;
    char *text = t->models.embeddings.count ? cell_settings(t, &t->cells[0]) : NULL;
    if (!t->models.embeddings.count) return STATUS_DONE;
    if (!text) return STATUS_FAILED;
    int status = lk_settings_open(&now, text, &t->error) ? STATUS_DONE : failed(t);
    const char *at = now ? lk_settings_get(now, "TI hashes") : NULL;
    for (size_t i = 0, n; at && *at && status == STATUS_DONE; at += n, i++) {
        n = hash_item(at, LORA_DIGITS);
        char *word = strndup(at, n > LORA_DIGITS + 2 ? n - LORA_DIGITS - 2 : n);
        if (!word) status = no_memory();
        if (word && i < t->models.embeddings.count && !is_in_prompts(t, word))
            fail(STATUS_DONE, "warning: --embedding %s: no prompt has its word: %s",
                 t->models.embeddings.item[i], word);
        free(word);
        n += strspn(at + n, ", ");
    }
    lk_settings_close(&now);
    lk_free(text);
    return status;
}

/* Writes what was made, to where no other run has written meanwhile. */
static bool cell_save(task *t, cell *c)
{
    output *out = &c->out;
    if (!output_recheck(&t->outputs, out, lk_image_settings(c->picture))) {
        no_memory();
        return false;
    }
    bool ok = lk_image_save(c->picture, out->path[0], &t->error) &&
              (!out->path[1] || lk_image_save_latents(c->picture, out->path[1], &t->error));
    if (!ok) failed(t);
    return ok;
}

static int on_progress(void *user, const lk_progress *p)
{
    task *t = user;
    if (p->picture < p->pictures) {
        const cell *c = &t->cells[p->picture];
        progress_show(&t->line, p, c->what, lk_generate_steps(&c->options));
    }
    return interrupt_seen();
}

static int on_made(void *user, size_t i, lk_image *picture)
{
    task *t = user;
    cell *c = &t->cells[i];
    progress_clear(&t->line);
    c->picture = picture;
    if (!cell_save(t, c)) return t->status = STATUS_FAILED;
    preview_remove(c);
    puts(c->out.path[0]);
    fflush(stdout);
    t->made++;
    if (!t->grid) lk_image_close(&c->picture);
    return 0;
}

static int run(task *t, lk_job *jobs, const lk_job **job)
{
    lk_many_options o;
    lk_many_defaults(&o);
    o.made = on_made;
    o.progress = on_progress;
    o.user = t;
    for (size_t i = 0; i < t->count; i++) {
        lk_job_defaults(&jobs[i]);
        jobs[i].models = t->cells[i].models;
        jobs[i].names = (const char *const *)t->models.name;
        jobs[i].count = t->schedule ? (int)t->models.count : 1;
        jobs[i].schedule = t->schedule;
        jobs[i].options = &t->cells[i].options;
        job[i] = &jobs[i];
    }
    bool ok = lk_generate_many(t->work.session, job, t->count, &o, &t->error);
    progress_clear(&t->line);
    if (ok || t->status != STATUS_DONE)
        return t->status; /* a picture could not be saved: that was said */
    if (t->error.code != LK_CANCELLED) return failed(t);
    return fail(STATUS_INTERRUPTED, "stopped; %zu of %zu pictures are done", t->made, t->count);
}

static int cells_run(task *t)
{
    lk_job *jobs = calloc(t->count, sizeof *jobs);
    const lk_job **job = calloc(t->count, sizeof *job);
    int status = jobs && job ? run(t, jobs, job) : no_memory();
    free(jobs);
    free(job);
    return status;
}

static int grid_write(task *t)
{
    const lk_image **picture = calloc(t->count, sizeof *picture);
    lk_image *grid = NULL;
    char *about = picture ? grid_settings(t) : NULL;
    for (size_t i = 0; picture && i < t->count; i++) picture[i] = t->cells[i].picture;
    bool ok = about &&
              lk_image_grid(&grid, picture, (int)t->rows, (int)t->seed_count,
                            (const char *const *)t->row_label, (const char *const *)t->seed_label,
                            &t->error) &&
              lk_image_set_settings(grid, about, &t->error);
    if (about && !ok) failed(t);
    if (!picture || (ok && !output_recheck(&t->outputs, &t->grid_file, about))) {
        no_memory();
        ok = false;
    }
    if (ok && !lk_image_save(grid, t->grid_file.path[0], &t->error)) {
        failed(t);
        ok = false;
    }
    lk_image_close(&grid);
    lk_free(about);
    free(picture);
    if (ok) puts(t->grid_file.path[0]);
    return ok ? STATUS_DONE : STATUS_FAILED;
}

static int work(task *t)
{
    progress_start(&t->line);
    interrupt_watch();
    int status = cells_run(t);
    for (size_t i = 0; i < t->count; i++) preview_remove(&t->cells[i]);
    if (status == STATUS_DONE && t->grid) status = grid_write(t);
    if (status == STATUS_DONE && fflush(stdout) != 0)
        status = fail(STATUS_FAILED, "standard output cannot be written");
    return status;
}

/* ---- all of it ----------------------------------------------------------------------------- */

/* Whether a word of the list is -1, which "42-100" has not. */
static bool has_random_seed(const char *list)
{
    for (const char *p = list; (p = strchr(p, '-')); p++)
        if (p == list || strchr(", ", p[-1])) return true;
    return false;
}

/* --batch: every seed, and those after it. */
static bool batch_seeds(task *t)
{
    size_t n = (size_t)t->batch, count = t->seed_count * n;
    if (n == 1) return true;
    uint64_t *all = malloc(count * sizeof *all);
    for (size_t i = 0; all && i < count; i++) all[i] = t->seeds[i / n] + i % n;
    if (!all) return false;
    lk_free(t->seeds);
    t->seeds = all;
    t->seed_count = count;
    return true;
}

static int prepare(task *t)
{
    if (t->init_latents && !lk_latents_open(&t->latents, t->init_latents, &t->error))
        return failed(t);
    t->base.latents = t->latents;
    if (!open_images(t)) return failed(t);
    if (!lk_seeds_parse(&t->seeds, &t->seed_count, t->seed_text, &t->error)) return failed(t);
    if (!batch_seeds(t)) return no_memory();
    for (size_t i = 0; has_random_seed(t->seed_text) && i < t->seed_count; i++)
        fprintf(stderr, "seed %llu\n", (unsigned long long)t->seeds[i]);
    if (t->sweep_text && !lk_sweep_parse(&t->sweep, t->sweep_text, &t->base, &t->error))
        return failed(t);
    int status = models_read(&t->models, t->schedule ? "--schedule" : NULL);
    if (status == STATUS_DONE && t->schedule) {
        status = models_read_schedule(&t->models, t->schedule, &t->schedule_read);
        t->schedule = t->schedule_read;
    }
    if (status == STATUS_DONE) status = schedule_check(t);
    if (status == STATUS_DONE) status = loras_find(t);
    if (status == STATUS_DONE) status = open_all(t);
    if (status == STATUS_DONE) status = controls_open_all(t);
    if (status == STATUS_DONE) status = generate_cells_make(t);
    if (status == STATUS_DONE) status = generate_cells_names(t);
    if (status == STATUS_DONE) status = rows_check(t);
    if (status == STATUS_DONE) status = generate_cells_latents(t);
    if (status == STATUS_DONE) status = unused_check(t);
    if (status == STATUS_DONE) status = embeddings_check(t);
    if (status == STATUS_DONE) status = like_check(t);
    if (status == STATUS_DONE) status = outputs_check(t);
    if (status == STATUS_DONE) status = folders_check(t);
    if (status == STATUS_DONE) status = previews_settle(t);
    return status;
}

static void task_free(task *t)
{
    for (size_t i = 0; t->cells && i < t->count; i++) {
        free(t->cells[i].what);
        free(t->cells[i].preview);
        output_close(&t->cells[i].out);
        lk_image_close(&t->cells[i].picture);
    }
    free(t->cells);
    for (size_t r = 0; t->row_label && r < t->rows; r++) free(t->row_label[r]);
    free(t->row_label);
    for (size_t i = 0; t->seed_label && i < t->seed_count; i++) free(t->seed_label[i]);
    free(t->seed_label);
    output_close(&t->grid_file);
    outputs_close(&t->outputs);
    loras_close(t);
    models_close(&t->models);
    controls_close_all(t);
    workplace_close(&t->work);
    lk_latents_close(&t->latents);
    lk_image_close(&t->init);
    lk_image_close(&t->mask_image);
    lk_settings_close(&t->told);
    lk_sweep_close(&t->sweep);
    lk_free(t->schedule_read);
    lk_free(t->seeds);
    free(t->prompts.item);
    free(t->rest.item);
}

int command_generate(int argc, char **argv)
{
    task t = {.steps = NOT_GIVEN, .seed_text = "42", .precision = "f32", .output = ""};
    lk_generate_defaults(&t.base);
    lk_context_defaults(&t.context_options);
    t.context_options.log = tell_warning;
    t.guidance = t.base.guidance;
    t.strength = t.base.strength;
    t.hires_strength = t.base.hires_strength;
    t.batch = 1;
    int status = like_read(&t, argc, argv);
    if (status == STATUS_DONE) status = generate_flags_read(&t, argc, argv);
    if (status == STATUS_DONE) status = like_settle(&t);
    if (status == STATUS_DONE && t.help) {
        fputs(generate_help, stdout);
    } else {
        if (status == STATUS_DONE) status = generate_flags_check(&t);
        if (status == STATUS_DONE) status = prepare(&t);
        if (status == STATUS_DONE) status = work(&t);
    }
    task_free(&t);
    return status;
}
