/* SPDX-License-Identifier: Apache-2.0
 *
 * table: all samplers there are, in the order of sampler_kind. Pictures' names in a study's
 * folder count on their numbers: what is new comes last. */
#include "row.h"

const sampler_row *const sampler_table[] = {
    &sampler_ddim,    &sampler_ddpm,     &sampler_pndm,         &sampler_euler,
    &sampler_euler_a, &sampler_heun,     &sampler_lms,          &sampler_dpm2,
    &sampler_dpm2_a,  &sampler_dpmpp_2m, &sampler_dpmpp_2m_sde, &sampler_dpmpp_sde,
    &sampler_unipc,   &sampler_deis,     &sampler_lcm,          &sampler_tcd,
};
const int sampler_table_count = sizeof sampler_table / sizeof *sampler_table;
