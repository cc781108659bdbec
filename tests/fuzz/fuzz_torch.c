/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as a PyTorch file, of either form: opened or refused; of an opened one every byte can
 * be read. */
#include "fuzz.h"

#include "file/torch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_tensors(data, size, torch_open);
    return 0;
}
