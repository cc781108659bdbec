/* SPDX-License-Identifier: Apache-2.0
 *
 * vision: lk_vision, the networks that look at pictures: CLIP, DINO, DINOv2. */
#include "api/api.h"

#include <stdlib.h>

#include "model/vit.h"

struct lk_vision {
    lk_session *session;
    vit *network;
};

_Static_assert((int)LK_VISION_DINOV2 == (int)VIT_DINOV2, "kinds are the same");

static bool open_network(lk_vision *v, const char *folder, error *e)
{
    if (!session_enter(v->session, e)) return false;
    bool ok = vit_open(&v->network, v->session->device, folder, e);
    session_leave(v->session);
    return ok;
}

bool lk_vision_open(lk_vision **out, lk_session *s, const char *folder, lk_error *caller)
{
    error e = {0};
    *out = calloc(1, sizeof **out);
    bool ok = *out || error_memory(&e, folder, sizeof **out);
    if (ok) {
        (*out)->session = s;
        ok = open_network(*out, folder, &e);
    }
    if (!ok) lk_vision_close(out);
    return api_report(ok, &e, caller);
}

void lk_vision_close(lk_vision **v)
{
    if (!v || !*v) return;
    vit_close(&(*v)->network);
    free(*v);
    *v = NULL;
}

lk_vision_kind lk_vision_kind_of(const lk_vision *v)
{
    return (lk_vision_kind)vit_kind_of(v->network);
}
const char *lk_vision_hash(const lk_vision *v) { return vit_hash(v->network); }
int lk_vision_width(const lk_vision *v) { return vit_width(v->network); }

bool lk_vision_embed(float *out, lk_vision *v, const lk_image *picture, lk_error *caller)
{
    error e = {0};
    bool ok = session_enter(v->session, &e);
    if (ok) {
        ok = vit_embed(v->network, &picture->image, out, &e);
        session_leave(v->session);
    }
    return api_report(ok, &e, caller);
}

bool lk_vision_embed_text(float *out, lk_vision *v, const char *text, lk_error *caller)
{
    error e = {0};
    bool ok = vit_kind_of(v->network) == VIT_CLIP ||
              error_set(&e, ERROR_USAGE,
                        "a text's embedding is asked of a network that reads none; give a CLIP");
    ok = ok && session_enter(v->session, &e);
    if (ok) {
        ok = vit_embed_text(v->network, text, out, &e);
        session_leave(v->session);
    }
    return api_report(ok, &e, caller);
}
