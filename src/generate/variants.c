/* SPDX-License-Identifier: Apache-2.0
 *
 * variants: see variants.h. */
#include "generate/variants.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"

/* One kind of model so far, and its name. */
typedef struct found {
    variant v;
    char name[512];
} found;

typedef struct reader {
    const variant_names *names;
    const char *text, *at;
    found *list;
    int count;
    FILE *out;
    error *e;
} reader;

static void spaces(reader *r)
{
    while (isspace((unsigned char)*r->at)) r->at++;
}

static int find(const char *const *list, int count, const char *name, size_t n)
{
    for (int i = 0; i < count; i++)
        if (strlen(list[i]) == n && !strncmp(list[i], name, n)) return i;
    return -1;
}

/* "0.8*dog" or "dog". */
typedef struct term {
    const char *from; /* where it begins */
    bool weighted;
    float weight;
    int model, lora; /* -1: none such */
} term;

static term read_term(reader *r)
{
    const char *end;
    double weight = 1;
    size_t n = 0;
    spaces(r);
    term t = {.from = r->at, .weight = 1, .model = -1, .lora = -1};
    number_parse(r->at, &end, &weight);
    const char *after = end;
    while (isspace((unsigned char)*after)) after++;
    t.weighted = end > r->at && *after == '*';
    if (t.weighted) {
        t.weight = (float)weight;
        r->at = after + 1;
        spaces(r);
    }
    while (mix_name_character(r->at[n])) n++;
    t.model = find(r->names->model, r->names->models, r->at, n);
    t.lora = t.model < 0 ? find(r->names->lora, r->names->loras, r->at, n) : -1;
    if (t.model >= 0 || t.lora >= 0) r->at += n;
    return t;
}

static bool wrong(const reader *r, const char *what, const char *name)
{
    return error_set(r->e, ERROR_USAGE,
                     "the schedule \"%s\" %s %s; write it as \"base x15, base+0.8*%s rest\"",
                     r->text, what, name, name);
}

static bool add_lora(const reader *r, variant *v, const term *t)
{
    const char *name = r->names->lora[t->lora];
    for (int i = 0; i < v->loras; i++)
        if (v->lora[i] == t->lora) return wrong(r, "adds to one model twice the LoRA", name);
    if (v->loras == MIX_MAX_TERMS)
        return wrong(r, "adds to one model more than 8 LoRAs, the last", name);
    if (!isfinite(t->weight)) return wrong(r, "has a weight that is no number for", name);
    v->lora[v->loras] = t->lora;
    v->weight[v->loras++] = t->weight;
    return true;
}

static bool spell(const reader *r, found *f)
{
    size_t at = (size_t)snprintf(f->name, sizeof f->name, "%s", r->names->model[f->v.model]);
    for (int i = 0; i < f->v.loras && at < sizeof f->name; i++)
        at += (size_t)snprintf(f->name + at, sizeof f->name - at, "+%s%s%s",
                               f->v.weight[i] == 1 ? "" : number_exact_float(f->v.weight[i]).text,
                               f->v.weight[i] == 1 ? "" : "*", r->names->lora[f->v.lora[i]]);
    return at < sizeof f->name || wrong(r, "has names that are too long:", f->name);
}

/* Enters it where it is not there, and writes its name. */
static bool put(reader *r, const term *t, found *f)
{
    if (t->weighted) fprintf(r->out, "%s*", number_exact_float(t->weight).text);
    if (!spell(r, f)) return false;
    fputs(f->name, r->out);
    bool known = f->v.loras == 0;
    for (int i = 0; i < r->count && !known; i++) known = !strcmp(r->list[i].name, f->name);
    if (known) return true;
    found *list = realloc(r->list, ((size_t)r->count + 1) * sizeof *list);
    if (!list) return error_memory(r->e, "a schedule", sizeof *list);
    r->list = list;
    r->list[r->count++] = *f;
    return true;
}

/* A model and the LoRAs behind it. *more: another model follows, after a + or a |. */
static bool read_model(reader *r, bool *more)
{
    term t = read_term(r);
    *more = false;
    if (t.lora >= 0)
        return wrong(r, "has where a model should be the LoRA", r->names->lora[t.lora]);
    if (t.model < 0) {
        r->at = t.from; /* mix_parse says what is wrong */
        return true;
    }
    found f = {.v = {.model = t.model}};
    for (;;) {
        spaces(r);
        if (*r->at != '+') break;
        const char *plus = r->at++;
        term next = read_term(r);
        if (next.lora < 0) {
            r->at = plus;
            break;
        }
        if (!add_lora(r, &f.v, &next)) return false;
    }
    if (!put(r, &t, &f)) return false;
    *more = *r->at == '+' || *r->at == '|';
    if (*more) fputc(*r->at++, r->out);
    return true;
}

static bool read_all(reader *r)
{
    while (*r->at) {
        const char *from = r->at;
        for (bool more = true; more;)
            if (!read_model(r, &more)) return false;
        const char *word = r->at; /* the end of what stands before it */
        while (word > from && isspace((unsigned char)word[-1])) word--;
        bool behind_sign = word > from && strchr("+|", word[-1]);
        if (word < r->at && word > from && !behind_sign && *r->at && *r->at != ',')
            fputc(' ', r->out);
        while (*r->at && *r->at != ',') fputc(*r->at++, r->out);
        if (*r->at == ',') {
            fputs(", ", r->out);
            r->at++;
            spaces(r);
        }
    }
    return true;
}

/* The list and its names in one block. */
static bool pack(const reader *r, variant **list)
{
    size_t size = 0;
    for (int i = 0; i < r->count; i++) size += sizeof **list + strlen(r->list[i].name) + 1;
    if (!size) return true;
    if (!(*list = malloc(size))) return error_memory(r->e, "a schedule", size);
    char *at = (char *)(*list + r->count);
    for (int i = 0; i < r->count; i++) {
        (*list)[i] = r->list[i].v;
        (*list)[i].name = at;
        at = stpcpy(at, r->list[i].name) + 1;
    }
    return true;
}

bool variants_read(char **schedule, variant **list, int *count, const char *text,
                   const variant_names *names, error *e)
{
    size_t size;
    reader r = {.names = names, .text = text, .at = text, .e = e};
    *schedule = NULL;
    *list = NULL;
    r.out = open_memstream(schedule, &size);
    bool ok = r.out && read_all(&r);
    bool bad = r.out && ferror(r.out);
    if (r.out && fclose(r.out) != 0) bad = true;
    if (!r.out || bad) ok = error_memory(e, "a schedule", strlen(text));
    ok = ok && pack(&r, list);
    *count = ok ? r.count : 0;
    free(r.list);
    if (!ok) {
        free(*schedule);
        *schedule = NULL;
    }
    return ok;
}
