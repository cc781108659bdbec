/* SPDX-License-Identifier: Apache-2.0
 *
 * inspect: lk_inspect, what a model or a picture is. */
#include "api/api.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/platform.h"
#include "generate/describe.h"
#include "model/detect.h"
#include "model/find.h"

static bool is_picture(const char *path)
{
    unsigned char head[16];
    size_t n;
    return file_begin(path, head, sizeof head, &n, NULL) && image_known(head, n);
}

bool lk_inspect(char **text, const char *path, lk_error *caller)
{
    error e = {0};
    *text = NULL;
    char *pocket = strcmp(path, "pocket") == 0 && !path_exists(path) ? find_pocket(&e) : NULL;
    if (pocket) path = pocket;
    if (!path_is_dir(path) && is_picture(path)) {
        lk_picture *p = NULL;
        if (!lk_picture_open(&p, path, caller)) {
            free(pocket);
            return false;
        }
        char more[64] = "";
        if (p->image.frames > 1) snprintf(more, sizeof more, ", the first of %d pictures", p->image.frames);
        *text = string_format("%s\n%dx%d%s\n%s\n", path, p->image.width, p->image.height, more,
                              p->settings ? p->settings : "It carries no settings.");
        lk_picture_close(&p);
        if (!*text) error_memory(&e, path, 0);
    } else {
        model *m = NULL;
        thread_pool *pool = NULL;
        if (!path_exists(path) || detect_describe(text, path, &e))
            if (!*text && model_open_to_look(&m, path, &e) &&
                thread_pool_open(&pool, cpu_count(), &e))
                *text = model_describe(m, pool, &e);
        thread_pool_close(&pool);
        model_close(&m);
    }
    free(pocket);
    return api_report(*text != NULL, &e, caller);
}
