/* SPDX-License-Identifier: Apache-2.0
 *
 * chunks: see chunks.h. */
#include "chunks.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "emphasis.h"

enum { COMMA_NEAR = 20 }; /* tokens from the end of a full chunk */

/* The chunk that is being filled. */
typedef struct filler {
    const tokenizer *t;
    chunks *out;
    int32_t *ids; /* [room] */
    float *weight;
    int count, room;
    int comma; /* the last one's place; -1: none */
    int32_t comma_id;
    error *e;
} filler;

void chunks_close(chunks *c)
{
    free(c->ids);
    free(c->weight);
    *c = (chunks){0};
}

/* One more: so many ids, framed. */
static bool add_chunk(chunks *c, const tokenizer *t, const int32_t *ids, const float *weight,
                      int count, error *e)
{
    size_t n = (size_t)c->length, bytes = ((size_t)c->count + 1) * n * sizeof(float);
    int32_t *longer = realloc(c->ids, bytes);
    if (longer) c->ids = longer;
    float *more = realloc(c->weight, bytes);
    if (more) c->weight = more;
    if (!longer || !more) return error_memory(e, "a prompt's tokens", bytes);
    float *w = c->weight + (size_t)c->count * n;
    tokenizer_frame(t, ids, count, c->length, c->ids + (size_t)c->count * n);
    for (size_t i = 0; i < n; i++) w[i] = 1;
    for (int i = 0; i < count; i++) w[1 + i] = weight[i];
    c->count++;
    return true;
}

/* The first `keep` tokens are a chunk, the others begin the next. */
static bool next_chunk(filler *f, int keep)
{
    if (!add_chunk(f->out, f->t, f->ids, f->weight, keep, f->e)) return false;
    f->count -= keep;
    memmove(f->ids, f->ids + keep, (size_t)f->count * sizeof *f->ids);
    memmove(f->weight, f->weight + keep, (size_t)f->count * sizeof *f->weight);
    f->comma = -1;
    return true;
}

/* Room for the tokens of one word, which stay together where a chunk can hold them. */
static bool make_room(filler *f, int32_t id, int together)
{
    if (id == f->comma_id)
        f->comma = f->count;
    else if (f->count == f->room && f->comma != -1 && f->count - f->comma <= COMMA_NEAR &&
             !next_chunk(f, f->comma + 1))
        return false;
    return f->count + together <= f->room || next_chunk(f, f->count);
}

static bool add_run(filler *f, const emphasis_run *run)
{
    int32_t *ids = NULL;
    int count = 0;
    bool ok = tokenizer_encode_whole(f->t, run->text, &ids, &count, f->e);
    for (int i = 0, n; ok && i < count; i += n) {
        n = tokenizer_placeholder(f->t, ids + i, count - i);
        if (n > f->room) n = f->room;
        ok = make_room(f, ids[i], n);
        for (int k = 0; ok && k < n; k++) {
            f->ids[f->count] = ids[i + k];
            f->weight[f->count++] = (float)run->weight;
        }
    }
    free(ids);
    return ok;
}

bool chunks_make(chunks *out, const tokenizer *t, int length, const char *text, error *e)
{
    size_t room = (size_t)length - 2;
    filler f = {.t = t,
                .out = out,
                .ids = malloc(room * sizeof *f.ids),
                .weight = malloc(room * sizeof *f.weight),
                .room = length - 2,
                .comma = -1,
                .comma_id = tokenizer_token(t, ",</w>"),
                .e = e};
    emphasis runs = {0};
    assert(length > 2);
    *out = (chunks){.length = length};
    bool ok = (f.ids && f.weight) || error_memory(e, "a prompt's tokens", 2 * room * sizeof *f.ids);
    ok = ok && emphasis_read(&runs, text, e);
    for (int i = 0; ok && i < runs.count; i++)
        ok = emphasis_is_break(&runs.run[i]) ? next_chunk(&f, f.count) : add_run(&f, &runs.run[i]);
    if (ok && (f.count || !out->count)) ok = next_chunk(&f, f.count);
    emphasis_close(&runs);
    free(f.ids);
    free(f.weight);
    if (!ok) chunks_close(out);
    return ok;
}

bool chunks_fill(chunks *c, const tokenizer *t, int count, error *e)
{
    while (c->count < count)
        if (!add_chunk(c, t, NULL, NULL, 0, e)) return false;
    return true;
}
