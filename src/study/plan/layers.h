/* SPDX-License-Identifier: Apache-2.0
 *
 * layers: the settings of a plan's cells come in layers (built in, defaults, section, column,
 * row), each a half-filled study_cell with a note of what it gives; a cell is the layers laid over
 * each other. */
#ifndef LIKENESS_STUDY_PLAN_LAYERS_H
#define LIKENESS_STUDY_PLAN_LAYERS_H

#include "read.h"

typedef enum setting_key {
    KEY_PROMPT,
    KEY_NEGATIVE,
    KEY_SEED,
    KEY_SAMPLER,
    KEY_SIGMAS,
    KEY_STEPS,
    KEY_GUIDANCE,
    KEY_RESCALE,
    KEY_ETA,
    KEY_VARIANCE,
    KEY_SPACING,
    KEY_WIDTH,
    KEY_HEIGHT,
    KEY_CLIP_SKIP,
    KEY_DEEP_CACHE,
    KEY_PROMPT_SYNTAX,
    KEY_RNG,
    KEY_INIT_IMAGE,
    KEY_STRENGTH,
    KEY_MASK,
    KEY_HIRES,
    KEY_HIRES_STEPS,
    KEY_HIRES_STRENGTH,
    KEY_HIRES_UPSCALER,
    KEY_TILE,
    KEY_CONTROL,
    KEY_MODEL,
    KEY_SCHEDULE,
} setting_key;

enum { KEYS = KEY_SCHEDULE + 1 };

/* A setting in JSON, and where a cell has it. */
typedef struct setting_name {
    const char *name;
    size_t at, size;
    setting_key slot;
} setting_name;
extern const setting_name layer_keys[KEYS];

/* One layer: what it gives, as bits of slots, and the values. */
typedef struct layer {
    unsigned given;
    unsigned meant; /* of sigmas, eta, variance: for its sampler, given with it or over it */
    study_cell value;
} layer;

bool layer_has(const layer *l, setting_key slot);
/* All settings of an object; a labelled one may have "label" besides. */
bool layer_read(plan_reader *r, json_t *object, bool labelled, layer *out);
void layer_lay(layer *below, const layer *above);
bool layer_equal(const layer *a, const layer *b, setting_key k);

/* Of the keys from KEY_INIT_IMAGE to KEY_HIRES_UPSCALER one (plan_pictures.c); and what they are
 * together in a cell, whose others are settled: what means nothing there is as if not given. */
bool plan_read_pass(plan_reader *r, json_t *object, setting_key k, study_cell *c);
bool plan_check_pass(const plan_reader *r, layer *all);

/* "control" of an object, and what an axis calls it (plan_controls.c). */
bool plan_read_controls(plan_reader *r, json_t *object, study_cell *c);
bool plan_name_controls(plan_reader *r, const study_cell *c, const char **out);

/* Rows or columns: labels and settings, in the plan's memory. */
typedef struct axis {
    int count;
    const char **label;
    layer *entry;
    int levels;
    const char **part; /* [levels * count], as study_section has them */
} axis;
/* Of the section's `name`: "rows" or "columns". */
bool axis_read(plan_reader *r, json_t *section, const char *name, axis *out);

/* The cells of a section: base, columns and rows laid over each other. */
bool plan_make_cells(plan_reader *r, const layer *base, const axis *rows, const axis *columns,
                     study_section *s);

#endif
