/* SPDX-License-Identifier: Apache-2.0
 *
 * hash: the name that a model has by its weights. */
#ifndef LIKENESS_MODEL_HASH_H
#define LIKENESS_MODEL_HASH_H

#include "model/model.h"

/* SHA-256 in hex over, for every weight of the set in order, its name, its type and shape
 * ("F32 320 4 3 3"), each with its NUL, and the hex SHA-256 of its data. The same in every layout
 * of the files. */
void weight_set_hash(const weight_set *set, thread_pool *pool, char out[65]); /* pool may be NULL */
/* The one hash of a model, wherever one is shown or compared: SHA-256 in hex over the hex hashes of
 * its UNet, text encoder and autoencoder. Computed once for a model that was opened. */
void model_hash(const model *m, char out[65]);
void model_hash_with(const model *m, thread_pool *pool, char out[65]); /* the same, shared out */
/* The same, watched: in tensors of the network in hand. False where it was stopped. */
bool model_hash_watched(const model *m, thread_pool *pool, const work_watch *watch, char out[65],
                        error *e);

#endif
