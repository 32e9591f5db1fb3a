// Switching between stacks, without a system call and without longjmp, which AddressSanitizer and _FORTIFY_SOURCE stop
// for or look into.
#pragma once

// Saves what a call must preserve on this stack and this stack in *from, then goes on where to was saved.
extern "C" void mslemu_switch(void **from, void *to);

#if defined(__x86_64__)
__asm__(R"(
.text
.globl mslemu_switch
.hidden mslemu_switch
.type mslemu_switch, @function
mslemu_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size mslemu_switch, .-mslemu_switch
)");

// A stack that is ready to be switched to, at the beginning of entry, which never returns.
inline void *mslemu_fresh_stack(char *top, void (*entry)()) {
    void **sp = (void **)top;
    *--sp = nullptr; // entry's return address
    *--sp = (void *)entry;
    for (int i = 0; i < 6; i++)
        *--sp = nullptr;
    return sp;
}

#elif defined(__aarch64__)
__asm__(R"(
.text
.globl mslemu_switch
.hidden mslemu_switch
.type mslemu_switch, %function
mslemu_switch:
    sub sp, sp, #160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
.size mslemu_switch, .-mslemu_switch
)");

inline void *mslemu_fresh_stack(char *top, void (*entry)()) {
    void **sp = (void **)(top - 160);
    for (int i = 0; i < 20; i++)
        sp[i] = nullptr;
    sp[11] = (void *)entry; // x30
    return sp;
}

#else
#error "no stack switch for this processor"
#endif
