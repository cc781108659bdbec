/* SPDX-License-Identifier: Apache-2.0
 *
 * variants: the LoRAs in a schedule. "base x15, base+0.8*dog rest" asks for two models, base and
 * base with a LoRA beside its weights, which is then a model by the name "base+0.8*dog". */
#ifndef LIKENESS_GENERATE_VARIANTS_H
#define LIKENESS_GENERATE_VARIANTS_H

#include "generate/mix.h"

typedef struct variant {
    const char *name;
    int model; /* whose weights it has */
    int loras;
    int lora[MIX_MAX_TERMS];
    float weight[MIX_MAX_TERMS];
} variant;

/* The names that a schedule uses. */
typedef struct variant_names {
    const char *const *model;
    int models;
    const char *const *lora;
    int loras;
} variant_names;

/* *schedule: the text with each variant under its one name; malloc'ed. *list: [*count], one block
 * with its names; NULL where there are none. What else is wrong with the text mix_parse says. */
bool variants_read(char **schedule, variant **list, int *count, const char *text,
                   const variant_names *names, error *e);

#endif
