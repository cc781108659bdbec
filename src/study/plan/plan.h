/* SPDX-License-Identifier: Apache-2.0
 *
 * plan: what a study is: models (a path, or a training), and sections, each a grid of cells. Read
 * from JSON (examples/report.json shows every form; docs/STUDY.md explains). */
#ifndef LIKENESS_STUDY_PLAN_H
#define LIKENESS_STUDY_PLAN_H

#include "base/arena.h"
#include "study/engine.h"

/* A model: from a path, or trained from another model of the plan. */
typedef struct study_model {
    const char *name;
    const char *path; /* NULL: trained. "pocket": the default model, found by the caller */
    lk_lora *lora;    /* [loras] beside a path: merged into it */
    int loras;
    const char *taesd; /* beside a path: NULL, or the tiny autoencoder that makes its pictures */
    int base;          /* trained: index of the model it is trained from (an earlier one) */
    lk_train_options train; /* trained: output_dir NULL (the study's business) */
} study_model;

/* A picture that a plan names. */
typedef struct study_picture {
    const char *path;
    char hash[65]; /* of its size and pixels */
    lk_image *image;
    struct study_picture *next;
} study_picture;

/* A ControlNet that a plan names, and what cells ask for of them. */
typedef struct study_net {
    const char *path;
    lk_controlnet *open; /* by plan_open_nets */
    struct study_net *next;
} study_net;

typedef struct study_control {
    study_net *net;
    const study_picture *picture;
    float scale;
} study_control;

enum { MAX_CONTROLS = 8 };

typedef struct study_controls {
    int count;
    study_control item[MAX_CONTROLS];
    lk_control list[MAX_CONTROLS]; /* the same, for the engine; by plan_open_nets */
    struct study_controls *next;
} study_controls;

/* One picture. Text belongs to the plan. */
typedef struct study_cell {
    const char *prompt, *negative; /* "" where there is none */
    uint64_t seed;
    lk_sampler sampler;
    int steps;
    float eta;            /* 0 where the sampler does not look at it */
    lk_variance variance; /* LK_VARIANCE_MODEL there */
    lk_spacing spacing;
    const char *sigmas; /* NULL: the model's; or where the sampler does not look at them */
    float guidance, guidance_rescale;
    int width, height; /* 0: the model's own */
    int clip_skip;
    int deep_cache; /* 0: every evaluation is of the whole network */
    lk_prompt_syntax prompt_syntax;
    lk_rng rng;
    const study_picture *init, *mask; /* NULL: none */
    double strength;                  /* 0.8 where there is no init */
    double hires, hires_strength;     /* a second pass; 0: none, and 0.7 */
    int hires_steps;                  /* 0: as many as steps */
    bool tile;
    const study_controls *control; /* NULL: none; equal ones are one */
    const char *hires_upscaler;    /* NULL: latent */
    lk_schedule *mix;              /* which model predicts which step that is made; owned */
    const char *schedule;          /* the same as text ("base", "base x15, tuned x35") */
    char name[17];                 /* 16 hex digits of what determines it; filled by cells_name */
    const char *why; /* it could not be made: why; NULL: it was. Filled by cells_make */
} study_cell;

typedef struct study_section {
    const char *id;            /* for anchors: a-z, 0-9 and - */
    const char *title, *about; /* about: a paragraph, "" where there is none */
    int rows, columns;
    const char **row_label, **column_label; /* "tuned, seed 42" */
    /* The same in parts, [levels * rows] and [levels * columns]: first all of the outermost
     * ("tuned"), which turns slowest, last all of the innermost ("seed 42"). */
    int row_levels, column_levels;
    const char **row_part, **column_part;
    bool hidden;      /* measured, not shown */
    study_cell *cell; /* [rows * columns], row by row */
} study_section;

typedef struct study_plan {
    const char *title, *about;
    study_model *model;
    int models;
    const char **model_name; /* [models], as lk_schedule_open takes them */
    study_section *section;
    int sections;
    study_net *net;          /* the same of ControlNets */
    study_controls *control; /* and of what is asked for of them */
    study_picture *picture;  /* all that cells name; the first */
    const char *text;        /* the whole plan as JSON that reads the same in any folder */
    int measure_noises;      /* draws of noise that a picture is looked at with (2) */
    arena memory;
} study_plan;

/* JSON, relative paths in it taken from the plan's own folder, else from `root` (the source tree or
 * the place where examples lie). Messages name file and place ("sections[2].rows[1]: ..."). Unknown
 * keys are errors. On failure *out is empty. */
bool study_plan_read(study_plan *out, const char *path, const char *root, error *e);
void study_plan_close(study_plan *p);
/* The plan's ControlNets, before cells are named or made. */
bool plan_open_nets(study_plan *p, lk_context *context, error *e);

/* Index of a model alone over the whole run, or -1. */
int cell_model(const study_cell *c);
bool cell_uses(const study_cell *c, int which); /* whether the model has a part in it */
/* The steps that are made, which the schedule counts: fewer than c->steps of a picture that is
 * changed; and those of its second pass. */
int cell_steps(const study_cell *c);
int cell_second_steps(const study_cell *c);
/* All that it is made with but the schedule. */
lk_generate_options cell_options(const study_cell *c);

#endif
