/* SPDX-License-Identifier: Apache-2.0
 *
 * generate_preview: --preview, the growing pictures beside where the whole ones go. They say of
 * themselves that they are previews, and only such are written over and removed: when their picture
 * is there, or will not be. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/generate.h"

static const char mark[] = "a preview, of a picture that is not finished";

static void on_preview(void *user, lk_image *picture)
{
    const cell *c = user;
    if (lk_image_set_settings(picture, mark, NULL)) lk_image_save(picture, c->preview, NULL);
}

/* A file that is there and is no preview. */
static bool is_taken(const char *path)
{
    struct stat file;
    if (stat(path, &file) != 0) return false;
    char *text = lk_file_settings(path);
    bool ours = text && strcmp(text, mark) == 0;
    lk_free(text);
    return !ours;
}

int previews_settle(task *t)
{
    for (size_t i = 0; t->preview && i < t->count; i++) {
        cell *c = &t->cells[i];
        const char *path = c->out.path[0], *dot = strrchr(path, '.'), *slash = strrchr(path, '/');
        if (!dot || (slash && dot < slash)) dot = path + strlen(path);
        c->preview = text_format("%.*s-preview.png", (int)(dot - path), path);
        if (!c->preview) return no_memory();
        if (is_taken(c->preview))
            return fail(STATUS_FAILED,
                        "%s is there, and is no preview; move it away, or leave out --preview",
                        c->preview);
        c->options.preview = on_preview;
        c->options.user = c;
    }
    return STATUS_DONE;
}

void preview_remove(const cell *c)
{
    if (c->preview && c->options.preview && !is_taken(c->preview)) unlink(c->preview);
}
