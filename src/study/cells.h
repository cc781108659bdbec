/* SPDX-License-Identifier: Apache-2.0
 *
 * cells: the pictures of a study: their names, and making those that are missing so that steps
 * which several have in common are computed once. */
#ifndef LIKENESS_STUDY_CELLS_H
#define LIKENESS_STUDY_CELLS_H

#include "study/crew.h"
#include "plan/plan.h"

/* Fills each cell's name: a hash of everything that determines the picture. model_hash:
 * [plan->models]. */
void cells_name(study_plan *p, const char *const *model_hash, lk_precision precision);

/* One picture to be made. */
typedef struct cell_task {
    const study_cell *cell;
    int shared; /* its first steps that the task before it leaves ready */
} cell_task;

/* The distinct pictures that are not in folder/cells yet (folder NULL: all), in an order in which
 * neighbours have as many first steps in common as can be. */
typedef struct cell_work {
    cell_task *task;
    int count;
    int64_t steps, saved; /* of all tasks alone; of them computed only once for several */
} cell_work;

bool cells_plan(cell_work *out, const study_plan *p, const char *folder, error *e);
void cells_work_close(cell_work *w);

/* What making needs. */
typedef struct cell_maker {
    const crew *crew;        /* which work side by side */
    lk_model *const *models; /* [of the plan] */
    const char *folder;
    /* After each step, by the caller's thread; true: stop. */
    bool (*stepped)(void *user);
    void *user;
} cell_maker;

/* Makes them all into folder/cells/<name>.png. One that cannot be made (wrong for its model, NaN)
 * does not keep the others: its reason goes into the `why` of every cell of that name in the plan
 * (text of its arena), *failed counts them. A full disk, memory and a stop end it all. */
bool cells_make(const cell_work *w, const cell_maker *m, study_plan *p, int *failed, error *e);

#endif
