/* SPDX-License-Identifier: Apache-2.0
 *
 * job: one call of generator_run, its options made definite; and what generators keep between
 * calls. For generate.c, job.c, read.c and loop.c alone. */
#ifndef LIKENESS_GENERATE_JOB_H
#define LIKENESS_GENERATE_JOB_H

#include "generate/generate.h"
#include "generate/guide.h"
#include "generate/prompts/recital.h"
#include "pipeline/decode.h"
#include "pipeline/denoise.h"
#include "pipeline/tiles.h"

/* The texts that the denoiser's keys and values are of. */
typedef struct text_state {
    char **text; /* [batch]; NULL: none were read */
    int clip_skip, batch;
    float *states; /* [batch,N,hidden] */
} text_state;

/* The script in AUTOMATIC1111's syntax that a model has cut, and perhaps read. */
typedef struct script_state {
    char *prompt, *negative;            /* NULL: none */
    int evaluations, before, clip_skip; /* before: of a first pass */
    bool guided; /* whether the options ask for guidance, whatever the script does */
    script script;
    recital recital;
    bool read;                 /* the recital has its states */
    int now[SCRIPT_PARTS + 1]; /* which texts the denoiser has; -1: none of these */
} script_state;

/* The posterior of a picture's latents, kept for the next seed. */
typedef struct encoded {
    char key[65]; /* of its pixels; "": none */
    size_t n;
    float *mean, *deviation; /* [n] each, one block */
} encoded;
enum { ENCODED = 2 }; /* a picture, and it without what is masked */

struct generator {
    pipeline on;
    device_weights *unet, *vae; /* the device's copies, kept from one denoiser to the next */
    denoiser *denoiser;         /* of the last size; NULL: none yet */
    decoder *decoder;
    tiled_decoder *tiled; /* in its place where a picture is decoded in tiles */
    text_state text;
    script_state script;
    encoded encoded[ENCODED];
};

/* One of the job's pictures. */
typedef struct job_image {
    const generate_options *o;
    const char *prompt, *negative;
    guidance guidance;
    sampler *sampler;
    rng rng;
    float *noise;   /* [C,h,w], what the run begins with */
    float *clean;   /* [C,h,w]: the latents of the picture that it begins with; NULL: none */
    float *mask;    /* [h,w], 1: made anew; NULL: all of it is */
    float *masked;  /* [C,h,w]: latents of that picture without what is masked, where an inpainting
                       network reads them */
    char begun[65]; /* as a snapshot has it, where one is told or gone on from */
} job_image;

/* Pictures that take every step together: sample k * parts of an evaluation is of picture k, and so
 * is the next where it is guided (unconditional, conditional). */
typedef struct job {
    generator *const *models; /* what takes turns, as `mix` says */
    int model_count;
    const mix *mix;              /* NULL: models[0] alone */
    int channels, height, width; /* of the latents */
    int parts; /* samples of a picture: 2 where it is guided, more under several conditions, or 1 */
    float weight[SCRIPT_PARTS]; /* of each condition, where it is scripted */
    bool scripted;              /* prompts are in AUTOMATIC1111's syntax */
    job_image *picture;         /* [count]; alike (generate_together) */
    int count;
} job;

/* ---- job.c ---- */
/* Everything but the work: checks all options [pictures], plans every model that the mix asks, and
 * compares the memory needed with what there is. notes: NULL, or lines are added to it. j is to be
 * closed in any case. */
bool job_open(job *j, generator *const *models, int count, const mix *m, const generate_options *o,
              int pictures, char **notes, error *e);
void job_close(job *j);
generator *job_first(const job *j);     /* whose model begins */
generator *job_last(const job *j);      /* whose model decodes */
bool job_asks(const job *j, int which); /* whether any step does */
bool job_tiles(const job *j);           /* whether its pictures are decoded in tiles */
size_t job_numbers(const job *j);       /* of a picture's latents */
/* The text of sample k of an evaluation, and whether it is an unconditional one. */
const char *job_text(const job *j, int k, bool *negative);
static inline int job_batch(const job *j) { return j->count * j->parts; }

/* ---- generate.c ---- */
bool job_decode(const job *j, const float *latent, image *out, error *e);

/* ---- read.c ---- */
/* Reads the job's prompts, for every model that is asked, unless it has them read already. */
bool read_texts(const job *j, error *e);
void text_forget(text_state *t);

/* ---- read_script.c ---- */
/* Cuts the prompts of a scripted job as g's model reads them, unless it has. */
bool script_cut(generator *g, const job *j, error *e);
/* Encodes them, unless that is done; the denoiser has those that the run begins with. */
bool script_read(generator *g, const job *j, error *e);
/* The denoiser has the texts of this evaluation afterwards. */
bool script_turn(generator *g, const job *j, const evaluation *at, error *e);
void script_unturn(script_state *s); /* it has others */
void script_state_close(script_state *s);
/* Lines about what is taken out of a prompt and does nothing, as generator_check's notes. */
bool script_notes(char **notes, const model *m, const char *prompt, error *e);

/* ---- begin.c ---- */
/* The picture's size: as asked for, else as the picture's that it begins with, in whole multiples
 * of what the model can make, else the model's own. */
void begin_size(const generate_options *o, const model *m, int *width, int *height);
bool begin_check(const generate_options *o, const model *m, error *e);
/* Draws what the picture begins with, and encodes the pictures that it is made from. */
void begin_mask_has(const image *mask, bool has[2]); /* what is kept, what is made anew */
bool begin_draw(const job *j, job_image *p, error *e);
void begin_hash(job_image *p, size_t numbers); /* p->begun */
/* After sampler_begin. */
void begin_from_image(const job_image *p);
void begin_forget(generator *g);

/* ---- loop.c ---- */
/* All steps, from the pictures' noise or where they go on from; their samplers hold the last
 * latents. */
bool loop_run(job *j, error *e);

#endif
