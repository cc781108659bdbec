/* SPDX-License-Identifier: Apache-2.0
 *
 * describe: a run in JSON: its settings under the names of their flags, its pictures and their
 * hashes, and the files that record it. */
#ifndef LIKENESS_TRAIN_DESCRIBE_H
#define LIKENESS_TRAIN_DESCRIBE_H

#include <jansson.h>

#include "train/trainer.h"

json_t *describe_settings(const train_settings *s);
json_t *describe_images(const trainer *t); /* {"instance": {file: sha256, ...}, "class": ...} */
/* A file's name as text: what is no UTF-8 of it as \xNN, and a backslash doubled, so that no two
 * names become one. malloc'ed; NULL when memory is out. */
char *describe_name(const char *name);
/* A text as it is, or where it is no UTF-8 as describe_name has it; null for NULL. */
json_t *describe_text(const char *text);

#endif
