/* SPDX-License-Identifier: Apache-2.0
 *
 * tokenizer_words: placeholders of several vectors ("<dog> <dog>_1 <dog>_2" for "<dog>"), which a
 * prompt names by the first. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/platform.h"
#include "model/tokenizer_table.h"

enum { MAX_FOLLOWERS = 1000 };

static bool is_added(const tokenizer *t, const char *text)
{
    for (size_t i = 0; i < t->added.count; i++)
        if (!strcmp(t->added.item[i].text, text)) return true;
    return false;
}

/* "<dog> <dog>_1 <dog>_2" where these follow "<dog>", malloc'ed; *all NULL where none does. */
static bool whole_placeholder(const tokenizer *t, const char *text, char **all, error *e)
{
    *all = NULL;
    for (int i = 1; i < MAX_FOLLOWERS; i++) {
        char *next = string_format("%s_%d", text, i), *longer = NULL;
        bool known = next && is_added(t, next);
        if (known) longer = string_format("%s %s", *all ? *all : text, next);
        bool ok = next && (longer || !known);
        free(next);
        if (ok && !known) return true;
        free(*all);
        *all = longer;
        if (!ok) return error_memory(e, "the prompt", strlen(text));
    }
    return true;
}

/* Puts `by` in the place of every `what`. */
static bool replace(char **text, const char *what, const char *by, error *e)
{
    size_t n = strlen(what), count = 0;
    for (const char *p = *text; (p = strstr(p, what)); p += n) count++;
    char *out = malloc(strlen(*text) + count * strlen(by) + 1), *to = out;
    if (!out) return error_memory(e, "the prompt", count * strlen(by));
    const char *from = *text;
    for (const char *next; (next = strstr(from, what)); from = next + n) {
        memcpy(to, from, (size_t)(next - from));
        to = stpcpy(to + (next - from), by);
    }
    strcpy(to, from);
    free(*text);
    *text = out;
    return true;
}

static bool holds(const int32_t *ids, int count, int32_t id)
{
    for (int i = 1; i < count; i++)
        if (ids[i] == id) return true;
    return false;
}

/* diffusers' TextualInversionLoaderMixin.maybe_convert_prompt: *text is malloc'ed. Its words are as
 * they were found, which of a word with capital letters is the small ones: it is no placeholder. */
static bool expand(const tokenizer *t, char **text, error *e)
{
    int room = 4 * (int)strlen(*text) + 16;
    int32_t *ids = malloc((size_t)room * sizeof *ids);
    bool ok = ids ? tokenizer_encode(t, *text, room, ids, NULL, e)
                  : error_memory(e, "the prompt", (size_t)room * sizeof *ids);
    for (size_t i = 0; ok && i < t->added.count; i++) {
        const added_token *a = &t->added.item[i];
        char *all = NULL;
        ok = strcmp(a->match, a->text) != 0 || !holds(ids, room, a->id) ||
             whole_placeholder(t, a->text, &all, e);
        if (ok && all) ok = replace(text, a->text, all, e);
        free(all);
    }
    free(ids);
    return ok;
}

/* The text with its placeholders written out, malloc'ed. */
static bool written_out(const tokenizer *t, const char *text, char **out, error *e)
{
    /* beside the start and end tokens */
    bool plain = t->added.count <= 2 || strlen(text) > TEXT_LIMIT;
    *out = strdup(text);
    return *out ? plain || expand(t, out, e) : error_memory(e, "the prompt", strlen(text));
}

bool tokenizer_encode_prompt(const tokenizer *t, const char *text, int length, int32_t *ids,
                             char **cut, error *e)
{
    char *whole = NULL;
    if (cut) *cut = NULL;
    bool ok = written_out(t, text, &whole, e) && tokenizer_encode(t, whole, length, ids, cut, e);
    free(whole);
    return ok;
}

static const char *added_text(const tokenizer *t, int32_t id)
{
    for (size_t i = 0; i < t->added.count; i++)
        if (t->added.item[i].id == id) return t->added.item[i].text;
    return NULL;
}

/* Whether a word is "<first>_<number>". */
static bool follows(const char *word, const char *first, int number)
{
    size_t n = strlen(first);
    char end[16];
    snprintf(end, sizeof end, "_%d", number);
    return word && strncmp(word, first, n) == 0 && strcmp(word + n, end) == 0;
}

/* The id of "<first>_<number>"; -1: there is none. */
static int32_t follower(const tokenizer *t, const char *first, int number)
{
    for (size_t i = 0; first && i < t->added.count; i++)
        if (follows(t->added.item[i].text, first, number)) return t->added.item[i].id;
    return -1;
}

/* Puts all vectors of every placeholder behind its first, to `to` unless that is NULL, and gives
 * how many ids there are then. */
static int put_followers(const tokenizer *t, const int32_t *ids, int count, int32_t *to)
{
    int n = 0;
    for (int i = 0; i < count; i++) {
        const char *first = added_text(t, ids[i]);
        int32_t id = ids[i];
        for (int k = 1; id >= 0; k++) {
            if (to) to[n] = id;
            n++;
            id = follower(t, first, k);
        }
    }
    return n;
}

bool tokenizer_encode_whole(const tokenizer *t, const char *text, int32_t **ids, int *count,
                            error *e)
{
    size_t room = 4 * strlen(text) + 16;
    int32_t *own = malloc(room * sizeof *own);
    int n = 0;
    *ids = NULL;
    *count = 0;
    bool ok = (own || error_memory(e, "the prompt", room * sizeof *own)) &&
              tokenizer_ids(t, text, own, room > INT_MAX ? INT_MAX : (int)room, &n, e);
    int whole = ok ? put_followers(t, own, n, NULL) : 0;
    if (ok) *ids = malloc((size_t)(whole + 1) * sizeof **ids);
    ok = ok && (*ids || error_memory(e, "the prompt", (size_t)whole * sizeof **ids));
    if (ok) *count = put_followers(t, own, n, *ids);
    free(own);
    return ok;
}

int tokenizer_placeholder(const tokenizer *t, const int32_t *ids, int count)
{
    const char *first = t->added.count > 2 ? added_text(t, ids[0]) : NULL;
    int n = 1;
    while (first && n < count && follows(added_text(t, ids[n]), first, n)) n++;
    return n;
}
