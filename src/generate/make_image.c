/* SPDX-License-Identifier: Apache-2.0
 *
 * make_image: see make_image.h. */
#include "generate/make_image.h"

#include "generate/parameters.h"

static bool make(image *out, char **text, generator *g, const generate_options *o, error *e)
{
    generate_result made;
    image_job job = {.models = &g, .count = 1, .options = o};
    if (!generator_run(g, o, &made, e)) return false;
    bool ok = parameters_text(text, &job, &made.picture, e);
    if (ok) {
        *out = made.picture;
        made.picture = (image){0};
    }
    generate_result_free(&made);
    return ok;
}

bool image_make(image *out, char **text, generator *g, const model *m, const generate_options *o,
                error *e)
{
    generator *own = NULL;
    *out = (image){0};
    *text = NULL;
    if (generator_model(g) == m) return make(out, text, g, o, e);
    if (!generator_open(&own, generator_device(g), m, e)) return false;
    bool ok = make(out, text, own, o, e);
    generator_close(&own);
    return ok;
}
