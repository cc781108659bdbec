/* SPDX-License-Identifier: Apache-2.0
 *
 * features: lk_features, what a model's UNet sees in a picture. */
#include "api/api.h"

#include <stdlib.h>

#include "pipeline/features.h"

struct lk_features {
    lk_session *session;
    lk_model *model; /* a share of it */
    features *features;
};

void lk_features_defaults_sized(lk_features_options *o, size_t size)
{
    features_options usual;
    features_defaults(&usual);
    lk_features_options own = {.size = sizeof own,
                               .draws = usual.draws,
                               .seed = usual.seed,
                               .timestep = usual.timestep,
                               .block = usual.block};
    options_give(o, size, &own, sizeof own);
}

static bool features_options_take(features_options *out, const lk_features_options *given, error *e)
{
    lk_features_options o;
    lk_features_defaults(&o);
    if (!api_options(&o, sizeof o, given, "lk_features_options", e)) return false;
    *out = (features_options){.prompt = o.prompt ? o.prompt : "",
                              .draws = o.draws,
                              .seed = o.seed,
                              .timestep = o.timestep,
                              .block = o.block};
    return true;
}

bool lk_features_key(char key[65], lk_model *m, const lk_features_options *given, lk_error *caller)
{
    error e = {0};
    features_options o;
    bool ok = features_options_take(&o, given, &e) && features_check(m->model, &o, &e);
    if (ok) {
        lk_model_hash(m);
        features_key(&(pipeline){m->context->device, m->model}, &o, key);
    }
    return api_report(ok, &e, caller);
}

static bool open_features(lk_features *f, const features_options *o, error *e)
{
    lk_session *s = f->session;
    if (f->model->context != s->context)
        return error_set(e, ERROR_USAGE, "%s: is open in another context than the session",
                         f->model->model->path);
    if (!session_enter(s, e)) return false;
    bool ok = features_open(&f->features, &(pipeline){s->device, f->model->model}, o, e);
    session_leave(s);
    return ok;
}

bool lk_features_open(lk_features **out, lk_session *s, lk_model *m,
                      const lk_features_options *given, lk_error *caller)
{
    error e = {0};
    features_options o;
    lk_features *f = *out = calloc(1, sizeof *f);
    if (!f) return api_report(error_memory(&e, "a model's features", sizeof *f), &e, caller);
    f->session = s;
    f->model = m;
    pthread_mutex_lock(&m->context->lock);
    m->shares++;
    pthread_mutex_unlock(&m->context->lock);
    bool ok = features_options_take(&o, given, &e) && open_features(f, &o, &e);
    if (!ok) lk_features_close(out);
    return api_report(ok, &e, caller);
}

void lk_features_close(lk_features **closed)
{
    if (!closed) return;
    lk_features *f = *closed;
    if (!f) return;
    pthread_mutex_t *lock = &f->model->context->lock;
    features_close(&f->features);
    pthread_mutex_lock(lock);
    model_release(f->model);
    pthread_mutex_unlock(lock);
    free(f);
    *closed = NULL;
}

bool lk_features_look(float **value, int shape[3], lk_features *f, const lk_image *picture,
                      lk_error *caller)
{
    error e = {0};
    feature_map map = {0};
    bool ok = session_enter(f->session, &e);
    if (ok) {
        ok = features_look(f->features, &picture->image, &map, &e);
        session_leave(f->session);
    }
    *value = map.value;
    shape[0] = map.height;
    shape[1] = map.width;
    shape[2] = map.channels;
    return api_report(ok, &e, caller);
}
