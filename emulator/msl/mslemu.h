// Runs compiled .metal kernels: threadgroups on a fixed set of OS threads, the threads of a threadgroup as fibers with
// real barriers. A dispatch carries everything it needs, so any number of them may be in flight.
#pragma once
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    MSLEMU_BUFFERS = 31,
    MSLEMU_THREADGROUP_BUFFERS = 31,
    MSLEMU_MAX_THREADS = 1024,           // of a threadgroup
    MSLEMU_THREADGROUP_MEMORY = 32 << 10 // of a threadgroup: parameters and local arrays together
};

// A module, made by msl-compile, exports mslemu_kernels[]; its last element has no name.
typedef struct {
    const char *name;
    void (*run)(void);
} mslemu_kernel;

typedef struct {
    uint32_t x, y, z;
} mslemu_size;

typedef struct {
    void *data;
    size_t size; // bytes from data on
} mslemu_buffer;

typedef struct {
    const mslemu_kernel *kernel;
    mslemu_size grid, threadgroup; // in threads; the last threadgroups of a row may be smaller
    mslemu_buffer buffers[MSLEMU_BUFFERS];
    size_t threadgroup_memory[MSLEMU_THREADGROUP_BUFFERS]; // bytes of [[threadgroup(i)]]
    int flush_subnormals;                                  // as fast math allows
    int corrupt;                                           // alter one element that threadgroup victim wrote
    mslemu_size victim;
} mslemu_dispatch;

// Returns when the whole grid has run. Any thread may call it, any number at once.
void mslemu_run(const mslemu_dispatch *);

#ifdef __cplusplus
}
#endif
