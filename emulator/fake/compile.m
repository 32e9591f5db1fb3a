// newLibraryWithSource: in the fake: msl-compile, then dlopen.
#include "objects.h"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#if __has_feature(address_sanitizer)
#define SANITIZE " -fsanitize=address"
#else
#define SANITIZE ""
#endif

BOOL fake_metal_all_fast(void) {
    return getenv("FAKE_METAL_FAST") != NULL;
}

static char *read_file(const char *path) {
    const size_t most = 16 << 10;
    char *text = calloc(1, most);
    FILE *f = fopen(path, "r");
    if (f) {
        if (!fread(text, 1, most - 1, f))
            *text = 0;
        fclose(f);
    }
    return text;
}

static void write_file(const char *path, const char *text) {
    FILE *f = fopen(path, "w");
    if (!f || fputs(text, f) < 0 || fclose(f))
        fake_metal_die("cannot write into the module cache");
}

// run_compiler prints the module's path to path; diagnostics go to a file.
static int run_compiler(const char *in, const char *cache, const char *diagnostics, char *path, int size) {
    char command[4096];
    snprintf(command, sizeof command, "'" FAKE_METAL_MSL "/msl-compile' '%s' '%s'" SANITIZE "%s 2>'%s'", in, cache,
             fake_metal_all_fast() ? " -O3 -ffast-math" : "", diagnostics);
    FILE *p = popen(command, "r");
    if (!p)
        fake_metal_die("cannot start msl-compile");
    if (fgets(path, size, p))
        path[strcspn(path, "\n")] = 0;
    return pclose(p);
}

const mslemu_kernel *fake_metal_compile(const char *source, char **text) {
    static _Atomic int serial;
    const char *cache = getenv("FAKE_METAL_CACHE");
    char in[600], diagnostics[620], path[600] = "";
    if (!cache)
        cache = FAKE_METAL_BUILD "/modules";
    mkdir(cache, 0777);
    snprintf(in, sizeof in, "%s/source.%d.%d", cache, getpid(), serial++);
    snprintf(diagnostics, sizeof diagnostics, "%s.out", in);
    write_file(in, source);
    if (run_compiler(in, cache, diagnostics, path, sizeof path))
        *text = read_file(diagnostics);
    unlink(in);
    unlink(diagnostics);
    if (*text)
        return NULL;
    void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL); // never closed: kernels outlive their library
    if (!module)
        fake_metal_die(dlerror());
    return dlsym(module, "mslemu_kernels");
}
