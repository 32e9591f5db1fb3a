// The keywords of MSL as macros. Comes last: nothing but the .metal text is compiled after it.
#pragma once
#include "arguments.h"

#ifdef MSLEMU_LIST // preprocessing only, for msl-compile, which looks for these marks
#define kernel MSLEMU_KERNEL
#define threadgroup MSLEMU_THREADGROUP
#else
#define kernel
// Not a name of nothing, so that a pointer to threadgroup memory is another type than one to device memory.
#define threadgroup volatile
#endif
#define device
#define constant const
#define thread

// msl-compile rewrites "threadgroup T name[n];" inside a kernel to this.
#define MSLEMU_LOCAL(T, name, dimensions)                                                                              \
    typedef volatile T name##_memory dimensions;                                                                       \
    name##_memory &name = ::mslemu::local<name##_memory>([] {}, #name)

// clang-format off
// "[[threadgroup(0)]]" has become "[[volatile(0)]]" when this one is looked up.
#define volatile(n)                      maybe_unused]] = ::mslemu::threadgroupMemory(n)[::mslemu::zero[0
#define buffer(n)                        maybe_unused]] = ::mslemu::buffer(n)[::mslemu::zero[0
#define MSLEMU_POSITION(e)               maybe_unused]] = ::mslemu::Position{e}[::mslemu::zero[0
#define MSLEMU_INDEX(e)                  MSLEMU_POSITION((::mslemu::Dim{e, 0, 0}))
#define thread_position_in_grid          MSLEMU_POSITION(::mslemu::state.position)
#define threads_per_grid                 MSLEMU_POSITION(::mslemu::state.grid)
#define threadgroup_position_in_grid     MSLEMU_POSITION(::mslemu::state.group)
#define threadgroups_per_grid            MSLEMU_POSITION(::mslemu::state.groups)
#define thread_position_in_threadgroup   MSLEMU_POSITION(::mslemu::state.local)
#define threads_per_threadgroup          MSLEMU_POSITION(::mslemu::state.size)
#define dispatch_threads_per_threadgroup MSLEMU_POSITION(::mslemu::state.fullSize)
#define thread_index_in_threadgroup      MSLEMU_INDEX(::mslemu::state.index)
// clang-format on
