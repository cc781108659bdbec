/* SPDX-License-Identifier: Apache-2.0
 *
 * sampler_table: all samplers there are, in the order of sampler_kind. */
#include "generate/sampler_row.h"

const sampler_row *const sampler_table[] = {&sampler_ddim, &sampler_ddpm};
const int sampler_table_count = sizeof sampler_table / sizeof *sampler_table;
