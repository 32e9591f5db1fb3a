// How a kernel gets its arguments. An attribute such as [[buffer(0)]] reaches C++ as tokens, and keywords.h turns
//
//     device const uchar *src [[buffer(0)]]
//
// into a default argument:
//
//     const uchar *src [[maybe_unused]] = ::mslemu::buffer(0)[::mslemu::zero[0]]
//
// The attribute's two closing brackets close the two subscripts. So a kernel is called without arguments and each
// parameter takes its value from the emulator's state.
#pragma once
#include "state.h"

namespace mslemu {

static const int zero[1] = {0};

// Becomes the pointer or reference that the parameter is, after checks.
struct Memory {
    const char *kind;
    int index;
    void *data;
    size_t size;

    Memory operator[](int) const { return *this; }

    template <class T> T *as(size_t least) const {
        if (!data)
            fail("%s(%d) is not set", kind, index);
        if ((uintptr_t)data % alignof(T))
            fail("%s(%d) is not aligned to %zu bytes", kind, index, alignof(T));
        if (size < least)
            fail("%s(%d) holds %zu bytes, the kernel's type needs %zu", kind, index, size, least);
        return static_cast<T *>(data);
    }
    template <class T> operator T *() const { return as<T>(0); }
    template <class T> operator T &() const { return *as<T>(sizeof(T)); }
};

inline Memory buffer(int i) {
    return Memory{"buffer", i, state.dispatch->buffers[i].data, state.dispatch->buffers[i].size};
}

inline Memory threadgroupMemory(int i) {
    return Memory{"threadgroup", i, state.threadgroup[i], state.dispatch->threadgroup_memory[i]};
}

// Becomes the scalar or vector that the parameter is.
struct Position {
    Dim d;

    Position operator[](int) const { return *this; }
    operator uint() const { return d.x; }
    operator ushort() const { return (ushort)d.x; }
    operator uint2() const { return uint2(d.x, d.y); }
    operator uint3() const { return uint3(d.x, d.y, d.z); }
    operator ushort2() const { return ushort2(d.x, d.y); }
    operator ushort3() const { return ushort3(d.x, d.y, d.z); }
};

// Memory of a declaration inside a kernel. Tag is the type of a lambda, another one at every declaration.
template <class T, class Tag> inline T &local(Tag, const char *name) {
    static const char key = 0;
    return *static_cast<T *>(localMemory(&key, name, sizeof(T), alignof(T)));
}

} // namespace mslemu
