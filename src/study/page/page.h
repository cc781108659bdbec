/* SPDX-License-Identifier: Apache-2.0
 *
 * page: report.html, the study as one page that opens from disk, needs no network and no script to
 * be read; and cells.csv for those who plot themselves. */
#ifndef LIKENESS_STUDY_PAGE_H
#define LIKENESS_STUDY_PAGE_H

#include "study/measure/measure.h"
#include "study/measure/subject_images.h"

typedef struct page_source {
    const study_plan *plan;
    const study_measures *measures;
    const subject_images *pictures; /* [measures->subjects] NULL: none lie in the folder */
    const char *folder; /* of the study; pictures in cells/, trained models in models/<name> */
    const char *const *model_hash; /* [plan->models] 64 hex digits */
    const char *device;            /* "cpu avx2, 2 threads" */
    lk_precision precision;        /* of the pictures */
    const char *clip, *dino;       /* what the study was given besides; NULL: none */
    const char *version;
    int64_t steps, steps_shared; /* network evaluations of all cells alone, and those saved */
    double seconds;              /* of all runs that made it; 0: not told */
    double peak_mb;
    double *training_seconds; /* [plan->models] 0: not trained */
} page_source;

bool page_write(const page_source *s, error *e);       /* folder/report.html */
bool page_write_cells(const page_source *s, error *e); /* folder/cells.csv */

#endif
