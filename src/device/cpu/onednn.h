/* SPDX-License-Identifier: Apache-2.0
 *
 * onednn: the one place that knows oneDNN, in its versions 2 and 3. It takes the plain bfloat16
 * products (linear layers and 1x1 convolutions) of processors that multiply bfloat16. */
#ifndef LIKENESS_DEVICE_CPU_ONEDNN_H
#define LIKENESS_DEVICE_CPU_ONEDNN_H

#include "device/cpu/product.h"

/* Primitives for the problem, NULL where it is none of oneDNN's; false only with an error. */
bool onednn_open(const device *d, product *p, error *e);
void onednn_close(struct onednn_product *o);
size_t onednn_scratch(const product *p);
/* Packs the weight in the primitive's own layout. */
bool onednn_bind(const device *d, const product *p, const array *w, error *e);
bool onednn_run(const device *d, const product *p, const struct product_data *data, error *e);

#endif
