/* SPDX-License-Identifier: Apache-2.0
 *
 * plugin: finds liblikeness-cuda.so, loads it once, and passes on what is asked of a GPU. It lies
 * where LIKENESS_CUDA says ("none": there is none), or beside the program or the library that this
 * code is in, or in the lib folder beside theirs. */
#include "device/plugin.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/platform.h"

static const char file_name[] = "liblikeness-cuda.so";

const device_plugin *plugin_load(const char *path, error *e)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        const char *why = dlerror();
        size_t own = strlen(path); /* what dlerror often begins with */
        if (why && strncmp(why, path, own) == 0 && why[own] == ':')
            why += own + 1 + (why[own + 1] == ' ');
        bool lacks = why && path_is_file(path) && strstr(why, "cannot open shared object file");
        error_set(e, ERROR_FILE, "%s cannot be loaded: %s%s", path, why ? why : "unknown reason",
                  lacks ? "; install NVIDIA's cuBLAS for CUDA 13 and cuDNN 9, or build it with "
                          "make cuda, which brings them"
                        : "");
        return NULL;
    }
    void *symbol = dlsym(library, DEVICE_PLUGIN_SYMBOL);
    device_plugin_function *function;
    memcpy(&function, &symbol, sizeof function);
    const device_plugin *p = symbol ? function() : NULL;
    if (!p)
        error_set(e, ERROR_FILE, "%s is no plug-in of likeness: it has no %s", path,
                  DEVICE_PLUGIN_SYMBOL);
    else if (p->abi != DEVICE_ABI || p->size != sizeof(device) ||
             strcmp(p->version, LIKENESS_VERSION) != 0)
        error_set(e, ERROR_FILE,
                  "%s is of likeness %s (interface %u), this is %s (interface %u): build it again "
                  "with make cuda",
                  path, p->version, (unsigned)p->abi, LIKENESS_VERSION, (unsigned)DEVICE_ABI);
    else
        return p;
    dlclose(library);
    return NULL;
}

/* ---- where it is ---- */

/* The environment is read once: a host may change it in another thread. */
static char *named;

static void named_read(void)
{
    const char *path = getenv("LIKENESS_CUDA");
    static const char *const places[] = {"", "../lib/"};
    if (path && strcmp(path, "none") == 0) return;
    if (!path || !*path)
        named = path_found(places, 2, file_name, path_is_file);
    else /* a name alone dlopen would look for elsewhere */
        named = strchr(path, '/') ? strdup(path) : path_join(".", path);
}

bool plugin_is_there(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, named_read);
    return named != NULL;
}

static const device_plugin *loaded(error *e)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static const device_plugin *plugin;
    if (!plugin_is_there()) {
        error_set(e, ERROR_USAGE, "no GPU can be used: %s is not there, make cuda builds it",
                  file_name);
        return NULL;
    }
    pthread_mutex_lock(&lock);
    if (!plugin) plugin = plugin_load(named, e);
    const device_plugin *p = plugin;
    pthread_mutex_unlock(&lock);
    return p;
}

/* ---- the kind ---- */

static bool cuda_make(device **out, const char *name, const device_options *o, error *e)
{
    const device_plugin *p = loaded(e);
    *out = NULL;
    return p && p->kind.make(out, name, o, e);
}

static bool cuda_card(int i, device_card *out, error *e)
{
    const device_plugin *p = loaded(e);
    return p && p->kind.card(i, out, e);
}

const device_kind device_kind_cuda = {"cuda", cuda_make, cuda_card};
