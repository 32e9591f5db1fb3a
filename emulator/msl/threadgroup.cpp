#include "threadgroup.h"

#include <cstdlib>
#include <cstring>

#include "fiber.h"

#ifndef __has_feature
#define __has_feature(x) 0
#endif

namespace mslemu {

__thread State state;

namespace {

// Behind every piece of threadgroup memory; AddressSanitizer has its own.
const size_t tail = __has_feature(address_sanitizer) ? 0 : 64;
const unsigned char fresh = 0xA5; // threadgroup memory is not zeroed

__thread Fibers *fibers;

// Pieces of threadgroup memory, those of parameters and of declarations. They stay from one threadgroup to the next,
// which spares the allocator, and are filled anew for each.
struct Piece {
    const void *key; // stands for the parameter or the declaration
    const char *name;
    unsigned char *data;
    size_t size;
    bool inUse;
};
const unsigned mostPieces = 64;
__thread Piece pieces[mostPieces];
__thread size_t total; // bytes in use

Piece *findPiece(const void *key, size_t size) {
    for (Piece &p : pieces)
        if (p.data && p.key == key && p.size == size)
            return &p;
    return nullptr;
}

Piece *makePiece(const void *key, const char *name, size_t size, size_t align) {
    for (Piece &p : pieces) {
        if (p.inUse)
            continue;
        free(p.data);
        void *data;
        if (posix_memalign(&data, align < 64 ? 64 : align, size + tail))
            fail("no memory");
        p = {key, name, (unsigned char *)data, size, false};
        return &p;
    }
    fail("too many declarations of threadgroup memory");
}

void *usePiece(const void *key, const char *name, size_t size, size_t align) {
    Piece *p = findPiece(key, size);
    if (!p)
        p = makePiece(key, name, size, align);
    p->inUse = true;
    memset(p->data, fresh, size + tail);
    total += (size + 15) & ~(size_t)15;
    if (total > MSLEMU_THREADGROUP_MEMORY)
        fail("%zu bytes of threadgroup memory, beyond the device's %d", total, MSLEMU_THREADGROUP_MEMORY);
    return p->data;
}

void useParameters() {
    static const char *const names[] = {"threadgroup(0)", "threadgroup(1)", "threadgroup(2)", "threadgroup(3)"};
    for (unsigned i = 0; i < MSLEMU_THREADGROUP_BUFFERS; i++) {
        size_t size = state.dispatch->threadgroup_memory[i];
        void *key = &state.threadgroup[i];
        state.threadgroup[i] = size ? usePiece(key, i < 4 ? names[i] : "threadgroup(n)", size, 64) : nullptr;
    }
}

void releasePieces() {
    for (Piece &p : pieces) {
        if (!p.inUse)
            continue;
        for (size_t k = 0; k < tail; k++)
            if (p.data[p.size + k] != fresh)
                fail("wrote behind the %zu bytes of %s", p.size, p.name);
        p.inUse = false;
    }
    total = 0;
}

[[noreturn]] void divergentBarrier() {
    fail("a barrier was not reached by every thread of threadgroup (%u, %u, %u)", state.group.x, state.group.y,
         state.group.z);
}

void selectThread(unsigned i) {
    const Dim &size = state.size;
    state.index = i;
    state.local = {i % size.x, i / size.x % size.y, i / (size.x * size.y)};
    state.position = {state.group.x * state.fullSize.x + state.local.x,
                      state.group.y * state.fullSize.y + state.local.y,
                      state.group.z * state.fullSize.z + state.local.z};
}

bool reversed() {
    static const bool on = getenv("MSLEMU_REVERSE") != nullptr;
    return on;
}

// The first thread ended without a barrier, so the others are plain calls, which are much cheaper than fibers.
void runPlainly(unsigned n) {
    for (unsigned k = 1; k < n; k++) {
        selectThread(reversed() ? n - k : k);
        state.dispatch->kernel->run();
    }
}

// Every thread runs to its next barrier or its end, again and again. At each barrier all of them must have come.
void runFibers(unsigned n) {
    for (unsigned i = 1; i < n; i++) {
        selectThread(i);
        enter(fibers, i);
    }
    for (;;) {
        unsigned done = 0;
        for (unsigned i = 0; i < n; i++)
            done += progress(fibers, i) == Progress::done;
        if (done == n)
            return;
        if (done)
            divergentBarrier();
        for (unsigned k = 0; k < n; k++) {
            unsigned i = reversed() ? n - 1 - k : k;
            selectThread(i);
            enter(fibers, i);
        }
    }
}

void runThreads(unsigned n) {
    rewind(fibers, n);
    selectThread(0);
    enter(fibers, 0);
    if (progress(fibers, 0) == Progress::done)
        runPlainly(n);
    else
        runFibers(n);
}

void flushSubnormals(bool on) {
#if defined(__x86_64__)
    const unsigned flushAndZero = 0x8040; // FTZ and DAZ
    unsigned mode = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(on ? mode | flushAndZero : mode & ~flushAndZero);
#elif defined(__aarch64__)
    unsigned long mode, flush = 1ul << 24;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    mode = on ? mode | flush : mode & ~flush;
    __asm__ volatile("msr fpcr, %0" : : "r"(mode));
#endif
}

unsigned groupsOf(unsigned grid, unsigned size) {
    return (grid + size - 1) / size;
}

unsigned sizeAt(unsigned grid, unsigned at, unsigned size) {
    unsigned rest = grid - at * size;
    return rest < size ? rest : size;
}

} // namespace

void prepareThread() {
    fibers = newFibers([] { state.dispatch->kernel->run(); });
}

void runThreadgroup(const mslemu_dispatch *d, Dim at) {
    const mslemu_size &grid = d->grid, &full = d->threadgroup;
    state.dispatch = d;
    state.grid = {grid.x, grid.y, grid.z};
    state.groups = {groupsOf(grid.x, full.x), groupsOf(grid.y, full.y), groupsOf(grid.z, full.z)};
    state.group = at;
    state.fullSize = {full.x, full.y, full.z};
    state.size = {sizeAt(grid.x, at.x, full.x), sizeAt(grid.y, at.y, full.y), sizeAt(grid.z, at.z, full.z)};
    useParameters();
    flushSubnormals(d->flush_subnormals);
    runThreads(state.size.x * state.size.y * state.size.z);
    flushSubnormals(false);
    releasePieces();
    state.dispatch = nullptr;
}

void barrier() {
    if (current(fibers) < 0)
        divergentBarrier(); // runPlainly's: the first thread met none
    wait(fibers);
}

void *localMemory(const void *key, const char *name, size_t size, size_t align) {
    Piece *p = findPiece(key, size);
    return p && p->inUse ? p->data : usePiece(key, name, size, align);
}

} // namespace mslemu
