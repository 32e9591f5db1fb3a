// Ends of the process: what a kernel must not do, told with the kernel's name.
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>

#include "state.h"

#ifndef __has_feature
#define __has_feature(x) 0
#endif

namespace mslemu {

void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "mslemu: %s: ", state.dispatch ? state.dispatch->kernel->name : "no kernel");
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    abort();
}

} // namespace mslemu

#if !__has_feature(address_sanitizer)

static void onFault(int signal_, siginfo_t *info, void *) {
    using mslemu::state;
    if (!state.dispatch) { // not a thread of ours, or not in a kernel
        signal(signal_, SIG_DFL);
        return;
    }
    char *address = (char *)info->si_addr;
    long best = -1;
    int nearest = 0;
    for (int i = 0; i < MSLEMU_BUFFERS; i++) {
        char *data = (char *)state.dispatch->buffers[i].data;
        if (data && (best < 0 || labs(address - data) < best)) {
            best = labs(address - data);
            nearest = i;
        }
    }
    const mslemu_buffer &b = state.dispatch->buffers[nearest];
    mslemu::fail("touched buffer(%d) at byte %ld of %zu", nearest, (long)(address - (char *)b.data), b.size);
}

// Installed when the library is loaded, before the Go runtime's handlers, which pass on what happens on threads of
// ours.
__attribute__((constructor)) static void watchFaults() {
    struct sigaction a = {};
    a.sa_sigaction = onFault;
    a.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &a, nullptr);
    sigaction(SIGBUS, &a, nullptr);
}

// What clang calls where a check of msl-compile's fails.
#define REPORT(check, words)                                                                                           \
    extern "C" [[noreturn]] void __ubsan_handle_##check##_minimal_abort() {                                            \
        mslemu::fail(words);                                                                                           \
    }
REPORT(type_mismatch, "a misaligned or null access")
REPORT(out_of_bounds, "an index outside its array")
REPORT(shift_out_of_bounds, "a shift by the width of the type or more")
REPORT(divrem_overflow, "a division by zero or one that overflows")
REPORT(add_overflow, "a signed addition overflows")
REPORT(sub_overflow, "a signed subtraction overflows")
REPORT(mul_overflow, "a signed multiplication overflows")
REPORT(negate_overflow, "a signed negation overflows")

#endif
