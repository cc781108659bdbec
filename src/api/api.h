/* SPDX-License-Identifier: Apache-2.0
 *
 * api: what the files of the public interface share: what its opaque types are, and the translation
 * of errors and options. Each file is one group of include/likeness.h; none owns anything but
 * types. */
#ifndef LIKENESS_API_API_H
#define LIKENESS_API_API_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/options.h"
#include "base/work.h"
#include "generate/generate.h"
#include "likeness.h"
#include "train/settings.h"

struct lk_context {
    device *device;    /* the first: sessions work on others beside it */
    error passed_over; /* why it is not the GPU, where that would have been better */
    lk_log_callback *log;
    void *user;
    pthread_mutex_t lock; /* of the list of sessions, of what is busy, and of models' shares */
    lk_session *sessions;
};

/* A session's share in a model, and what it keeps for it. */
typedef struct session_model {
    lk_model *model;
    generator *generator;
    struct session_model *next;
} session_model;

struct lk_session {
    lk_context *context;
    lk_session *next; /* of the context's */
    device *device;
    lk_log_callback *log;
    void *user;
    bool busy;
    atomic_bool stop;
    session_model *models;
};

struct lk_model {
    lk_context *context;
    model *model;
    /* A share in the device's copies, so that they last as long as the model; not of the text
     * encoder's, which is needed for a moment a prompt and would be in memory beside the UNet's. */
    device_weights *weights[3];
    lk_model *base; /* whose weights it has; NULL: its own. A share in it */
    int shares;     /* sessions that keep something for it, models that have its weights, and the
                       caller, until he closes it */
    bool closed;    /* by the caller */
};

struct lk_controlnet {
    controlnet *net;
    device_weights *weights; /* as lk_model's */
};

struct lk_latents {
    int shape[3]; /* C, h, w */
    float *data;  /* NULL: none */
};

struct lk_image {
    image image;
    char *settings; /* NULL: none */
    lk_latents initial, final;
};

struct lk_snapshot {
    generate_snapshot state;
};

/* ---- context.c ---- */

/* Hands a failure to the caller, who keeps his first one; returns ok. */
bool api_report(bool ok, const error *e, lk_error *out);

/* options_take, by this library. */
bool api_options(void *own, size_t size, const void *given, const char *name, error *e);

/* A caller's progress, and his session's stop. Either may be NULL. */
typedef struct api_watch {
    lk_progress_callback *progress;
    void *user;
    lk_session *session;
    int picture, pictures;
    double start;    /* clock_seconds at step 0 */
    work_watch work; /* is told for it */
} api_watch;
/* w->work.user is w: it must stay where it is. */
void api_watch_start(api_watch *w, lk_progress_callback *progress, void *user, lk_session *session);
/* Whether to stop. */
bool api_watch_tell(api_watch *w, int step, int steps);

/* ---- session.c ---- */

/* The session is the calling thread's until session_leave. False where it is another's, or
 * cancelled. */
bool session_enter(lk_session *s, error *e);
void session_leave(lk_session *s);
/* What the session keeps for a model: it is made where it is not there. NULL on failure. */
generator *session_generator(lk_session *s, lk_model *m, error *e);
bool session_stopped(const lk_session *s);
/* How many of the wanted sessions of one thread memory is left for; 1 at least. */
int session_room(const lk_session *s, int wanted);
/* To the session's log, or its context's. "warning: " at the beginning becomes the level. */
void session_say(lk_session *s, const char *line);
/* One share less; nothing is left of the model after the last. The context's lock is held. */
void model_release(lk_model *m);

/* ---- generate.c ---- */

/* A caller's options, with defaults for what he does not know. */
bool generate_options_take(lk_generate_options *own, const lk_generate_options *given, error *e);
/* But for callbacks, ControlNets, and what to go on from. */
generate_options api_options_in(const lk_generate_options *o);

/* ---- controlnet.c ---- */

/* With what to go on from, and the ControlNets in a list that is the caller's to free() (also on
 * failure; NULL: there are none). */
bool api_options_all(generate_options *out, control **list, const lk_generate_options *o, error *e);

/* ---- train.c ---- */

bool train_options_take(lk_train_options *own, const lk_train_options *given, error *e);
train_settings api_train_settings(const lk_train_options *o);
/* Whether all of them are there. */
bool api_train_images_given(const lk_train_options *o, error *e);
/* Gives s the subject's pictures that are in memory: a list to be freed; NULL, and the error. */
const image **api_train_images(train_settings *s, const lk_train_options *o, error *e);
/* How a picture of the class is made; its prompt and seed are the training's business. */
generate_options api_class_image(const lk_train_options *o);

/* ---- mixed_run.c ---- */

/* Pictures that are made together in a session, each by the same models, which take turns. Several
 * must be alike (generate_alike). */
typedef struct mixed {
    lk_session *session;
    lk_model *const *model;
    const char *const *name; /* NULL without a schedule */
    int count;
    const char *schedule;                    /* NULL: the first alone */
    const lk_generate_options *const *given; /* [pictures] */
    int pictures;
    /* NULL: the progress of the options is told; else this, of picture k. True: stop. */
    bool (*stepped)(void *user, int k, int step, int steps);
    void *user;
    /* while it is at work */
    bool entered;
    mix mix;
    generator **generators;
    struct mixed_image *picture; /* [pictures] */
    generate_options *in;        /* [pictures] */
} mixed;
bool mixed_check(mixed *t, char **notes, error *e);
bool mixed_settings(char **text, mixed *t, error *e); /* of one picture that is not made yet */
bool mixed_run(lk_image **out, mixed *t, error *e);   /* out [pictures]: all, or on failure none */
/* How many such pictures make good use of one evaluation, and whether one alone keeps no more than
 * a thread busy. */
bool mixed_size(mixed *t, int *together, bool *small, error *e);

/* ---- mixed.c ---- */

/* Each model of a picture has its own name. */
bool names_check(const char *const *names, int count, error *e);

#endif
