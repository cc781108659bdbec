/* SPDX-License-Identifier: Apache-2.0
 *
 * features: a base model as an eye (DIFT). A picture's latents are noised a little, and the UNet's
 * activations at each place of its map, averaged over fixed draws of noise, are what is seen there.
 */
#ifndef LIKENESS_PIPELINE_FEATURES_H
#define LIKENESS_PIPELINE_FEATURES_H

#include "file/image.h"
#include "pipeline/pipeline.h"

typedef struct features
    features; /* the planned graphs; they are remade where a picture's size changes */

typedef struct features_options {
    const char *prompt;
    int draws; /* of noise; one after another, so that more keep the first ones */
    uint64_t seed;
    double timestep; /* share of the schedule's length */
    int block;       /* of the UNet's way up; the last where there are fewer */
} features_options;

typedef struct feature_map {
    int height, width, channels;
    float *value; /* [height][width][channels]; malloc'ed */
} feature_map;

void features_defaults(features_options *o);
bool features_check(const model *m, const features_options *o, error *e);
/* Of what determines a map, but the picture. */
void features_key(const pipeline *p, const features_options *o, char key[65]);

/* The prompt is not kept. */
bool features_open(features **out, const pipeline *p, const features_options *o, error *e);
void features_close(features **f);
/* On failure *out is empty; what is wrong with the picture is told of "the picture: ...". */
bool features_look(features *f, const image *picture, feature_map *out, error *e);
void feature_map_free(feature_map *map);

#endif
