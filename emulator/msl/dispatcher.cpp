// Takes dispatches and spreads their threadgroups over OS threads.
#include <condition_variable>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include "threadgroup.h"

namespace mslemu {
namespace {

struct Task {
    const mslemu_dispatch *dispatch;
    Dim groups;
    size_t total;           // threadgroups
    size_t next = 0;        // the first that no thread has taken
    size_t unfinished;      //
    size_t skip = SIZE_MAX; // one that is left to corrupt()

    Dim at(size_t i) const {
        return {uint(i % groups.x), uint(i / groups.x % groups.y), uint(i / ((size_t)groups.x * groups.y))};
    }
};

// Dispatches take turns, four threadgroups at a time, so that those in flight interleave on every OS thread.
class Pool {
public:
    Pool() {
        const char *s = getenv("MSLEMU_WORKERS");
        unsigned n = s ? atoi(s) : std::thread::hardware_concurrency();
        // The host program's signals are not for these threads: Go's handlers need more stack than a fiber has.
        sigset_t all, old;
        sigfillset(&all);
        for (int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT})
            sigdelset(&all, fault);
        pthread_sigmask(SIG_SETMASK, &all, &old);
        for (unsigned i = 0; i < (n < 2 ? 2 : n); i++)
            std::thread([this] { work(); }).detach();
        pthread_sigmask(SIG_SETMASK, &old, nullptr);
    }

    void run(Task &t) {
        std::unique_lock<std::mutex> lock(mutex);
        tasks.push_back(&t);
        added.notify_all();
        finished.wait(lock, [&] { return t.unfinished == 0; });
    }

private:
    std::mutex mutex;
    std::condition_variable added, finished;
    std::deque<Task *> tasks;

    void work() {
        prepareThread();
        std::unique_lock<std::mutex> lock(mutex);
        for (;;) {
            added.wait(lock, [this] { return !tasks.empty(); });
            Task *t = tasks.front();
            tasks.pop_front();
            size_t begin = t->next, end = begin + 4 < t->total ? begin + 4 : t->total;
            t->next = end;
            if (end < t->total)
                tasks.push_back(t);
            lock.unlock();
            for (size_t i = begin; i < end; i++)
                if (i != t->skip)
                    runThreadgroup(t->dispatch, t->at(i));
            lock.lock();
            t->unfinished -= end - begin;
            if (!t->unfinished)
                finished.notify_all();
        }
    }
};

Pool &pool() {
    static Pool &p = *new Pool; // lives as long as the process: its threads do
    return p;
}

Task taskOf(const mslemu_dispatch *d) {
    auto groups = [](uint grid, uint size) { return (grid + size - 1) / size; };
    Task t;
    t.dispatch = d;
    t.groups = {groups(d->grid.x, d->threadgroup.x), groups(d->grid.y, d->threadgroup.y),
                groups(d->grid.z, d->threadgroup.z)};
    t.total = t.unfinished = (size_t)t.groups.x * t.groups.y * t.groups.z;
    return t;
}

// One threadgroup of a dispatch whose others have run: a task of its own, so that it too runs on a prepared thread.
void runAlone(const Task &whole, size_t i) {
    Task t = whole;
    t.skip = SIZE_MAX;
    t.next = i;
    t.total = i + 1;
    t.unfinished = 1;
    pool().run(t);
}

// Runs the victim by itself, finds what it changed and flips the least bit of the first element of that. Elements of 16
// bits are assumed; of a wider one this is a low bit, or one in the middle.
void corrupt(const Task &t, size_t victim) {
    const mslemu_buffer *buffers = t.dispatch->buffers;
    std::vector<unsigned char> before[MSLEMU_BUFFERS];
    for (int b = 0; b < MSLEMU_BUFFERS; b++)
        if (auto *data = (unsigned char *)buffers[b].data)
            before[b].assign(data, data + buffers[b].size);
    runAlone(t, victim);
    unsigned char *target = nullptr; // in the buffer with the most changes: the others hold counters
    size_t most = 0;
    for (int b = 0; b < MSLEMU_BUFFERS; b++) {
        auto *data = (unsigned char *)buffers[b].data;
        size_t changes = 0, first = 0;
        for (size_t i = 0; i < before[b].size(); i++)
            if (data[i] != before[b][i] && !changes++)
                first = i;
        if (changes > most) {
            most = changes;
            target = data + (first & ~(size_t)1);
        }
    }
    if (!target)
        fail("the threadgroup to corrupt changed nothing: clear its output before it runs");
    *target ^= 1;
}

} // namespace
} // namespace mslemu

extern "C" void mslemu_run(const mslemu_dispatch *d) {
    using namespace mslemu;
    Task t = taskOf(d);
    if (!t.total)
        return;
    if (!d->corrupt) {
        pool().run(t);
        return;
    }
    size_t victim = d->victim.x + t.groups.x * (d->victim.y + (size_t)t.groups.y * d->victim.z);
    t.skip = victim < t.total ? victim : 0;
    victim = t.skip;
    pool().run(t);
    corrupt(t, victim);
}
