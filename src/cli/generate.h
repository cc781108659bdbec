/* SPDX-License-Identifier: Apache-2.0
 *
 * generate: what the files of likeness generate share. Prompts x settings are rows, seeds are
 * columns; every cell is one picture. */
#ifndef LIKENESS_CLI_GENERATE_H
#define LIKENESS_CLI_GENERATE_H

#include <limits.h>

#include "cli/cli.h"

/* out is first: what is asked of an output is asked of its cell. */
typedef struct cell {
    output out;
    lk_generate_options options;
    lk_model *const *models;
    char *what;        /* "a photo of a dog, ddim-50, seed 42" */
    lk_image *picture; /* kept for the grid */
    char *preview;     /* where --preview writes; NULL: nowhere */
} cell;

/* The LoRAs that some prompts ask for, and the models opened with them. */
typedef struct lora_set {
    lk_lora *lora; /* [count], paths of lora_file */
    size_t count;
    lk_model **opened; /* [models.count] */
} lora_set;

typedef struct task {
    /* flags */
    bool help;
    const char *rng; /* --rng */
    text_list prompts, rest, control_given;
    model_list models;
    const char *like, *negative, *seed_text, *schedule, *vae, *tokenizer, *precision, *sampler,
        *variance, *spacing, *sigmas, *init_latents, *save_latents, *output, *sweep_text, *grid,
        *prompt_syntax, *lora_dir, *init_image, *mask, *hires_upscaler;
    int width, height, steps, clip_skip, deep_cache, threads, noise_delta;
    float guidance, guidance_rescale, eta;
    double strength, hires, hires_strength;
    int hires_steps, batch;
    bool strength_given;     /* by a flag */
    bool no_size;            /* a flag gives a side below 1 */
    const char *hires_given; /* a flag that wants --hires, or NULL */
    bool tile;
    int preview;
    lk_settings *told; /* what --like's picture says; NULL: no --like */
    /* what they mean */
    lora_set *sets;          /* the first's models are models.opened */
    size_t *set_of;          /* [prompts.count] */
    lk_lora_file *lora_file; /* what --lora-dir has */
    size_t lora_file_count;
    size_t set_count;
    lk_generate_options base;
    lk_context_options context_options;
    uint64_t *seeds;
    size_t seed_count;
    lk_sweep *sweep;
    lk_latents *latents;
    lk_image *init, *mask_image;
    lk_control *control; /* [control_given.count], as are: */
    char **control_text; /* FILE, NUL, IMAGE; malloc'ed */
    lk_image **control_picture;
    char *schedule_read; /* the schedule, its models with LoRAs under one name each */
    cell *cells;         /* rows x seed_count, row by row: prompts, and in each its settings */
    size_t rows, count;
    char **row_label, **seed_label;
    outputs outputs;
    output grid_file; /* --grid */
    /* at work */
    workplace work;
    progress_line line;
    size_t made; /* cells whose files are written */
    int status;  /* of writing them */
    lk_error error;
} task;

/* ---- controls.c ---- */
int controls_open_all(task *t); /* the workplace is open; a status */
bool controls_list_inputs(const task *t, text_list *inputs);
void controls_close_all(task *t);

/* ---- generate.c ---- */
int no_memory(void);                         /* says so */
char *cell_settings(task *t, const cell *c); /* for lk_free; NULL after a line on stderr */
/* Malloc'ed; NULL: no memory. */
char *text_format(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- generate_loras.c ---- */
/* Which sets of LoRAs the prompts ask for; an unknown one is named. Returns a status. */
int loras_find(task *t);
/* Opens the models, with each set; t->error says what failed. */
bool loras_open(task *t);
void loras_close(task *t);

/* ---- generate_preview.c ---- */
/* With the outputs settled: where previews go, and that nothing else lies there. */
int previews_settle(task *t);
void preview_remove(const cell *c); /* its picture is there */

/* ---- generate_flags.c ---- */
enum { NOT_GIVEN = INT_MIN }; /* --steps */
extern const char generate_help[];
int generate_flags_read(task *t, int argc, char **argv);
/* Names of choices, and numbers that no model could take. */
int generate_flags_check(task *t);

/* ---- generate_like_check.c ---- */
/* Digits of the hashes in "Models", and in "Lora hashes" and "TI hashes". */
enum { MODEL_DIGITS = 10, LORA_DIGITS = 12 };
/* The length of the first item of a list of names that end with such hashes; names may have commas.
 */
size_t hash_item(const char *list, size_t digits);
/* With the models open and cells made: whether they are those of --like's picture. */
int like_check(task *t);

/* ---- generate_like.c ---- */
/* Where the words have --like: what that picture says of itself becomes the defaults of flags. */
int like_read(task *t, int argc, char **argv);
/* After the flags: what their own value makes meaningless of the picture's. */
int like_settle(task *t);
bool like_is_ours(const task *t);      /* whether this program made the picture */
bool like_is_control(const char *key); /* "ControlNet 0" and so on */

/* ---- generate_cells.c ---- */
/* Fills cells and row labels from prompts, sweep and seeds. */
int generate_cells_make(task *t);
/* Refuses pictures that differ only in seeds that nothing is drawn from. */
int generate_cells_latents(task *t);
int generate_cells_names(const task *t);

#endif
