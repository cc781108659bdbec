/* SPDX-License-Identifier: Apache-2.0
 *
 * merge: models whose weights are sums of other models' weights. */
#ifndef LIKENESS_MODEL_MERGE_H
#define LIKENESS_MODEL_MERGE_H

#include "model/save.h"

/* Both sets hold the same weights, but for their values; else they "cannot be " what, of the files
 * where_a and where_b. */
bool weights_alike(const weight_set *a, const char *where_a, const weight_set *b,
                   const char *where_b, const char *what, error *e);
/* out = share[0]*set[0] + share[1]*set[1] + ..., in float32 and in this order. Names are borrowed
 * from the first set; where[i]: whose set i is, for messages. NaN and infinity are refused. */
bool weights_merge(weight_set *out, const weight_set *const *set, const float *share,
                   const char *const *where, int count, const work_watch *watch, error *e);

/* Writes such a sum of models, their UNets and text encoders, as model_save does; autoencoder,
 * tokenizer and scheduler are the first's. The networks must be the same. A folder is refused where
 * a file of a part would be written over; one that was not there is removed again when it fails. */
bool model_merge(const model *const *part, const float *share, int count, const char *folder,
                 const work_watch *watch, error *e);
/* The same of one model by itself. as: the type of its weights; NULL: as they are. */
bool model_save_folder(const model *m, const char *folder, const dtype *as, const work_watch *watch,
                       error *e);

#endif
