/* SPDX-License-Identifier: Apache-2.0
 *
 * generate_cells: the pictures that likeness generate is to make, and their files' names. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/generate.h"

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcasecmp(text + n - m, end) == 0;
}

static bool is_image_name(const char *path)
{
    return ends_with(path, ".png") || ends_with(path, ".jpg") || ends_with(path, ".jpeg") ||
           ends_with(path, ".webp");
}

/* A folder says so, is there, or has a name that no picture could have. */
static bool is_folder(const char *path)
{
    struct stat s;
    const char *slash = strrchr(path, '/');
    return stat(path, &s) == 0 ? S_ISDIR(s.st_mode) : !strchr(slash ? slash + 1 : path, '.');
}

/* DIR/<prompt>[-<setting>]-<seed><ending> */
static char *cell_path(const char *folder, const cell *c, const char *setting, const char *ending)
{
    /* Of a name's 255 bytes, seed, number, ending and the writing's own marks need some 70. */
    enum { WORDS = 180, LEAST = 20 };
    size_t taken = setting ? strlen(setting) + 1 : 0;
    char *slug = lk_slug(c->options.prompt, taken + LEAST < WORDS ? WORDS - taken : LEAST);
    if (!slug) return NULL;
    char *path = text_format(
        "%s%s%s%s%s-%llu%s", folder, *folder && !ends_with(folder, "/") ? "/" : "", slug,
        setting ? "-" : "", setting ? setting : "", (unsigned long long)c->options.seed, ending);
    lk_free(slug);
    return path;
}

static bool cell_name(const task *t, cell *c, const char *setting, const char *label)
{
    const char *prompt = c->options.prompt;
    c->what = text_format("%s%s%s%sseed %llu", prompt, *prompt ? ", " : "", label ? label : "",
                          label ? ", " : "", (unsigned long long)c->options.seed);
    static const char *const ending[OUTPUT_FILES] = {".png", ".safetensors"};
    const char *where[OUTPUT_FILES] = {t->output, t->save_latents};
    for (char *p = c->what; p && *p; p++)
        if (strchr("\n\r\t", *p)) *p = ' '; /* it is one line of progress */
    bool ok = c->what != NULL;
    for (int i = 0; ok && i < OUTPUT_FILES; i++) {
        if (!where[i]) continue;
        c->out.is_named[i] = !is_folder(where[i]);
        c->out.base[i] = c->out.is_named[i] ? strdup(where[i])
                                            : cell_path(where[i], c, setting, ending[i]);
        ok = c->out.base[i] != NULL;
    }
    return ok;
}

int generate_cells_make(task *t)
{
    size_t settings = t->sweep ? lk_sweep_count(t->sweep) : 1;
    t->rows = t->prompts.count * settings;
    t->count = t->rows * t->seed_count;
    t->cells = calloc(t->count, sizeof *t->cells);
    t->row_label = calloc(t->rows, sizeof *t->row_label);
    t->seed_label = calloc(t->seed_count, sizeof *t->seed_label);
    if (!t->cells || !t->row_label || !t->seed_label) return no_memory();
    for (size_t s = 0; s < t->seed_count; s++) {
        t->seed_label[s] = text_format("seed %llu", (unsigned long long)t->seeds[s]);
        if (!t->seed_label[s]) return no_memory();
    }
    for (size_t r = 0; r < t->rows; r++) {
        const char *prompt = t->prompts.item[r / settings];
        const char *setting = t->sweep ? lk_sweep_name(t->sweep, r % settings) : NULL;
        const char *label = t->sweep ? lk_sweep_label(t->sweep, r % settings) : NULL;
        if (label)
            t->row_label[r] = text_format("%s%s%s", t->prompts.count > 1 ? prompt : "",
                                          t->prompts.count > 1 ? ", " : "", label);
        else
            t->row_label[r] = strdup(prompt);
        if (!t->row_label[r]) return no_memory();
        for (size_t s = 0; s < t->seed_count; s++) {
            cell *c = &t->cells[r * t->seed_count + s];
            c->options = t->base;
            if (t->sweep) lk_sweep_apply(t->sweep, r % settings, &c->options);
            c->models = t->sets[t->set_of[r / settings]].opened;
            c->options.prompt = prompt;
            c->options.seed = t->seeds[s];
            if (!cell_name(t, c, setting, label)) return no_memory();
        }
    }
    return STATUS_DONE;
}

int generate_cells_latents(task *t)
{
    for (size_t i = 0; t->latents && t->seed_count > 1 && i < t->count; i += t->seed_count) {
        const lk_generate_options *o = &t->cells[i].options;
        lk_settings *said = NULL;
        lk_sampler sampler = LK_SAMPLER_MODEL;
        char *text = cell_settings(t, &t->cells[i]);
        if (!text) return STATUS_FAILED;
        bool ok = lk_settings_open(&said, text, &t->error);
        const char *name = ok ? lk_settings_get(said, "Sampler") : NULL;
        bool equal = name && lk_sampler_parse(&sampler, name) && o->hires == 0 &&
                     !lk_sampler_draws(sampler, o->eta);
        lk_settings_close(&said);
        lk_free(text);
        if (!ok) return fail_error(&t->error);
        if (equal)
            return fail(STATUS_WRONG_USAGE,
                        "--init-latents %s: all %zu seeds would begin with it, and %s draws no "
                        "noise of its own: the pictures would be equal; give one seed, or a "
                        "sampler that draws (--sampler euler_a)",
                        t->init_latents, t->seed_count, lk_sampler_label(sampler));
    }
    return STATUS_DONE;
}

int generate_cells_names(const task *t)
{
    if (!is_folder(t->output) && !is_image_name(t->output))
        return fail(STATUS_WRONG_USAGE,
                    "-o %s: the name of a picture ends in .png, .jpg or .webp, that of a "
                    "folder in /",
                    t->output);
    if (!is_folder(t->output) && t->count > 1)
        return fail(STATUS_WRONG_USAGE,
                    "-o %s is one picture, but %zu will be made; give a folder: -o DIR/", t->output,
                    t->count);
    if (t->save_latents && !is_folder(t->save_latents) && t->count > 1)
        return fail(STATUS_WRONG_USAGE,
                    "--save-latents %s is one file, but %zu pictures will be made; give a "
                    "folder: --save-latents DIR/",
                    t->save_latents, t->count);
    if (t->grid && !is_image_name(t->grid))
        return fail(STATUS_WRONG_USAGE,
                    "--grid %s: the name of a picture ends in .png, .jpg or .webp", t->grid);
    return STATUS_DONE;
}
