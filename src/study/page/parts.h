/* SPDX-License-Identifier: Apache-2.0
 *
 * parts: what the files that write the page share. */
#ifndef LIKENESS_STUDY_PAGE_PARTS_H
#define LIKENESS_STUDY_PAGE_PARTS_H

#include <stdio.h>

#include "page.h"
#include "study/claims/statements.h"

typedef struct page {
    FILE *out;
    const page_source *s;
    statements said;
    arena memory;   /* of what is gathered while writing */
    bool no_memory; /* something could not be gathered: the page is not whole */
} page;

/* Zeroed; NULL, and no_memory set, where there is none. */
void *page_alloc(page *p, size_t size);

static inline bool is_trained(const study_model *m) { return !m->path; }
static inline int section_cells(const study_section *s) { return s->rows * s->columns; }

/* Width and height of folder/cells/<name>.png, from its header; false where there is no such
 * picture. */
bool page_image_size(const page_source *s, const study_cell *c, int *width, int *height);

/* The pictures of a section with their settings, and the rules of style that depend on their
 * number. first: the number of the section's first picture in the study. */
void page_grid(page *p, const study_section *s, int first);
void page_grid_style(page *p);
void page_commands(page *p, const study_section *s);

void page_subjects(page *p);
void page_training(page *p);
bool page_any_trained(const study_plan *plan);

/* Charts, and what to know to read them. Each writes nothing where there is nothing to show. */
void figures_losses(page *p);
void figures_section(page *p, int section);
void figures_deep(page *p, int section);

extern const char page_style[], page_script[];

#endif
