/* SPDX-License-Identifier: Apache-2.0
 *
 * generate_loras: "<lora:name:0.8>" in prompts: the files of --lora-dir, merged into models that
 * are opened once for every set of them. */
#include <ctype.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/generate.h"

enum { FAR = 1000 };

/* ---- files ---- */

static char *lower(const char *text)
{
    char *copy = strdup(text);
    for (char *p = copy; p && *p; p++) *p = (char)tolower((unsigned char)*p);
    return copy;
}

/* Without regard to case; NULL: none is near. */
static const char *nearest_file(const task *t, const char *name)
{
    const char *nearest = NULL, *at;
    int best = FAR;
    char *wanted = lower(name);
    for (size_t i = 0; wanted && i < t->lora_file_count; i++) {
        char *its = lower(t->lora_file[i].name);
        if (its && name_nearest(its, wanted, strlen(wanted), &at, &best))
            nearest = t->lora_file[i].name;
        free(its);
    }
    free(wanted);
    return nearest;
}

static int no_file(const task *t, const char *name)
{
    const char *nearest = nearest_file(t, name);
    return fail(STATUS_FAILED,
                "the prompt's <lora:%s>: there is no %s.safetensors, .pt or .ckpt in %s%s%s%s",
                name, name, t->lora_dir, nearest ? "; did you mean " : "", nearest ? nearest : "",
                nearest ? "?" : "");
}

static const char *name_of(const lk_lora_file *f, bool alias) { return alias ? f->alias : f->name; }

/* AUTOMATIC1111's two names of a file; that of the file itself goes first. */
static int find_file(const task *t, const char *name, const char **path)
{
    *path = NULL;
    if (!t->lora_dir)
        return fail(STATUS_WRONG_USAGE,
                    "the prompt's <lora:%s>: say with --lora-dir DIR where such files lie", name);
    for (int alias = 0; alias < 2 && !*path; alias++)
        for (size_t i = 0; i < t->lora_file_count; i++) {
            const lk_lora_file *f = &t->lora_file[i];
            const char *its = name_of(f, alias);
            if (!its || strcmp(its, name) != 0) continue;
            if (*path)
                return fail(STATUS_WRONG_USAGE,
                            "the prompt's <lora:%s>: %s and %s are both called so; rename one, or "
                            "give one with --lora",
                            name, *path, f->path);
            *path = f->path;
        }
    return *path ? STATUS_DONE : no_file(t, name);
}

/* ---- sets ---- */

static void set_close(lora_set *s)
{
    free(s->lora);
    *s = (lora_set){0};
}

static int set_read(task *t, lora_set *s, const char *prompt)
{
    lk_prompt_lora *list;
    size_t count;
    int status = STATUS_DONE;
    *s = (lora_set){0};
    if (!lk_prompt_loras(&list, &count, prompt, &t->error)) return fail_error(&t->error);
    s->lora = calloc(count + 1, sizeof *s->lora);
    if (!s->lora) status = no_memory();
    for (size_t i = 0; status == STATUS_DONE && i < count; i++) {
        const char *path;
        status = find_file(t, list[i].name, &path);
        if (status == STATUS_DONE) s->lora[s->count++] = (lk_lora){path, list[i].weight};
    }
    lk_free(list);
    return status;
}

static bool same_set(const lora_set *a, const lora_set *b)
{
    bool same = a->count == b->count;
    for (size_t i = 0; same && i < a->count; i++)
        same = a->lora[i].weight == b->lora[i].weight &&
               strcmp(a->lora[i].path, b->lora[i].path) == 0;
    return same;
}

int loras_find(task *t)
{
    bool read = t->base.prompt_syntax == LK_PROMPT_A1111;
    size_t prompts = t->prompts.count ? t->prompts.count : 1;
    if (t->lora_dir && !read)
        return fail(STATUS_WRONG_USAGE,
                    "--lora-dir is for <lora:name:0.8> in prompts, which --prompt-syntax a1111 "
                    "reads");
    if (t->lora_dir && !lk_lora_files(&t->lora_file, &t->lora_file_count, t->lora_dir, &t->error)) {
        fail(STATUS_FAILED, "--lora-dir %s", t->error.text);
        return STATUS_FAILED;
    }
    t->sets = calloc(prompts, sizeof *t->sets);
    t->set_of = calloc(prompts, sizeof *t->set_of);
    if (!t->sets || !t->set_of) return no_memory();
    for (size_t i = 0; i < prompts; i++) {
        lora_set *own = &t->sets[t->set_count];
        int status = set_read(t, own, read && t->prompts.count ? t->prompts.item[i] : "");
        size_t k = 0;
        while (status == STATUS_DONE && k < t->set_count && !same_set(&t->sets[k], own)) k++;
        t->set_of[i] = k;
        if (status == STATUS_DONE && k == t->set_count)
            t->set_count++;
        else
            set_close(own);
        if (status != STATUS_DONE) return status;
    }
    return STATUS_DONE;
}

/* ---- models ---- */

/* The set's LoRAs behind those that are for every model. */
static bool set_open(task *t, lora_set *s, lk_model **opened)
{
    size_t before = t->models.loras.count, all = before + s->count;
    model_list with = t->models;
    s->opened = with.opened = opened;
    with.loras.count = all;
    with.lora = calloc(all + 1, sizeof *with.lora);
    with.lora_model = calloc(all + 1, sizeof *with.lora_model);
    with.lora_name = calloc(all + 1, sizeof *with.lora_name);
    bool ok = with.lora && with.lora_model && with.lora_name;
    if (!ok) t->error = (lk_error){LK_MEMORY, "not enough memory"};
    for (size_t i = 0; ok && i < all; i++) {
        with.lora[i] = i < before ? t->models.lora[i] : s->lora[i - before];
        with.lora_model[i] = i < before ? t->models.lora_model[i] : SIZE_MAX;
        with.lora_name[i] = i < before ? t->models.lora_name[i] : NULL;
    }
    ok = ok && models_open(&with, t->work.context, t->vae, t->tokenizer, &t->error);
    free(with.lora);
    free(with.lora_model);
    free(with.lora_name);
    return ok;
}

bool loras_open(task *t)
{
    for (size_t i = 0; i < t->set_count; i++) {
        lk_model **opened = i ? calloc(t->models.count, sizeof *opened) : t->models.opened;
        if (!opened) {
            t->error = (lk_error){LK_MEMORY, "not enough memory"};
            return false;
        }
        if (!set_open(t, &t->sets[i], opened)) return false;
    }
    return true;
}

void loras_close(task *t)
{
    for (size_t i = 0; i < t->set_count; i++) {
        for (size_t k = 0; i && t->sets[i].opened && k < t->models.count; k++)
            lk_model_close(&t->sets[i].opened[k]);
        if (i) free(t->sets[i].opened);
        set_close(&t->sets[i]);
    }
    free(t->sets);
    free(t->set_of);
    lk_free(t->lora_file);
}
