/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as a GGUF file: opened or refused; of an opened one every byte can
 * be read. */
#include "fuzz.h"

#include "file/gguf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_tensors(data, size, gguf_open);
    return 0;
}
