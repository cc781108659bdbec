/* SPDX-License-Identifier: Apache-2.0
 *
 * models: the models of a command: -m PATH, or -m NAME=PATH several times. */
#include <ctype.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

static bool name_character(char c)
{
    return isalnum((unsigned char)c) || c == '_' || c == '-' || c == '.' || (unsigned char)c >= 128;
}

/* Length of the name in NAME=PATH; 0: a plain path. */
static size_t name_length(const char *word)
{
    size_t n = 0;
    while (name_character(word[n])) n++;
    return word[n] == '=' ? n : 0;
}

/* pocket is the model that comes with the program, unless there is such a path. */
static const char *path_of(const char *text)
{
    return strcmp(text, "pocket") == 0 && access(text, F_OK) != 0 ? NULL : text;
}

static int model_read(model_list *list, size_t i, const char *needs_names)
{
    const char *word = list->given.item[i];
    size_t n = name_length(word);
    if (!needs_names && access(word, F_OK) == 0) n = 0; /* a path with a = in it */
    if (needs_names && !n)
        return fail(STATUS_WRONG_USAGE, "-m %s: with %s every model has a name: -m NAME=PATH", word,
                    needs_names);
    if (n && !word[n + 1])
        return fail(STATUS_WRONG_USAGE, "-m %s: there is no path after the name", word);
    list->path[i] = path_of(n ? word + n + 1 : word);
    if (n && !(list->name[i] = strndup(word, n))) return fail(STATUS_FAILED, "not enough memory");
    return STATUS_DONE;
}

/* [NAME=]FILE[:WEIGHT]; a file that is called so goes first. */
static int lora_read(model_list *list, size_t i)
{
    const char *word = list->loras.item[i], *file = word;
    if (!*word) return fail(STATUS_WRONG_USAGE, "--lora \"\": there is no file; FILE:0.8 is right");
    size_t n = access(word, F_OK) == 0 ? 0 : name_length(word);
    list->lora_model[i] = SIZE_MAX;
    for (size_t k = 0; n && k < list->count; k++)
        if (list->name[k] && strlen(list->name[k]) == n && !strncmp(list->name[k], word, n)) {
            list->lora_model[i] = k;
            file = word + n + 1;
        }
    if (n && file == word) { /* no model's name: its own */
        file = word + n + 1;
        if (!(list->lora_name[i] = strndup(word, n)))
            return fail(STATUS_FAILED, "not enough memory");
    }
    list->lora[i] = (lk_lora){.path = strdup(file), .weight = 1};
    if (!list->lora[i].path) return fail(STATUS_FAILED, "not enough memory");
    const char *colon = strrchr(file, ':');
    if (!colon || access(file, F_OK) == 0) return STATUS_DONE;
    if (list->lora_name[i])
        return fail(STATUS_WRONG_USAGE,
                    "--lora %s: a LoRA that has a name gets its weight from the schedule, "
                    "\"base+0.8*%s\"",
                    word, list->lora_name[i]);
    char *end;
    float weight = strtof(colon + 1, &end);
    if (!colon[1] || *end || !isfinite(weight))
        return fail(STATUS_WRONG_USAGE, "--lora %s: \"%s\" is no number; FILE:0.8 is right", word,
                    colon + 1);
    list->lora[i].weight = weight;
    ((char *)(uintptr_t)list->lora[i].path)[colon - file] = 0;
    return STATUS_DONE;
}

/* [TOKEN=]FILE, for every model */
static int embeddings_read(model_list *list)
{
    size_t n = list->embeddings.count;
    list->embedding = calloc(n + 1, sizeof *list->embedding);
    if (!list->embedding) return fail(STATUS_FAILED, "not enough memory");
    for (size_t i = 0; i < n; i++) {
        const char *word = list->embeddings.item[i];
        const char *equals = access(word, F_OK) == 0 ? NULL : strchr(word, '=');
        if (!*word || equals == word || (equals && !equals[1]))
            return fail(STATUS_WRONG_USAGE, "--embedding \"%s\": FILE or WORD=FILE is right", word);
        list->embedding[i].path = equals ? equals + 1 : word;
        if (!equals) continue;
        list->embedding[i].token = strndup(word, (size_t)(equals - word));
        if (!list->embedding[i].token) return fail(STATUS_FAILED, "not enough memory");
    }
    return STATUS_DONE;
}

