/* SPDX-License-Identifier: Apache-2.0
 *
 * likeness_study: a study: models opened or trained, pictures made, measured, and compared on one
 * page. A library of its own (liblikeness-study), which does with likeness.h what any other program
 * can. Its rules are those of likeness.h. */
#ifndef LIKENESS_STUDY_H
#define LIKENESS_STUDY_H

#include <likeness.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lk_study_progress {
    size_t size;
    const char *what; /* "training tuned", "pictures", "measuring" */
    double done,
        total;   /* of the whole study, in steps of about equal length; total 0: not known yet */
    double left; /* seconds, about; 0: not known yet */
} lk_study_progress;

typedef struct lk_study_options {
    size_t size;
    const char *plan; /* a plan in JSON (docs/STUDY.md); NULL: the report's experiment */
    /* NULL, or a folder of photos of one subject, which is called `name` ("sks dog") and is one of
     * class_name ("dog"): the report's experiment with it, on the model at `model` (NULL: the
     * default). */
    const char *photos, *name, *class_name, *model;
    const char *folder; /* where everything goes: report.html, cells/, models/ */
    /* NULL, or folders as transformers saves them, for the measures of the DreamBooth paper: clip a
     * CLIPModel with its tokenizer (CLIP-I, CLIP-T), dino a ViTModel (DINO) or a Dinov2Model (DINO,
     * PRES, DIV). */
    const char *clip, *dino;
    bool dry_run; /* tell the log what would be done, and do nothing */
    bool yes;     /* thousands of pictures are meant */
    int (*progress)(void *user, const lk_study_progress *progress); /* NULL; nonzero: stop */
    lk_log_callback *log;                                           /* NULL, or told what happens */
    void *user;
} lk_study_options;

#define lk_study_defaults(options) lk_study_defaults_sized((options), sizeof *(options))
LK_API void lk_study_defaults_sized(lk_study_options *options, size_t size);
/* What the folder holds already is not made again; a run that was killed or stopped goes on. A
 * picture that cannot be made does not keep the others: the page says why, and the result is false.
 * The study works in sessions of its own; callbacks are called by the thread that called it. */
LK_API bool lk_study(lk_context *context, const lk_study_options *options, lk_error *error);

#ifdef __cplusplus
}
#endif

#endif
