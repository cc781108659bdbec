/* SPDX-License-Identifier: Apache-2.0
 *
 * kept: folder/matches.safetensors: how well a subject's places were found in each picture of a
 * study, under the key of the subject and the picture's name, so that a killed or repeated run
 * looks only at what is new. */
#ifndef LIKENESS_STUDY_KEPT_H
#define LIKENESS_STUDY_KEPT_H

#include "measured.h"

/* It is only kept work: what cannot be read, or does not fit, is looked at again. */
bool kept_load(measured *m, const char *folder, error *e);
bool kept_save(const measured *m, const char *folder, error *e);

#endif
