#include "fiber.h"

#include <sys/mman.h>

#include "state.h"
#include "switch.h"

#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if __has_feature(address_sanitizer)
#include <sanitizer/common_interface_defs.h>
#define ASAN(call) call
#else
#define ASAN(call)
#endif

namespace mslemu {
namespace {

const size_t stackSize = 64 << 10; // its lowest page is unreadable
const size_t guardSize = 4096;

struct Fiber {
    void *stack = nullptr; // where it waits
    char *memory = nullptr;
    void *fake = nullptr; // AddressSanitizer's
    Progress progress = Progress::idle;
};

} // namespace

struct Fibers {
    void (*body)();
    Fiber fiber[MSLEMU_MAX_THREADS];
    int current = -1;
    void *scheduler = nullptr; // its stack, while a fiber runs
    void *fake = nullptr;      // AddressSanitizer's record of that
    const void *bottom = nullptr;
    size_t size = 0;
};

namespace {

__thread Fibers *starting; // a fiber's first function takes no argument

void leave(Fibers *all, Fiber &f) {
    ASAN(__sanitizer_start_switch_fiber(&f.fake, all->bottom, all->size));
    mslemu_switch(&f.stack, all->scheduler);
    ASAN(__sanitizer_finish_switch_fiber(f.fake, &all->bottom, &all->size));
}

void fiberMain() {
    Fibers *all = starting;
    ASAN(__sanitizer_finish_switch_fiber(nullptr, &all->bottom, &all->size));
    for (;;) {
        Fiber &f = all->fiber[all->current];
        all->body();
        f.progress = Progress::done;
        leave(all, f); // until the next threadgroup
    }
}

void makeStack(Fiber &f) {
    f.memory =
        (char *)mmap(nullptr, stackSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (f.memory == MAP_FAILED || mprotect(f.memory, guardSize, PROT_NONE))
        fail("no memory for the stacks of threads");
    f.stack = mslemu_fresh_stack(f.memory + stackSize, fiberMain);
}

} // namespace

Fibers *newFibers(void (*body)()) {
    Fibers *all = new Fibers;
    all->body = body;
    return all;
}

void enter(Fibers *all, unsigned i) {
    Fiber &f = all->fiber[i];
    if (!f.memory)
        makeStack(f);
    all->current = i;
    starting = all;
    ASAN(__sanitizer_start_switch_fiber(&all->fake, f.memory, stackSize));
    mslemu_switch(&all->scheduler, f.stack);
    ASAN(__sanitizer_finish_switch_fiber(all->fake, nullptr, nullptr));
    all->current = -1;
}

void wait(Fibers *all) {
    Fiber &f = all->fiber[all->current];
    f.progress = Progress::waiting;
    leave(all, f);
}

int current(const Fibers *all) {
    return all->current;
}

Progress progress(const Fibers *all, unsigned i) {
    return all->fiber[i].progress;
}

void rewind(Fibers *all, unsigned n) {
    for (unsigned i = 0; i < n; i++)
        all->fiber[i].progress = Progress::idle;
}

} // namespace mslemu
