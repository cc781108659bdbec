/* SPDX-License-Identifier: Apache-2.0
 *
 * page_parts: what the files that write the page share. */
#ifndef LIKENESS_STUDY_PAGE_PARTS_H
#define LIKENESS_STUDY_PAGE_PARTS_H

#include <stdio.h>

#include "study/page.h"

typedef struct page {
    FILE *out;
    const page_source *s;
    arena memory;         /* of what is gathered while writing */
    bool no_memory;       /* something could not be gathered: the page is not whole */
} page;

/* Zeroed; NULL, and no_memory set, where there is none. */
void *page_alloc(page *p, size_t size);

static inline bool is_trained(const study_model *m) { return !m->path; }

/* Sentences about the measures, as items of a list. */
void findings_write(page *p);
bool findings_any(const page_source *s);

/* Charts, and what to know to read them. Each writes nothing where there is nothing to show. */
void figures_losses(page *p);
void figures_measures(page *p);
bool figures_any(const page_source *s);

extern const char page_style[], page_script[];

#endif
