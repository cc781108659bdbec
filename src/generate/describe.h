/* SPDX-License-Identifier: Apache-2.0
 *
 * describe: what a model is, in lines for people. */
#ifndef LIKENESS_GENERATE_DESCRIBE_H
#define LIKENESS_GENERATE_DESCRIBE_H

#include "model/model.h"

/* malloc'ed; NULL with an error. Reads every weight, for the hash, which is watched. */
char *model_describe(const model *m, thread_pool *pool, const work_watch *watch, error *e);

#endif
