/* SPDX-License-Identifier: Apache-2.0
 *
 * sigma_text: what people write for sigmas: a name ("karras", or "Schedule type" of AUTOMATIC1111),
 * or the list itself ("14.6,7,2,0.5,0"). */
#ifndef LIKENESS_GENERATE_SIGMA_TEXT_H
#define LIKENESS_GENERATE_SIGMA_TEXT_H

#include <stddef.h>

#include "base/error.h"
#include "model/config.h"

/* The normal name of a kind that is named, or NULL: "karras" for "Karras". */
const char *sigmas_name(const char *text);
/* As AUTOMATIC1111 writes it ("Karras"); NULL for a list and what is none. */
const char *sigmas_label(const char *text);
/* What the text means; for a list also its steps, one less than its numbers (0: none is given).
 * False: neither. */
bool sigmas_read(const char *text, sigma_kind *kind, int *steps, error *e);
/* The numbers of a list, which sigmas_read has found good. */
void sigma_list_read(const char *text, float *out, int count);
/* The name that `text`, without spaces, - and _, ends with ("dpmpp2mkarras"), or NULL; *length:
 * what is before it. */
const char *sigmas_ending(const char *text, size_t *length);

#endif
