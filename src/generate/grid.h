/* SPDX-License-Identifier: Apache-2.0
 *
 * grid: pictures on one grid, a label beside each row and above each column. */
#ifndef LIKENESS_GENERATE_GRID_H
#define LIKENESS_GENERATE_GRID_H

#include "file/image.h"

/* cell: rows x columns, row by row; NULL leaves a place empty. A cell is as large as the largest
 * picture; smaller ones stand in its middle. Row labels are wrapped; labels, and each of them, may
 * be NULL. The grid is made new. */
bool grid_make(image *out, const image *const *cell, int rows, int columns,
               const char *const *row_label, const char *const *column_label, error *e);

#endif
