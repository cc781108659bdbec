/* SPDX-License-Identifier: Apache-2.0
 *
 * random: PyTorch's CPU generator (MT19937) and its distributions, draw for draw and value for
 * value: a seed must give the picture that it gives with diffusers. */
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
    bool is_cuda; /* rng_seed_cuda: of the rest rng_randn alone serves */
    uint32_t key[2], calls;
} rng;

/* Python's random.seed(seed); of the rest rng_choice alone is Python's. */
void rng_seed_python(rng *r, uint64_t seed);
uint32_t rng_choice(rng *r, uint32_t n); /* the place that Python's random.choice takes, n > 0 */
void rng_seed(rng *r, uint64_t seed);    /* torch.Generator("cpu").manual_seed; low 32 bits count */
/* torch.Generator("cuda").manual_seed, for rng_randn of as many numbers as a GPU has threads for (a
 * hundred thousand and more: of greater draws a GPU's own kind decides). */
void rng_seed_cuda(rng *r, uint64_t seed);
uint32_t rng_u32(rng *r);
uint64_t rng_random64(rng *r); /* torch's full-range random_() for int64: 0 .. 2^63-1 */
float rng_uniform(rng *r);     /* [0,1) */
double rng_uniform_double(rng *r);
/* torch.randn of n elements. Below 16, values come in pairs and the second is kept for the next
 * small draw; from 16 on, a tail that does not fill 16 makes torch draw the last 16 values anew. So
 * the counts matter: two draws of 10 are other values than one draw of 20. */
void rng_randn(rng *r, float *out, size_t n);
/* torch's normal_ on a tensor that is not contiguous (channels-last, say): its values in the order
 * of its memory, each drawn as a small draw's is. */
void rng_randn_strided(rng *r, float *out, size_t n);
uint32_t rng_below(rng *r, uint32_t n);                  /* torch.randint(0, n), n > 0 */
void rng_permutation(rng *r, uint32_t *out, uint32_t n); /* torch.randperm */

#endif
