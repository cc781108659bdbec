/* SPDX-License-Identifier: Apache-2.0
 *
 * minimal: one picture with the library, with what it tells while it works.
 *     cc minimal.c -o minimal -llikeness ...        ./minimal "a photo of a dog" dog.png */
#include <likeness.h>
#include <stdio.h>

static int tell(void *user, const lk_progress *p)
{
    fprintf(user, "step %d of %d, %.1f s\n", p->step, p->steps, p->seconds);
    return 0; /* anything else stops */
}

int main(int argc, char **argv)
{
    lk_context *context = NULL;
    lk_session *session = NULL;
    lk_model *model = NULL;
    lk_image *picture = NULL;
    lk_generate_options options;
    lk_error error = {LK_OK, ""};

    lk_generate_defaults(&options);
    options.prompt = argc > 1 ? argv[1] : "a photo of a dog";
    options.seed = 42;
    options.steps = 10;
    options.progress = tell;
    options.user = stderr;
    if (!lk_context_open(&context, NULL, &error) ||
        !lk_session_open(&session, context, NULL, &error) ||
        !lk_model_open(&model, context, NULL, &error) ||
        !lk_generate(&picture, session, model, &options, &error) ||
        !lk_image_save(picture, argc > 2 ? argv[2] : "picture.png", &error))
        fprintf(stderr, "%s\n", error.text);
    lk_image_close(&picture);
    lk_model_close(&model);
    lk_session_close(&session);
    lk_context_close(&context);
    return error.code != LK_OK;
}
