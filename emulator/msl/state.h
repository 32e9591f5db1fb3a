// What the dispatcher and a compiled kernel share: the GPU thread that runs now, barriers, threadgroup memory.
#pragma once
#include "mslemu.h"
#include "types.h"

namespace mslemu {

struct Dim {
    uint x, y, z;
};

// One per OS thread. __thread and not thread_local: no initialization function that modules would have to share.
struct State {
    const mslemu_dispatch *dispatch; // null between threadgroups
    Dim grid;                        // threads_per_grid
    Dim groups;                      // threadgroups_per_grid
    Dim group;                       // threadgroup_position_in_grid
    Dim fullSize;                    // dispatch_threads_per_threadgroup
    Dim size;                        // threads_per_threadgroup: smaller at the edges of a ragged grid
    Dim position;                    // thread_position_in_grid
    Dim local;                       // thread_position_in_threadgroup
    uint index;                      // thread_index_in_threadgroup
    void *threadgroup[MSLEMU_THREADGROUP_BUFFERS];
};
extern __thread State state;

// Waits until every thread of the threadgroup has come here.
void barrier();

// The threadgroup's memory for one declaration, the same for all its threads, which key stands for.
void *localMemory(const void *key, const char *name, size_t size, size_t align);

// Ends the process with a message that names the kernel.
[[noreturn]] void fail(const char *format, ...);

} // namespace mslemu
