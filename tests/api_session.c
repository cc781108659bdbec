/* SPDX-License-Identifier: Apache-2.0
 *
 * api_session: see api_session.h. */
#include "api_session.h"

#include <stdio.h>

char folder[256], toy[300];
lk_context *context;
lk_session *session;
lk_model *opened;

void api_open(void)
{
    error e = {0};
    lk_error why = {LK_OK, ""};
    lk_model_options m;
    snprintf(folder, sizeof folder, "%s", scratch_dir());
    snprintf(toy, sizeof toy, "%s/toy", folder);
    assert_true(toy_stable_diffusion(toy, &e));
    lk_model_defaults(&m);
    m.path = toy;
    if (!lk_context_open(&context, NULL, &why) || !lk_session_open(&session, context, NULL, &why) ||
        !lk_model_open(&opened, context, &m, &why))
        fail_msg("%s", why.text);
}

lk_generate_options options_for(uint64_t seed)
{
    lk_generate_options o;
    lk_generate_defaults(&o);
    o.prompt = "a dog";
    o.seed = seed;
    o.steps = STEPS;
    o.sampler = LK_DDPM; /* which draws in every step */
    return o;
}

lk_image *make(lk_session *s, const lk_generate_options *o)
{
    lk_image *p = NULL;
    lk_error why = {LK_OK, ""};
    if (!lk_generate(&p, s, opened, o, &why)) fail_msg("%s", why.text);
    return p;
}

size_t bytes_of(const lk_image *p)
{
    return 3 * (size_t)lk_image_width(p) * (size_t)lk_image_height(p);
}

void check_same(const lk_image *a, const lk_image *b)
{
    assert_int_equal(bytes_of(a), bytes_of(b));
    assert_memory_equal(lk_image_pixels(a), lk_image_pixels(b), bytes_of(a));
    assert_string_equal(lk_image_settings(a), lk_image_settings(b));
}

void api_close(void)
{
    lk_model_close(&opened);
    lk_session_close(&session);
    lk_context_close(&context);
}

void keep(void *user, const lk_snapshot *s)
{
    keeper *k = user;
    assert_int_equal(lk_snapshot_step(s), ++k->told);
    if (lk_snapshot_step(s) == 2) assert_true(lk_snapshot_copy(&k->kept, s, NULL));
}
