/* SPDX-License-Identifier: Apache-2.0
 *
 * field: the measures of the DreamBooth paper (Ruiz et al. 2023), by networks that the user
 * brought:
 *
 *   CLIP-I, DINO   of each picture the mean cosine of its embedding with those of the subject's own
 * pictures. The subject's own pictures among themselves are a row with model -1 and prompt "".
 *   CLIP-T         the cosine with the embedding of the prompt, the subject's words left out of it.
 *   PRES           DINO's of the pictures of prompts that name the class and no more, a row a
 * model: high where other things of the class have become the subject. DIV            the mean of 1
 * - DINO's cosine between pictures of one prompt that names the subject: low where they are all
 * alike. The paper takes LPIPS, whose network is not run here. */
#ifndef LIKENESS_STUDY_FIELD_H
#define LIKENESS_STUDY_FIELD_H

#include "measured.h"

/* Whether the folders can be opened and are what they are given for; NULL passes. To be asked
 * before any work is done. */
bool field_check(lk_session *session, const char *clip, const char *dino, error *e);

/* Fills out->field; nothing where the source names no network. */
bool field_measure(study_measures *out, const measured *m, const measure_source *s, error *e);

#endif
