/* SPDX-License-Identifier: Apache-2.0
 *
 * overlay: a set of weights of which some have other data than their file. */
#ifndef LIKENESS_MODEL_OVERLAY_H
#define LIKENESS_MODEL_OVERLAY_H

#include "base/arena.h"
#include "graph/graph.h"

/* The set, with items of its own that the caller may then point into `memory`, which becomes the
 * set's (the arena is empty afterwards); what it had before lasts as long as it. On failure nothing
 * has changed. */
bool weight_set_overlay(weight_set *set, arena *memory, error *e);

#endif
