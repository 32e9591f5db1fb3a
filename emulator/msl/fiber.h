// Fibers: threads of a threadgroup that switch at barriers only. They belong to one OS thread for life, because
// compilers keep thread-local addresses across a switch.
#pragma once

namespace mslemu {

struct Fibers; // those of one OS thread

Fibers *newFibers(void (*body)());

// Runs body on fiber i, from its start or from where it waits, until it waits or ends.
void enter(Fibers *, unsigned i);

// Called on a fiber: back to enter's caller, until the next enter. Not called on a fiber, it is an error: see current.
void wait(Fibers *);

// Which fiber runs, or -1.
int current(const Fibers *);

enum class Progress { idle, waiting, done };
Progress progress(const Fibers *, unsigned i);

// Makes the first n fibers idle again; all are done.
void rewind(Fibers *, unsigned n);

} // namespace mslemu
