/* SPDX-License-Identifier: Apache-2.0
 *
 * photos_plan: the report's plan (examples/report.json) for somebody's own photos of one subject.
 */
#ifndef LIKENESS_STUDY_PHOTOS_PLAN_H
#define LIKENESS_STUDY_PHOTOS_PLAN_H

#include <jansson.h>
#include <stdbool.h>

#include "base/error.h"

typedef struct photos_request {
    const char *folder;     /* of the photos */
    const char *name;       /* what prompts call the subject: "sks dog" */
    const char *class_name; /* what it is one of: "dog" */
    const char *model;      /* NULL or "pocket": the default model; else a path */
} photos_request;

/* For json_decref. template: examples/report.json. Prompts get the subject's name and class; a
 * model other than the default is trained by the settings that are usual at its size. */
bool photos_plan(json_t **out, const photos_request *r, const char *template, error *e);

#endif
