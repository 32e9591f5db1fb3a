// One threadgroup: its threads as fibers, its memory.
#pragma once
#include "state.h"

namespace mslemu {

// Makes this OS thread one that runs threadgroups; once, before runThreadgroup.
void prepareThread();

// Runs the threadgroup at position at.
void runThreadgroup(const mslemu_dispatch *, Dim at);

} // namespace mslemu
