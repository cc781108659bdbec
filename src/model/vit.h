/* SPDX-License-Identifier: Apache-2.0
 *
 * vit: the networks that look at pictures in the field's own measures: the image and text towers of
 * CLIP (transformers CLIPModel, with their projections), DINO (ViTModel) and DINOv2 (Dinov2Model),
 * from folders as transformers saves them: config.json, model.safetensors,
 * preprocessor_config.json, and for CLIP its tokenizer. */
#ifndef LIKENESS_MODEL_VIT_H
#define LIKENESS_MODEL_VIT_H

#include "file/image.h"
#include "graph/graph.h"

typedef enum vit_kind { VIT_CLIP, VIT_DINO, VIT_DINOV2 } vit_kind;

/* Sizes of an image tower. */
typedef struct vit_config {
    vit_kind kind;
    int hidden, intermediate, layers, heads;
    int image_size, patch; /* image_size: what the positions in the file were made for */
    int projection;        /* CLIP: numbers of an embedding; else 0 */
    float eps;
    int activation; /* unary_kind */
} vit_config;

/* What is done to a picture before (transformers' image processors, in their slow, Pillow form). */
typedef struct vit_processor {
    int shortest;      /* the shorter side is brought to this; 0: to width x height */
    int width, height; /* both 0 where there is no resizing at all */
    resize_filter filter;
    int crop;              /* then this square is cut from its middle; 0: none */
    float mean[3], std[3]; /* of values in 0..1 */
} vit_processor;

typedef struct vit vit;

/* The device is borrowed. Refuses, by name, what it does not run. */
bool vit_open(vit **out, device *d, const char *folder, error *e);
void vit_close(vit **v);

vit_kind vit_kind_of(const vit *v);
const char *vit_hash(const vit *v); /* SHA-256 of its weights, 64 hex digits */
int vit_width(const vit *v);        /* numbers of an embedding */
/* The embedding [width] as the network gives it (not normalised): CLIP's projected image features,
 * DINO's and DINOv2's class token after the last norm. */
bool vit_embed(vit *v, const image *picture, float *out, error *e);
/* The same of what the processor gave: pixels [size,size,3], normalised. */
bool vit_embed_pixels(vit *v, const float *pixels, float *out, error *e);
int vit_input_size(const vit *v); /* that size */
/* CLIP only: the projected text features [width]. A prompt that is too long is cut. */
bool vit_embed_text(vit *v, const char *prompt, float *out, error *e);

/* For vit.c and vit_pixels.c. */
bool vit_processor_read(vit_processor *p, vit_kind kind, const char *folder, error *e);
/* pixels: [size,size,3], where size is what the processor ends with: vit_processor_size. */
int vit_processor_size(const vit_processor *p);
bool vit_pixels(const vit_processor *p, const image *picture, float *pixels, error *e);
/* torch's bicubic interpolation (a = -0.75, borders repeated): from [n,n,C] to [m,m,C]. */
void vit_interpolate(const float *from, int n, float *to, int m, int channels);

#endif
