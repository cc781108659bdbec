/* SPDX-License-Identifier: Apache-2.0
 *
 * random: PyTorch's CPU generator (MT19937) and its distributions, draw for draw. */
#ifndef LIKENESS_BASE_RANDOM_H
#define LIKENESS_BASE_RANDOM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct rng {
    uint32_t state[624];
    int next;
    bool has_spare; /* the sine value of the last small normal draw */
    double spare;
} rng;

void rng_seed(rng *r, uint64_t seed); /* torch.Generator("cpu").manual_seed; low 32 bits count */
uint32_t rng_u32(rng *r);
uint64_t rng_random64(rng *r);        /* torch's full-range random_() for int64 */
float rng_uniform(rng *r);            /* [0,1) */
double rng_uniform_double(rng *r);
void rng_randn(rng *r, float *out, size_t n); /* torch.randn of n elements; n < 16 and tails as torch */
uint32_t rng_below(rng *r, uint32_t n);       /* torch.randint(0, n) */
void rng_permutation(rng *r, uint32_t *out, uint32_t n); /* torch.randperm */

#endif
