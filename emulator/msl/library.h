// The functions of <metal_stdlib> that integer kernels use.
#pragma once
#include "state.h"

namespace metal {

enum class mem_flags { mem_none = 0, mem_device = 1, mem_threadgroup = 2 };

inline void threadgroup_barrier(mem_flags) {
    mslemu::barrier();
}

inline uint clz(uint x) {
    return x ? (uint)__builtin_clz(x) : 32u;
}
inline uint ctz(uint x) {
    return x ? (uint)__builtin_ctz(x) : 32u;
}
inline uint popcount(uint x) {
    return (uint)__builtin_popcount(x);
}
template <class T> inline T min(T a, T b) {
    return b < a ? b : a;
}
template <class T> inline T max(T a, T b) {
    return a < b ? b : a;
}
template <class T> inline T clamp(T x, T low, T high) {
    return min(max(x, low), high);
}
template <class T> inline T select(T a, T b, bool c) {
    return c ? b : a;
}

// Threadgroups run on several OS threads, so atomics are real ones. MSL has the relaxed order only.
enum memory_order { memory_order_relaxed };

template <class T> struct atomic {
    T value;
};
typedef atomic<uint> atomic_uint;
typedef atomic<int> atomic_int;

template <class T> inline T atomic_load_explicit(const volatile atomic<T> *a, memory_order) {
    return __atomic_load_n(&a->value, __ATOMIC_RELAXED);
}
template <class T> inline void atomic_store_explicit(volatile atomic<T> *a, decltype(T()) x, memory_order) {
    __atomic_store_n(&a->value, x, __ATOMIC_RELAXED);
}
template <class T> inline T atomic_exchange_explicit(volatile atomic<T> *a, decltype(T()) x, memory_order) {
    return __atomic_exchange_n(&a->value, x, __ATOMIC_RELAXED);
}
template <class T>
inline bool atomic_compare_exchange_weak_explicit(volatile atomic<T> *a, T *expected, decltype(T()) x, memory_order,
                                                  memory_order) {
    return __atomic_compare_exchange_n(&a->value, expected, x, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}
#define MSLEMU_FETCH(op)                                                                                               \
    template <class T> inline T atomic_fetch_##op##_explicit(volatile atomic<T> *a, decltype(T()) x, memory_order) {   \
        return __atomic_fetch_##op(&a->value, x, __ATOMIC_RELAXED);                                                    \
    }
MSLEMU_FETCH(add)
MSLEMU_FETCH(sub)
MSLEMU_FETCH(or)
MSLEMU_FETCH(and)
MSLEMU_FETCH(xor)
MSLEMU_FETCH(min)
MSLEMU_FETCH(max)
#undef MSLEMU_FETCH

} // namespace metal
