/* SPDX-License-Identifier: Apache-2.0
 *
 * inspect: lk_inspect, what a model or a picture is. */
#include "api/api.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/platform.h"
#include "generate/describe.h"
#include "model/detect.h"
#include "model/find.h"

static bool is_image(const char *path)
{
    unsigned char head[16];
    size_t n;
    return file_begin(path, head, sizeof head, &n, NULL) && image_known(head, n);
}

/* Whether a file that is no picture is called like one. */
static bool is_called_image(const char *path)
{
    static const char *const endings[] = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif"};
    const char *dot = strrchr(path, '.');
    for (size_t i = 0; dot && i < sizeof endings / sizeof *endings; i++)
        if (!strcasecmp(dot, endings[i])) return true;
    return false;
}

static const lk_inspect_options inspect_defaults = {.size = sizeof(lk_inspect_options)};

void lk_inspect_defaults_sized(lk_inspect_options *o, size_t size)
{
    options_give(o, size, &inspect_defaults, sizeof inspect_defaults);
}

static char *inspect_image(const char *path, error *e)
{
    image m;
    char *settings, more[64] = "";
    if (!image_read(&m, &settings, path, e)) return NULL;
    if (m.frames > 1) snprintf(more, sizeof more, ", the first of %d pictures", m.frames);
    char *text = string_format("%s\n%dx%d%s\n%s\n", path, m.width, m.height, more,
                               settings ? settings : "It carries no settings.");
    if (!text) error_memory(e, path, 0);
    image_free(&m);
    free(settings);
    return text;
}

static char *inspect_model(const char *path, const lk_inspect_options *o, error *e)
{
    model *m = NULL;
    thread_pool *pool = NULL;
    char *text = NULL;
    api_watch watch;
    int cores = cpu_count();
    if (path_is_file(path) && is_called_image(path)) {
        error_set(e, ERROR_FORMAT, "%s: is no picture: it is empty, cut short or damaged", path);
        return NULL;
    }
    api_watch_start(&watch, o->progress, o->user, NULL);
    if (path_exists(path) && !detect_describe(&text, path, e)) return NULL;
    if (!text &&
        thread_pool_open(&pool, o->threads > 0 && o->threads < cores ? o->threads : cores, e) &&
        model_open_to_look(&m, path, pool, &watch.work, e))
        text = model_describe(m, pool, &watch.work, e);
    thread_pool_close(&pool);
    model_close(&m);
    return text;
}

bool lk_inspect(char **text, const char *path, const lk_inspect_options *given, lk_error *caller)
{
    error e = {0};
    lk_inspect_options o = inspect_defaults;
    *text = NULL;
    if (api_options(&o, sizeof o, given, "lk_inspect_options", &e)) {
        char *pocket = strcmp(path, "pocket") == 0 && !path_exists(path) ? find_pocket(&e) : NULL;
        if (pocket) path = pocket;
        *text = !path_is_dir(path) && is_image(path) ? inspect_image(path, &e)
                                                     : inspect_model(path, &o, &e);
        free(pocket);
    }
    return api_report(*text != NULL, &e, caller);
}
