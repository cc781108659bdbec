/* SPDX-License-Identifier: Apache-2.0
 *
 * gallery: pictures kept up to a number of bytes, the one that was asked for longest ago leaving
 * first. */
#include "gallery.h"

#include <stdlib.h>

#include "base/platform.h"

/* Four hundred pictures of 128 x 128, or eighty of 512 x 512. */
#define MOST_BYTES ((size_t)64 << 20)

typedef struct hung {
    image picture;
    uint64_t asked; /* 0: not there */
} hung;

struct gallery {
    const char *folder;
    const study_cell *const *cell;
    hung *item;
    int count;
    size_t bytes;
    uint64_t clock;
};

bool gallery_open(gallery **out, const char *folder, const study_cell *const *cell, int count,
                  error *e)
{
    gallery *g = *out = calloc(1, sizeof *g);
    if (!g) return error_memory(e, "a study's pictures", sizeof *g);
    *g = (gallery){.folder = folder, .cell = cell, .count = count};
    g->item = calloc((size_t)count + 1, sizeof *g->item);
    if (g->item) return true;
    gallery_close(out);
    return error_memory(e, "a study's pictures", (size_t)count * sizeof(hung));
}

void gallery_close(gallery **g)
{
    if (!*g) return;
    for (int i = 0; (*g)->item && i < (*g)->count; i++) image_free(&(*g)->item[i].picture);
    free((*g)->item);
    free(*g);
    *g = NULL;
}

static size_t bytes_of(const image *m) { return 3 * (size_t)m->width * (size_t)m->height; }

/* Makes room, but two pictures stay. */
static void forget_old(gallery *g)
{
    while (g->bytes > MOST_BYTES) {
        int oldest = -1;
        for (int i = 0; i < g->count; i++)
            if (g->item[i].asked && g->item[i].asked + 1 < g->clock &&
                (oldest < 0 || g->item[i].asked < g->item[oldest].asked))
                oldest = i;
        if (oldest < 0) return;
        g->bytes -= bytes_of(&g->item[oldest].picture);
        image_free(&g->item[oldest].picture);
        g->item[oldest].asked = 0;
    }
}

/* Where a cell's picture is; malloc'ed; NULL with an error where it is not. */
static char *find_image(const char *folder, const study_cell *c, error *e)
{
    char *path = string_format("%s/cells/%s.png", folder, c->name);
    if (!path) error_memory(e, "a picture's name", 64);
    if (!path || path_is_file(path)) return path;
    error_set(e, ERROR_FILE,
              "%s: this picture of the study is missing; run the study again, which makes it",
              path);
    free(path);
    return NULL;
}

#define UNREADABLE "; remove it, and the study run again makes it anew"

static bool read_image(image *out, const char *folder, const study_cell *c, error *e)
{
    error why = {0};
    char *path = find_image(folder, c, e);
    bool ok = path && (image_read(out, NULL, path, &why) ||
                       error_set(e, why.code, "%s" UNREADABLE, why.text));
    free(path);
    return ok;
}

bool cell_image_open(lk_image **out, const char *folder, const study_cell *c, error *e)
{
    lk_error why = {0};
    char *path = find_image(folder, c, e);
    bool ok = path && (lk_image_open(out, path, &why) ||
                       error_set(e, (error_code)why.code, "%s" UNREADABLE, why.text));
    free(path);
    return ok;
}

const image *gallery_image(gallery *g, int i, error *e)
{
    hung *p = &g->item[i];
    if (!p->asked) {
        if (!read_image(&p->picture, g->folder, g->cell[i], e)) return NULL;
        g->bytes += bytes_of(&p->picture);
    }
    p->asked = ++g->clock;
    forget_old(g);
    return &p->picture;
}

bool gallery_pair(gallery *g, int a, int b, const image **x, const image **y, error *e)
{
    *x = gallery_image(g, a, e);
    *y = *x ? gallery_image(g, b, e) : NULL;
    if (!*y) return false;
    return ((*x)->width == (*y)->width && (*x)->height == (*y)->height) ||
           error_set(e, ERROR_FORMAT,
                     "%s/cells: %s.png and %s.png differ in size; remove both and run "
                     "the study again",
                     g->folder, g->cell[a]->name, g->cell[b]->name);
}
