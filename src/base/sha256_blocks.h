/* SPDX-License-Identifier: Apache-2.0
 *
 * sha256_blocks: the two ways of sha256.c to take whole blocks of 64 bytes into a state; the same
 * results. */
#ifndef LIKENESS_BASE_SHA256_BLOCKS_H
#define LIKENESS_BASE_SHA256_BLOCKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

extern const uint32_t sha256_round_constant[64];

void sha256_blocks_plain(uint32_t state[8], const uint8_t *in, size_t blocks);
bool sha256_has_ni(void); /* whether the processor has the instructions of the next one */
void sha256_blocks_ni(uint32_t state[8], const uint8_t *in, size_t blocks);

#endif