static int loras_read(model_list *list)
{
    size_t n = list->loras.count;
    list->lora = calloc(n + 1, sizeof *list->lora);
    list->lora_model = calloc(n + 1, sizeof *list->lora_model);
    list->lora_name = calloc(n + 1, sizeof *list->lora_name);
    if (!list->lora || !list->lora_model || !list->lora_name)
        return fail(STATUS_FAILED, "not enough memory");
    int status = STATUS_DONE;
    for (size_t i = 0; status == STATUS_DONE && i < n; i++) status = lora_read(list, i);
    return status;
}

int models_read(model_list *list, const char *needs_names)
{
    size_t given = list->given.count;
    if (needs_names && !given)
        return fail(STATUS_WRONG_USAGE, "%s needs models with names: -m NAME=PATH", needs_names);
    if (!needs_names && given > 1)
        return fail(STATUS_WRONG_USAGE,
                    "several models need a schedule that says which predicts which "
                    "steps: -m base=PATH -m tuned=PATH --schedule \"base x15, tuned rest\"");
    list->count = list->given_count = given ? given : 1;
    list->name = calloc(list->count, sizeof *list->name);
    list->path = calloc(list->count, sizeof *list->path);
    list->opened = calloc(list->count, sizeof *list->opened);
    if (!list->name || !list->path || !list->opened)
        return fail(STATUS_FAILED, "not enough memory");
    int status = STATUS_DONE;
    for (size_t i = 0; status == STATUS_DONE && i < given; i++)
        status = model_read(list, i, needs_names);
    if (status == STATUS_DONE) status = embeddings_read(list);
    return status == STATUS_DONE ? loras_read(list) : status;
}

/* The list with room for n more models, of no name and path. */
static bool grow(model_list *list, size_t n)
{
    size_t all = list->count + n;
    char **name = realloc(list->name, all * sizeof *name);
    if (name) list->name = name;
    const char **path = realloc(list->path, all * sizeof *path);
    if (path) list->path = path;
    lk_model **opened = realloc(list->opened, all * sizeof *opened);
    if (opened) list->opened = opened;
    if (!name || !path || !opened) return false;
    for (; list->count < all; list->count++) {
        name[list->count] = NULL;
        path[list->count] = NULL;
        opened[list->count] = NULL;
    }
    return true;
}

/* Whether a schedule asks for a LoRA by its name. */
static bool is_asked(const model_list *list, size_t lora)
{
    for (size_t i = 0; i < list->count - list->given_count; i++)
        for (int k = 0; k < list->variant[i].loras; k++)
            if ((size_t)list->variant[i].lora[k] == lora) return true;
    return false;
}

/* The variants are models of the list; their LoRAs, so far of those that have names, of all. */
static bool add_variants(model_list *list, int count, const int *which)
{
    size_t at = list->count;
    if (!grow(list, (size_t)count)) return false;
    for (int i = 0; i < count; i++) {
        lk_schedule_variant *v = &list->variant[i];
        for (int k = 0; k < v->loras; k++) v->lora[k] = which[v->lora[k]];
        if (!(list->name[at + (size_t)i] = strdup(v->name))) return false;
    }
    return true;
}

int models_read_schedule(model_list *list, const char *text, char **schedule)
{
    const char **name = calloc(list->loras.count + 1, sizeof *name);
    int *which = calloc(list->loras.count + 1, sizeof *which), named = 0, found = 0;
    lk_error error = {0};
    int status = STATUS_DONE;
    list->schedule = text;
    for (size_t i = 0; name && which && i < list->loras.count; i++)
        if (list->lora_name[i]) {
            name[named] = list->lora_name[i];
            which[named++] = (int)i;
        }
    if (!name || !which)
        status = fail(STATUS_FAILED, "not enough memory");
    else if (!lk_schedule_variants(schedule, &list->variant, &found, text,
                                   (const char *const *)list->name, (int)list->count, name, named,
                                   &error))
        status = fail_error(&error);
    else if (!add_variants(list, found, which))
        status = fail(STATUS_FAILED, "not enough memory");
    free(name);
    free(which);
    return status;
}

void tell_warning(void *user, lk_level level, const char *line)
{
    (void)user;
    if (level == LK_LOG_WARNING) fprintf(stderr, "likeness: %s\n", line);
}

