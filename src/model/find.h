/* SPDX-License-Identifier: Apache-2.0
 *
 * find: where what comes with the program lies: the pocket model. */
#ifndef LIKENESS_MODEL_FIND_H
#define LIKENESS_MODEL_FIND_H

#include "base/error.h"

/* The pocket model: in $LIKENESS_MODELS, or beside us. malloc'ed; NULL on failure. */
char *find_pocket(error *e);

#endif
