/* SPDX-License-Identifier: Apache-2.0
 *
 * command: see command.h. Paths of models are absolute (plan.h), or below the study's folder. */
#include "command.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "base/platform.h"
#include "study/trained_mark.h"

/* A word of a shell's line: as it is where nothing in it is special, else in single quotes. */
static void write_word(FILE *out, const char *text)
{
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./=,:@%+";
    if (*text && strspn(text, plain) == strlen(text)) {
        fputs(text, out);
        return;
    }
    fputc('\'', out);
    for (; *text; text++)
        if (*text == '\'')
            fputs("'\\''", out);
        else
            fputc(*text, out);
    fputc('\'', out);
}

/* -m NAME=PATH, or -m PATH where it is alone; nothing for the default model alone. A LoRA's is the
 * model that it was trained from. */
static void write_model(FILE *out, const study_plan *p, const char *name, const study_model *m,
                        bool alone)
{
    while (!m->path && m->train.lora_rank) m = &p->model[m->base];
    bool is_default = m->path && strcmp(m->path, "pocket") == 0;
    if (alone && is_default) return;
    fputs(" -m ", out);
    if (!alone) fprintf(out, "%s=", name); /* letters, digits, -, _ and . */
    if (m->path)
        write_word(out, m->path);
    else
        fprintf(out, "models/%s", m->name);
}

/* --lora FILE:0.8, or --lora NAME=FILE:0.8; first what the model that it was trained from has. */
static void write_loras(FILE *out, const study_plan *p, const char *name, const study_model *m,
                        bool alone)
{
    if (!m->path && m->train.lora_rank) {
        write_loras(out, p, name, &p->model[m->base], alone);
        fputs(" --lora ", out);
        if (!alone) fprintf(out, "%s=", name);
        fprintf(out, "models/%s/" TRAINED_LORA, m->name);
    }
    for (int i = 0; i < m->loras; i++) {
        fputs(" --lora ", out);
        if (!alone) fprintf(out, "%s=", name);
        write_word(out, m->lora[i].path);
        fprintf(out, ":%s", number_exact_float(m->lora[i].weight).text);
    }
}

/* The model of the last step decodes, and the flag is of all models. */
static void write_taesd(FILE *out, const study_plan *p, const study_cell *c)
{
    const lk_schedule_step *last = lk_schedule_at(c->mix, cell_steps(c) - 1);
    const char *taesd = p->model[last->model[last->parts - 1]].taesd;
    if (!taesd) return;
    fputs(" --taesd ", out);
    write_word(out, taesd);
}

static void write_models(FILE *out, const study_plan *p, const study_cell *c)
{
    int alone = cell_model(c);
    if (alone >= 0) {
        write_model(out, p, NULL, &p->model[alone], true);
        write_loras(out, p, NULL, &p->model[alone], true);
        return;
    }
    for (int i = 0; i < p->models; i++) {
        if (!cell_uses(c, i)) continue;
        write_model(out, p, p->model[i].name, &p->model[i], false);
        write_loras(out, p, p->model[i].name, &p->model[i], false);
    }
    fputs(" --schedule ", out);
    write_word(out, c->schedule);
}

static void write_sampling(FILE *out, const study_cell *c)
{
    fprintf(out, " -s %llu --sampler %s --steps %d --guidance %s", (unsigned long long)c->seed,
            lk_sampler_name(c->sampler), c->steps, number_exact_float(c->guidance).text);
    if (c->guidance_rescale != 0)
        fprintf(out, " --guidance-rescale %s", number_exact_float(c->guidance_rescale).text);
    if (c->eta != 0) fprintf(out, " --eta %s", number_exact_float(c->eta).text);
    if (c->variance) fprintf(out, " --variance %s", lk_variance_name(c->variance));
    if (c->sigmas) fprintf(out, " --sigmas %s", c->sigmas);
    if (c->spacing) fprintf(out, " --spacing %s", lk_spacing_name(c->spacing));
    if (c->clip_skip) fprintf(out, " --clip-skip %d", c->clip_skip);
    if (c->prompt_syntax)
        fprintf(out, " --prompt-syntax %s", lk_prompt_syntax_name(c->prompt_syntax));
    if (c->rng) fprintf(out, " --rng %s", lk_rng_name(c->rng));
    if (c->init) {
        fputs(" -i ", out);
        write_word(out, c->init->path);
        fprintf(out, " --strength %s", number_exact(c->strength).text);
    }
    if (c->mask) {
        fputs(" --mask ", out);
        write_word(out, c->mask->path);
    }
    if (c->hires > 0) {
        fprintf(out, " --hires %s --hires-strength %s", number_exact(c->hires).text,
                number_exact(c->hires_strength).text);
        if (c->hires_steps) fprintf(out, " --hires-steps %d", c->hires_steps);
        if (c->hires_upscaler) fprintf(out, " --hires-upscaler %s", c->hires_upscaler);
    }
    if (c->tile) fputs(" --tile", out);
    for (int i = 0; c->control && i < c->control->count; i++) {
        const study_control *one = &c->control->item[i];
        fputs(" --control ", out);
        write_word(out, one->net->path);
        fputc(':', out);
        write_word(out, one->picture->path);
        fprintf(out, ":%s", number_exact_float(one->scale).text);
    }
    if (c->deep_cache) fprintf(out, " --deep-cache %d", c->deep_cache);
    if (c->width) fprintf(out, " -W %d", c->width);
    if (c->height) fprintf(out, " -H %d", c->height);
}

static void write_precision(FILE *out, lk_precision precision)
{
    if (precision != LK_F32) fprintf(out, " --precision %s", lk_precision_name(precision));
}

/* What was printed to `out`, or NULL. */
static char *finish(FILE *out, char **text)
{
    bool ok = !ferror(out);
    if (fclose(out) == 0 && ok) return *text;
    free(*text);
    return NULL;
}

char *command_of_cell(const study_plan *p, const study_cell *c, lk_precision precision)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (!out) return NULL;
    fputs("likeness generate", out);
    write_models(out, p, c);
    write_taesd(out, p, c);
    fputs(" -p ", out);
    write_word(out, c->prompt);
    if (*c->negative) {
        fputs(" -n ", out);
        write_word(out, c->negative);
    }
    write_sampling(out, c);
    write_precision(out, precision);
    fprintf(out, " -o %s.png", c->name);
    return finish(out, &text);
}

static void write_folder(FILE *out, const char *flag, const char *folder)
{
    char *path = folder ? path_absolute(folder) : NULL;
    if (!folder) return;
    fprintf(out, " %s ", flag);
    write_word(out, path ? path : folder);
    free(path);
}

char *command_of_study(lk_precision precision, const char *clip, const char *dino)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (!out) return NULL;
    fputs("likeness study plan.json -o .", out);
    write_precision(out, precision);
    write_folder(out, "--clip", clip);
    write_folder(out, "--dino", dino);
    return finish(out, &text);
}
