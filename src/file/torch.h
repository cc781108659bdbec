/* SPDX-License-Identifier: Apache-2.0
 *
 * torch: the files of torch.save (.ckpt, .bin, .pt, .pth) as tables of tensors, in the zip form
 * (torch 1.6 and later) and the older one. Nothing in them is executed (file/pickle). */
#ifndef LIKENESS_FILE_TORCH_H
#define LIKENESS_FILE_TORCH_H

#include "file/safetensors.h"

bool torch_is(const void *begin, size_t size); /* by a file's first bytes */
/* As safetensors_open: numbers stay in the mapping but where a view of them is not in order. Of a
 * training's checkpoint only the weights are given ("state_dict"); the names of what is in dicts
 * and lists have their keys, with dots between. There is no metadata. */
bool torch_open(safetensors *out, const char *path, error *e);

/* A file of tensors in any of its forms, by its content; closed by safetensors_close. */
bool tensors_open(safetensors *out, const char *path, error *e);

#endif
