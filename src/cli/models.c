/* SPDX-License-Identifier: Apache-2.0
 *
 * models: the models of a command: -m PATH, or -m NAME=PATH several times. */
#include <ctype.h>
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

int models_read(model_list *list, const char *needs_names)
{
    size_t given = list->given.count;
    if (needs_names && !given)
        return fail(STATUS_WRONG_USAGE, "%s needs models with names: -m NAME=PATH", needs_names);
    if (!needs_names && given > 1)
        return fail(STATUS_WRONG_USAGE,
                    "several models need a schedule that says which predicts which "
                    "steps: -m base=PATH -m tuned=PATH --schedule \"base x15, tuned rest\"");
    list->count = given ? given : 1;
    list->name = calloc(list->count, sizeof *list->name);
    list->path = calloc(list->count, sizeof *list->path);
    list->opened = calloc(list->count, sizeof *list->opened);
    if (!list->name || !list->path || !list->opened)
        return fail(STATUS_FAILED, "not enough memory");
    int status = STATUS_DONE;
    for (size_t i = 0; status == STATUS_DONE && i < given; i++)
        status = model_read(list, i, needs_names);
    return status;
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

bool models_open(model_list *list, lk_context *context, const char *vae, const char *tokenizer,
                 lk_error *error)
{
    lk_model_options o;
    lk_model_defaults(&o);
    o.vae = vae;
    o.tokenizer = tokenizer;
    for (size_t i = 0; i < list->count; i++) {
        o.path = list->path[i];
        if (!lk_model_open(&list->opened[i], context, &o, error)) return false;
    }
    return true;
}

void models_close(model_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        if (list->opened) lk_model_close(&list->opened[i]);
        if (list->name) free(list->name[i]);
    }
    free(list->opened);
    free(list->path);
    free(list->name);
    free(list->given.item);
    *list = (model_list){0};
}
