/* SPDX-License-Identifier: Apache-2.0
 *
 * controls: --control FILE:IMAGE[:SCALE] of likeness generate. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/generate.h"

/* What stands behind the last colon, where it is a number; cuts it off. */
static float take_scale(char *text)
{
    char *colon = strrchr(text, ':'), *end;
    if (!colon || access(text, F_OK) == 0) return 1;
    float scale = strtof(colon + 1, &end);
    if (!colon[1] || *end || !isfinite(scale)) return 1;
    *colon = 0;
    return scale;
}

/* Where FILE ends: at the first colon before which there is such a file or folder, else at the
 * first. NULL: there is none. */
static char *picture_of(char *text)
{
    char *first = strchr(text, ':');
    for (char *colon = first; colon; colon = strchr(colon + 1, ':')) {
        *colon = 0;
        bool there = access(text, F_OK) == 0;
        *colon = ':';
        if (there) return colon;
    }
    return first;
}

/* Of a picture that is not there: what stands behind its last colon, where what is before it is a
 * file; a scale was meant. NULL else. */
static const char *mistyped_scale(const char *picture)
{
    const char *colon = strrchr(picture, ':');
    if (!colon || access(picture, F_OK) == 0) return NULL;
    char *file = strndup(picture, (size_t)(colon - picture));
    bool there = file && access(file, F_OK) == 0;
    free(file);
    return there ? colon + 1 : NULL;
}

static int control_open(task *t, size_t i)
{
    const char *word = t->control_given.item[i];
    char *text = t->control_text[i] = strdup(word);
    if (!text) return no_memory();
    t->control[i].scale = take_scale(text);
    char *colon = picture_of(text);
    if (!colon || colon == text || !colon[1])
        return fail(STATUS_WRONG_USAGE, "--control %s: FILE:IMAGE or FILE:IMAGE:0.8 is right",
                    word);
    *colon = 0;
    const char *scale = mistyped_scale(colon + 1);
    if (scale)
        return fail(STATUS_WRONG_USAGE,
                    "--control %s: \"%s\" is no number; FILE:IMAGE:0.8 is right", word, scale);
    if (!lk_image_open(&t->control_picture[i], colon + 1, &t->error)) return fail_error(&t->error);
    t->control[i].picture = t->control_picture[i];
    for (size_t k = 0; k < i; k++) /* one network for several pictures */
        if (strcmp(t->control_text[k], text) == 0) t->control[i].net = t->control[k].net;
    if (!t->control[i].net &&
        !lk_controlnet_open(&t->control[i].net, t->work.context, text, &t->error))
        return fail_error(&t->error);
    return STATUS_DONE;
}

int controls_open_all(task *t)
{
    size_t n = t->control_given.count;
    int status = STATUS_DONE;
    if (!n) return status;
    t->control = calloc(n, sizeof *t->control);
    t->control_text = calloc(n, sizeof *t->control_text);
    t->control_picture = calloc(n, sizeof *t->control_picture);
    if (!t->control || !t->control_text || !t->control_picture) return no_memory();
    for (size_t i = 0; status == STATUS_DONE && i < n; i++) status = control_open(t, i);
    t->base.controls = t->control;
    t->base.control_count = (int)n;
    return status;
}

bool controls_list_inputs(const task *t, text_list *inputs)
{
    bool ok = true;
    for (size_t i = 0; ok && i < t->control_given.count; i++) {
        const char *text = t->control_text[i];
        ok = text_list_add(inputs, text) && text_list_add(inputs, text + strlen(text) + 1);
    }
    return ok;
}

void controls_close_all(task *t)
{
    for (size_t i = 0; i < t->control_given.count; i++) {
        bool shared = false;
        for (size_t k = 0; t->control && k < i; k++)
            shared |= t->control[k].net == t->control[i].net;
        if (t->control && !shared && t->control[i].net) {
            lk_controlnet *net = t->control[i].net;
            for (size_t k = i; k < t->control_given.count; k++)
                if (t->control[k].net == net) t->control[k].net = NULL;
            lk_controlnet_close(&net);
        }
        if (t->control_picture) lk_image_close(&t->control_picture[i]);
        if (t->control_text) free(t->control_text[i]);
    }
    free(t->control);
    free(t->control_text);
    free(t->control_picture);
    free(t->control_given.item);
}
