// The scalar and vector types of MSL.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long ulong;
static_assert(sizeof(ulong) == 8, "LP64 only");

// Size and alignment are MSL's: a vector of three takes the room of four.
#define MSLEMU_COMPONENTWISE(V, N, op)                                                                                 \
    inline V operator op(const V &a, const V &b) {                                                                     \
        V r;                                                                                                           \
        for (int i = 0; i < N; i++)                                                                                    \
            r[i] = a[i] op b[i];                                                                                       \
        return r;                                                                                                      \
    }
#define MSLEMU_VECTOR(T, N, SLOTS, MEMBERS, PARAMETERS, INIT)                                                          \
    struct alignas(SLOTS * sizeof(T)) T##N {                                                                           \
        T MEMBERS;                                                                                                     \
        T##N() : T##N(T(0)) {}                                                                                         \
        explicit T##N(T all) {                                                                                         \
            for (int i = 0; i < N; i++)                                                                                \
                (&x)[i] = all;                                                                                         \
        }                                                                                                              \
        T##N PARAMETERS : INIT {}                                                                                      \
        T &operator[](int i) {                                                                                         \
            return (&x)[i];                                                                                            \
        }                                                                                                              \
        const T &operator[](int i) const {                                                                             \
            return (&x)[i];                                                                                            \
        }                                                                                                              \
    };                                                                                                                 \
    MSLEMU_COMPONENTWISE(T##N, N, +)                                                                                   \
    MSLEMU_COMPONENTWISE(T##N, N, -)                                                                                   \
    MSLEMU_COMPONENTWISE(T##N, N, *)
#define MSLEMU_COMMA ,
#define MSLEMU_VECTORS(T)                                                                                              \
    MSLEMU_VECTOR(T, 2, 2, x MSLEMU_COMMA y, (T a, T b), x(a) MSLEMU_COMMA y(b))                                       \
    MSLEMU_VECTOR(T, 3, 4, x MSLEMU_COMMA y MSLEMU_COMMA z, (T a, T b, T c), x(a) MSLEMU_COMMA y(b) MSLEMU_COMMA z(c)) \
    MSLEMU_VECTOR(T, 4, 4, x MSLEMU_COMMA y MSLEMU_COMMA z MSLEMU_COMMA w, (T a, T b, T c, T d),                       \
                  x(a) MSLEMU_COMMA y(b) MSLEMU_COMMA z(c) MSLEMU_COMMA w(d))

MSLEMU_VECTORS(uchar)
MSLEMU_VECTORS(ushort)
MSLEMU_VECTORS(uint)
MSLEMU_VECTORS(ulong)
MSLEMU_VECTORS(int)
MSLEMU_VECTORS(float)
#undef MSLEMU_VECTORS
#undef MSLEMU_VECTOR
#undef MSLEMU_COMPONENTWISE

template <class To, class From> inline To as_type(From f) {
    static_assert(sizeof(To) == sizeof(From), "as_type: sizes differ");
    To t;
    std::memcpy(&t, &f, sizeof t);
    return t;
}