/* One line where it is not simply the processor. */
static void tell_device(const lk_context *c, bool asked)
{
    const char *name = lk_context_device(c), *note = lk_context_device_note(c);
    if (asked || *note || strncmp(name, "cpu", 3) != 0)
        fprintf(stderr, "likeness: on %s%s%s\n", name, *note ? "; " : "", note);
}

bool workplace_open(workplace *w, const lk_context_options *options, lk_error *error)
{
    if (!lk_context_open(&w->context, options, error) ||
        !lk_session_open(&w->session, w->context, NULL, error))
        return false;
    tell_device(w->context, options->device != NULL);
    int threads = lk_context_threads(w->context);
    if (options->threads > threads)
        fprintf(stderr, "likeness: -t %d: there %s %d core%s for this program, so %d thread%s\n",
                options->threads, threads == 1 ? "is" : "are", threads, threads == 1 ? "" : "s",
                threads, threads == 1 ? "" : "s");
    return true;
}

void workplace_close(workplace *w)
{
    lk_session_close(&w->session);
    lk_context_close(&w->context);
}

/* Its LoRAs: of a variant those of the schedule, else those that are merged into it. */
static void take_loras(const model_list *list, size_t i, lk_model_options *o, lk_lora *its)
{
    o->loras = its;
    o->lora_count = 0;
    if (i >= list->given_count) {
        const lk_schedule_variant *v = &list->variant[i - list->given_count];
        for (int k = 0; k < v->loras; k++)
            its[o->lora_count++] = (lk_lora){list->lora[v->lora[k]].path, v->weight[k]};
        return;
    }
    for (size_t k = 0; k < list->loras.count; k++)
        if (!list->lora_name[k] && (list->lora_model[k] == i || list->lora_model[k] == SIZE_MAX))
            its[o->lora_count++] = list->lora[k];
}

bool models_open(model_list *list, lk_context *context, const char *vae, const char *tokenizer,
                 lk_error *error)
{
    lk_model_options o, derived;
    lk_model_defaults(&derived);
    lk_model_defaults(&o);
    o.vae = vae;
    o.tokenizer = tokenizer;
    o.taesd = list->taesd;
    o.embeddings = list->embedding;
    o.embedding_count = (int)list->embeddings.count;
    lk_lora *its = calloc(list->loras.count + 1, sizeof *its);
    bool ok = its;
    if (!its) *error = (lk_error){LK_MEMORY, "not enough memory"};
    for (size_t i = 0; ok && i < list->loras.count; i++)
        if (list->lora_name[i] && !is_asked(list, i)) {
            ok = false;
            error->code = LK_USAGE;
            if (list->schedule)
                snprintf(error->text, sizeof error->text,
                         "--lora %.400s: the schedule \"%.400s\" never uses %.100s, and no model "
                         "has that name; \"base x15, base+0.8*%.100s rest\" would use it",
                         list->loras.item[i], list->schedule, list->lora_name[i],
                         list->lora_name[i]);
            else
                snprintf(error->text, sizeof error->text,
                         "--lora %.800s: there is no such file, no model of that name, and no such "
                         "LoRA in a schedule (\"base x15, base+0.8*%.200s rest\")",
                         list->loras.item[i], list->lora_name[i]);
        }
    for (size_t i = 0; ok && i < list->count; i++) {
        bool is_variant = i >= list->given_count;
        lk_model_options *use = is_variant ? &derived : &o;
        use->path = list->path[i];
        if (is_variant) use->base = list->opened[list->variant[i - list->given_count].model];
        take_loras(list, i, use, its);
        ok = lk_model_open(&list->opened[i], context, use, error);
    }
    free(its);
    return ok;
}

void models_close(model_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        if (list->opened) lk_model_close(&list->opened[i]);
        if (list->name) free(list->name[i]);
    }
    for (size_t i = 0; list->lora && i < list->loras.count; i++)
        free((char *)(uintptr_t)list->lora[i].path);
    for (size_t i = 0; list->lora_name && i < list->loras.count; i++) free(list->lora_name[i]);
    free(list->lora);
    free(list->lora_model);
    free(list->lora_name);
    lk_free(list->variant);
    for (size_t i = 0; list->embedding && i < list->embeddings.count; i++)
        free((char *)(uintptr_t)list->embedding[i].token);
    free(list->embedding);
    free(list->embeddings.item);
    free(list->loras.item);
    free(list->opened);
    free(list->path);
    free(list->name);
    free(list->given.item);
    *list = (model_list){0};
}
