/* SPDX-License-Identifier: Apache-2.0
 *
 * moments: what is known of the maps of 8-bit moments when kernels are compiled (adamw.h has the
 * maps): the places of numbers, and cells of places, by which an index is found without a search.
 * C and C++ both include it. */
#ifndef LIKENESS_DEVICE_MOMENTS_H
#define LIKENESS_DEVICE_MOMENTS_H

#include <stdint.h>

enum { MAP_SIZE = 256 };

/* The place of a number of [-1, 1] is an integer that grows with it: a positive number's bits less
 * those of 2^-23, to which smaller ones are raised; in m, whose numbers have signs, the negatives
 * first. A place without its last CELL_M or CELL_V bits is a cell, small enough for at most two
 * indices to meet in it. */
enum {
    CELL_M = 17,
    CELL_V = 16,
    PLACE_LEAST = 104 << 23,                                /* the bits of 2^-23 */
    PLACE_ONE = 127 << 23,                                  /* and of 1 */
    PLACE_ZERO_M = PLACE_ONE - PLACE_LEAST + (1 << CELL_M), /* m's place of 2^-23; of -1 it is 0 */
    CELLS_M = 2 * PLACE_ZERO_M >> CELL_M,
    CELLS_V = ((PLACE_ONE - PLACE_LEAST) >> CELL_V) + 1,
    CELLS_ROOM = (CELLS_M + 15) / 16 * 16, /* for either; what follows is aligned */
};

/* The maps, their thresholds, and the index of each cell's first number. */
typedef struct moment_tables {
    float m[MAP_SIZE], v[MAP_SIZE];
    float threshold_m[MAP_SIZE], threshold_v[MAP_SIZE];
    uint8_t cell_m[CELLS_ROOM], cell_v[CELLS_ROOM];
} moment_tables;

#endif
