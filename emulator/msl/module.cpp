// One .metal text as a loadable module. msl-compile writes kernels.inc: K(name) for every kernel.
#include "program_source.metal"

#define K(name) {#name, [] { name(); }},
extern "C" __attribute__((visibility("default"))) const mslemu_kernel mslemu_kernels[];
const mslemu_kernel mslemu_kernels[] = {
#include "kernels.inc"
    {nullptr, nullptr}};
